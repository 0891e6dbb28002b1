"""Multipath TCP behind middleboxes (kit/boxes.py): what becomes of the connection, what is counted, no byte lost."""

import pytest

from kit import boxes
from kit.link import Link
from kit.mesh import Mesh
from stack.tcp.conn import TcpConn
from stack.units import MSEC

pytestmark = pytest.mark.long

M = 1_000_000


def mesh(box, **common):
    links = [Link(rate=20 * M, delay=delay * MSEC, queue=150_000, seed=delay) for delay in (5, 8)]
    return Mesh(links, box=box, **common)


def run(box, size=200_000, back=150_000, **common):
    net = mesh(box, **common)
    result = net.transfer(size, back, limit=100_000 * MSEC)
    assert result.intact, (
        [program.received for program in result.programs],
        getattr(result.client, "why", ""),
        getattr(result.server, "why", ""),
    )
    return net, result


STRIPS = {
    "all": lambda _: True,
    "SYN": boxes.is_syn,
    "SYN-ACK": boxes.is_syn_ack,
    "third ACK": boxes.is_third_ack,
    "text": lambda parts: parts.text,
    "text up": lambda parts: parts.text and parts.side == "a",
    "text down": lambda parts: parts.text and parts.side == "b",
}


@pytest.mark.rfc("8684", "3.7")
@pytest.mark.parametrize("name", STRIPS)
@pytest.mark.parametrize("checksums", [0, 1])
@pytest.mark.parametrize("shape", [(200_000, 150_000), (200_000, 0), (0, 200_000), (10, 10)])
def test_without_options_it_is_plain_tcp_whoever_speaks(name, checksums, shape):
    _net, result = run(boxes.strips(STRIPS[name]), *shape, mptcp={"checksum_enabled": checksums})
    if name not in ("text up", "text down", "text"):
        assert result.client.fallback, result.client.why
        assert isinstance(result.server, TcpConn) or result.server.fallback


@pytest.mark.rfc("8684", "3.6")
@pytest.mark.parametrize("side", ["a", "b", ""])
@pytest.mark.parametrize("count", [200, 333, 500])
def test_options_that_vanish_later_on_one_path_end_that_path_only(side, count):
    late = boxes.strips_after(count, side)
    _net, result = run(lambda who, wire, packet: [packet] if wire else late(who, wire, packet), M, M)
    assert not result.client.fallback


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("checksums", [0, 1])
@pytest.mark.parametrize("make", [boxes.repeats_options, boxes.translates])
def test_repeated_options_and_nat_change_nothing(make, checksums, v6):
    net, result = run(make(), M // 2, M // 2, mptcp={"checksum_enabled": checksums}, v6=v6)
    assert not result.client.fallback
    assert all(net.carried)
    for host in (net.host_a, net.host_b):
        mib = host.mib
        assert (mib.MPTcpExtDataCsumErr, mib.MPTcpExtDSSNotMatching, mib.MPTcpExtDSSNoMatchTCP) == (0, 0, 0)


def text(size):
    """Zeros: a box finds nothing to change in them but what a test puts there."""
    return bytes(size)


def one_way(net, first, *, both=False):
    """The client sends `first`, the server reads until the end; what it read, and both ends."""
    client, server = net.connect()
    got = bytearray()

    def take():
        if server.readable:
            got.extend(b"".join(map(bytes, server.views(1 << 30))))
            server.consume(server.readable)
        return server.peer_closed and not server.readable

    client.send(b"warm")
    net.flush()
    assert net.run(lambda: take() or len(got) == 4)
    server.send(b"warm")
    net.flush()
    assert net.run(lambda: client.readable == 4)
    if both:
        assert net.run(lambda: len(server.subflows) == 2 and server.subflows[1].joined)
    for at in range(0, len(first), 10_000):
        client.send(first[at : at + 10_000])
    client.shutdown()
    net.flush()
    assert net.run(take, 100_000 * MSEC), (len(got), client.why, server.why)
    assert got[:4] == b"warm"
    return bytes(got[4:]), client, server


@pytest.mark.rfc("8684", "3.7")
def test_text_changed_on_the_only_path_ends_checksums_and_mptcp():
    net = mesh(boxes.changes_word(b"PORT 1", b"PORT 2"), mptcp={"checksum_enabled": 1, "mptcp_auto_endpoints": 0})
    body = text(50_000) + b"PORT 1" + text(1_000_000)
    got, client, server = one_way(net, body)
    assert got == body.replace(b"PORT 1", b"PORT 2")  # as plain TCP would have brought it
    assert "checksum" in server.fallback
    assert "checksum" in client.fallback
    a, b = net.host_a.mib, net.host_b.mib
    assert (b.MPTcpExtDataCsumErr, b.MPTcpExtDSSCorruptionFallback, b.MPTcpExtDSSCorruptionReset) == (1, 1, 0)
    assert b.MPTcpExtMPFailTx == a.MPTcpExtMPFailRx == 1
    assert a.MPTcpExtInfiniteMapTx == 1


@pytest.mark.rfc("8684", "3.7")
@pytest.mark.parametrize("seed", range(6))
def test_text_changed_on_one_of_two_paths_ends_that_path(seed):
    net = mesh(boxes.changes_word(b"PORT 1", b"PORT 2", 0), mptcp={"checksum_enabled": 1})
    body = text(50_000 + seed * 7919) + b"PORT 1" + text(150_000)
    got, client, server = one_way(net, body, both=True)
    assert got == body
    assert (client.fallback, server.fallback) == ("", "")
    if net.host_b.mib.MPTcpExtDataCsumErr:
        assert net.host_b.mib.MPTcpExtDSSCorruptionReset >= 1
        assert net.host_a.mib.MPTcpExtMPRstRx >= 1


def test_a_flow_that_a_box_forgot_comes_back_by_another_way():
    kill = boxes.Forgets(0)
    net = mesh(kill)
    client, server = net.connect()
    programs = net.programs(client, server, 2 * M, M)
    assert net.run(lambda: programs[1].received > M // 2)
    kill.armed = True
    assert net.run(lambda: kill.resets > 0)
    assert net.run(lambda: all(program.finished for program in programs), 100_000 * MSEC), (client.why, server.why)
    assert not client.fallback
