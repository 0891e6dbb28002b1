"""Text in the SYN of a Multipath TCP connection (RFC 8684 Appendix B), between two stacks in virtual time."""

import errno
import os

import pytest

from kit.boxes import strips, swallows_keys, take_apart
from kit.link import Link
from kit.mesh import Mesh, addr
from kit.pair import PORT
from mptcp.options import MP_CAPABLE
from stack.tcp.options import TcpOptions
from stack.units import MSEC, SEC
from stack.wire.tcp import SYN

EARLY, LATER, REPLY = b"early " * 50, os.urandom(100_000), os.urandom(100_000)
pytestmark = [pytest.mark.rfc("8684", "B"), pytest.mark.parametrize("v6", [False, True])]


class Scene:
    """Two stacks that allow Fast Open; a listener; the text of each SYN that leaves `a`."""

    def __init__(self, v6, **common):
        links = [Link(delay=10 * MSEC, seed=1), Link(delay=10 * MSEC, seed=2)]
        self.mesh = Mesh(links, v6=v6, sysctl={"net.ipv4.tcp_fastopen": "3"}, **common)
        self.where = addr("b", 0, v6), PORT
        binding = self.mesh.b.tcp.bind(bytes(len(self.where[0])), PORT, reuseaddr=True)
        self.listener = self.mesh.host_b.listen(binding, 16, TcpOptions(fastopen=16))
        self.syns, self.joins = [], []
        self.mesh.taps.append(self._tap)

    def _tap(self, side, wire, packet, now):
        parts = take_apart(side, wire, packet)
        if side == "a" and parts.flags & SYN:
            (self.syns if parts.has(MP_CAPABLE) else self.joins).append(len(parts.text))

    def connect(self, data=EARLY, **options):
        mesh = self.mesh
        client = mesh.host_a.connect(self.where, mesh.clock.now, data=data, options=TcpOptions(**options))
        mesh.flush()
        return client

    def accepted(self):
        """The next connection of the listener."""
        found = []
        assert self.mesh.run(lambda: found.append(self.listener.accept()) or found[-1] is not None, 10 * SEC)
        return found[-1]

    def with_cookie(self):
        """A first connection, after which the client has a cookie."""
        client = self.connect()
        server = self.accepted()
        self.comes(server, EARLY)
        client.abort()
        self.mesh.flush()
        self.mesh.idle(SEC)  # the port is used again: no answer to the old connection may meet the new
        server.close()
        return self

    def comes(self, conn, data):
        """All of `data`, and nothing else, arrives at `conn`."""
        got = bytearray()

        def take():
            while conn.readable:
                views = conn.views(1 << 20)
                for view in views:
                    got.extend(view)
                conn.consume(sum(map(len, views)))
                self.mesh.flush()
            return len(got) >= len(data)

        assert self.mesh.run(take, 30 * SEC), (len(got), conn.state)
        assert bytes(got) == data

    def talk(self, client, server):
        """Both ways, then an orderly end."""
        client.send(LATER)
        server.send(REPLY)
        self.mesh.flush()
        self.comes(server, LATER)
        self.comes(client, REPLY)
        client.shutdown()
        server.shutdown()
        self.mesh.flush()
        assert self.mesh.run(lambda: client.is_over and server.is_over, 10 * SEC)
        self.mesh.check()


@pytest.mark.parametrize("checksum", [0, 1])
def test_the_text_of_a_syn_is_the_first_and_no_part_of_the_datas_numbers(v6, checksum):
    scene = Scene(v6, mptcp={"checksum_enabled": checksum}).with_cookie()
    client = scene.connect()
    server = scene.accepted()
    assert not server.established
    scene.comes(server, EARLY)
    assert scene.mesh.run(lambda: client.established and server.established, SEC)
    assert scene.syns == [0, len(EARLY)]
    assert client.tx.una == client.tx.nxt == client.tx.first
    assert server.rcv_nxt == server.rx.first == client.tx.first
    scene.talk(client, server)
    assert (client.fallback, server.fallback) == ("", "")
    assert client.extra_subflows == 1
    mibs = scene.mesh.host_a.mib, scene.mesh.host_b.mib
    assert [mib.MPTcpExtDataCsumErr + mib.MPTcpExtDSSNotMatching for mib in mibs] == [0, 0]
    assert scene.mesh.a.mib.TcpExtTCPFastOpenActive == 1


def test_without_a_cookie_the_text_is_the_first_of_the_data(v6):
    scene = Scene(v6)
    client = scene.connect()
    server = scene.accepted()
    scene.comes(server, EARLY)
    assert scene.syns == [0]
    assert client.first.early_out == server.first.early_in == 0
    scene.talk(client, server)
    assert not client.fallback
    assert scene.mesh.b.mib.TcpExtTCPFastOpenCookieReqd == 1


def test_what_the_server_does_not_take_goes_again_with_a_mapping(v6):
    scene = Scene(v6, mptcp={"checksum_enabled": 1}).with_cookie()
    scene.listener.options.fastopen = 0
    client = scene.connect()
    server = scene.accepted()
    scene.comes(server, EARLY)
    assert scene.syns == [0, len(EARLY)]
    assert client.first.early_out == 0
    scene.talk(client, server)
    assert (client.fallback, server.fallback) == ("", "")
    assert scene.mesh.a.mib.TcpExtTCPFastOpenActiveFail == 1


def test_more_text_than_a_syn_holds(v6):
    scene = Scene(v6).with_cookie()
    client = scene.connect(LATER)
    server = scene.accepted()
    scene.comes(server, LATER)
    assert 500 < scene.syns[-1] < 1460
    assert client.first.early_out == server.first.early_in == scene.syns[-1]
    scene.talk(client, server)
    assert not client.fallback


def test_fastopen_connect_waits_for_the_text(v6):
    scene = Scene(v6).with_cookie()
    client = scene.connect(b"", fastopen_connect=True)
    scene.mesh.idle(SEC)
    assert scene.syns == [0]
    client.send(EARLY)
    scene.mesh.flush()
    server = scene.accepted()
    scene.comes(server, EARLY)
    assert scene.syns == [0, len(EARLY)]
    scene.talk(client, server)
    assert client.extra_subflows == 1


def test_a_server_may_answer_and_close_before_the_handshake_is_over(v6):
    scene = Scene(v6).with_cookie()
    client = scene.connect()
    server = scene.accepted()
    server.consume(server.readable)
    server.send(REPLY)
    server.shutdown()
    server.close()
    assert not server.established
    scene.mesh.flush()
    scene.comes(client, REPLY)
    assert scene.mesh.run(lambda: client.peer_closed, SEC)
    client.close()
    scene.mesh.flush()
    assert scene.mesh.run(lambda: server.ended and client.ended, 10 * SEC)
    assert not server.error


def test_a_plain_server_takes_the_text_as_tcp(v6):
    scene = Scene(v6, mptcp_b={"enabled": 0}).with_cookie()
    client = scene.connect()
    server = scene.accepted()
    scene.comes(server, EARLY)
    assert scene.syns[-1] == len(EARLY)
    client.send(LATER)
    scene.mesh.flush()
    scene.comes(server, LATER)
    assert "SYN-ACK" in client.fallback


def test_a_box_that_takes_the_third_acks_option(v6):
    """The program of the server has the connection by then: it falls back, and loses nothing."""
    stripping = []
    box = strips(lambda parts: stripping and not parts.flags & SYN)
    scene = Scene(v6, box=box).with_cookie()
    stripping.append(True)
    client = scene.connect()
    server = scene.accepted()
    scene.comes(server, EARLY)
    client.send(LATER)
    server.send(REPLY)
    scene.mesh.flush()
    scene.comes(server, LATER)
    scene.comes(client, REPLY)
    assert "third ACK" in server.fallback
    assert client.fallback


def test_a_client_that_never_completes_the_handshake(v6):
    scene = Scene(v6).with_cookie()
    client = scene.connect()
    server = scene.accepted()
    scene.comes(server, EARLY)
    scene.mesh.up[0] = False
    assert scene.mesh.run(lambda: server.error, 400 * SEC)
    assert server.error == errno.ETIMEDOUT
    server.close()
    client.abort()
    scene.mesh.flush()
    assert not list(scene.mesh.host_b)
    assert not scene.mesh.host_b.tokens


def test_joins_do_not_wait_for_text(v6):
    scene = Scene(v6).with_cookie()
    client = scene.connect(b"", fastopen_connect=True)
    client.send(EARLY)
    scene.mesh.flush()
    server = scene.accepted()
    scene.comes(server, EARLY)
    server.send(b"yes")
    scene.mesh.flush()
    assert scene.mesh.run(lambda: client.extra_subflows == 1, 5 * SEC)
    assert (scene.syns, scene.joins) == ([0, len(EARLY)], [0])


def test_a_client_whose_syn_said_everything_ends_at_once(v6):
    scene = Scene(v6).with_cookie()
    client = scene.connect()
    assert scene.mesh.run(lambda: client.established, SEC)
    client.shutdown()  # before the third ACK has left
    scene.mesh.flush()
    server = scene.accepted()
    assert scene.mesh.run(lambda: server.peer_closed, 30 * MSEC)
    scene.comes(server, EARLY)
    server.send(REPLY)
    server.shutdown()
    scene.mesh.flush()
    scene.comes(client, REPLY)
    assert scene.mesh.run(lambda: client.is_over and server.is_over, SEC)


def test_a_client_whose_syn_said_everything_and_whose_key_is_lost(v6):
    """What Linux's client says too when its program shuts down before the SYN-ACK comes: DATA_FIN, and no key."""
    scene = Scene(v6)
    scene.with_cookie()
    scene.mesh.box = swallows_keys
    client = scene.connect()
    assert scene.mesh.run(lambda: client.established, SEC)
    client.shutdown()
    scene.mesh.flush()
    server = scene.accepted()
    scene.comes(server, EARLY)
    assert scene.mesh.run(lambda: server.peer_closed, SEC)
    server.send(REPLY)
    server.shutdown()
    scene.mesh.flush()
    scene.comes(client, REPLY)
    assert scene.mesh.run(lambda: client.is_over and server.is_over, SEC)
    assert (client.fallback, server.fallback) == ("", "")
    assert server.key_remote == b""
    assert not any(scene.joins)
    scene.mesh.check()


def test_a_client_that_leaves_out_its_key_and_says_data_fin_after_all(v6):
    """As Linux's does where it sent the SYN twice: DSS in the third ACK, DATA_FIN in the next, the key in none."""
    scene = Scene(v6)
    scene.with_cookie()

    def box(side, wire, packet):
        parts = take_apart(side, wire, packet)
        return [parts.strip().pack() if side == "a" and parts.has(MP_CAPABLE) and not parts.flags & SYN else packet]

    scene.mesh.box = box
    client = scene.connect()
    server = scene.accepted()
    assert scene.mesh.run(lambda: server.fallback, SEC)
    client.shutdown()
    scene.mesh.flush()
    scene.comes(server, EARLY)
    assert scene.mesh.run(lambda: server.peer_closed, SEC)
    server.send(REPLY)
    server.close()
    scene.mesh.flush()
    scene.comes(client, REPLY)
    assert scene.mesh.run(lambda: client.peer_closed, SEC)
    client.close()
    scene.mesh.flush()
    assert scene.mesh.run(lambda: client.ended, 5 * SEC)
    assert (client.error, server.error) == (0, 0)
    scene.mesh.check()
