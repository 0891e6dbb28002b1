"""Multipath TCP through boxes that strip, rewrite, split, coalesce, renumber: what comes of it, and no byte lost."""

import pytest

from kit.boxes import (
    AcksEarly,
    coalesces,
    is_syn,
    is_syn_ack,
    is_third_ack,
    renumbers,
    rewrites,
    splits,
    strips,
    strips_after,
    swallows_keys,
    swallows_syns,
)
from kit.link import Link
from kit.mesh import Mesh, addr
from kit.pair import PORT
from stack.units import MSEC, SEC
from stack.wire.tcp import SYN

pytestmark = pytest.mark.long

M = 1_000_000
NO_ANSWER, NO_OPTIONS, NO_ACKS, INFINITE = (
    "SYN-ACK had no usable",
    "first segments carried no",
    "any more",
    "infinite mapping",
)

# box, what the client's and the server's connection says about its fallback ("-": the server has plain TCP)
ON_ONE_PATH = {
    "strips everything": (strips(lambda _: True), NO_ANSWER, "-"),
    "strips SYNs": (strips(is_syn), NO_ANSWER, "-"),
    "strips SYN-ACKs": (strips(is_syn_ack), NO_ANSWER, "-"),
    "strips the third ACK": (strips(is_third_ack), NO_OPTIONS, "-"),
    "strips all but SYNs": (strips(lambda parts: not parts.flags & SYN), NO_OPTIONS, "-"),
    "strips what has text": (strips(lambda parts: parts.text), NO_OPTIONS, NO_OPTIONS),
    "swallows SYNs": (swallows_syns, NO_ANSWER, "-"),
}
HARMLESS = {
    "splits, options on both": lambda: splits(copy=True),
    "splits, options on the first": lambda: splits(copy=False),
    "coalesces": coalesces,
    "renumbers": renumbers,
}


def mesh_with(box, wires=2, **common):
    links = [Link(rate=50 * M, delay=10 * MSEC, queue=150_000, seed=number) for number in range(wires)]
    return Mesh(links, box=box, offload=False, **common)


def talk(mesh, up=600_000, down=300_000):
    """Both ways to the end; (client, server, whether every byte was right)."""
    client, server = mesh.connect()
    programs = mesh.programs(client, server, up, down)
    assert mesh.run(lambda: all(program.finished for program in programs), 60 * SEC), (client.error, server.error)
    right = [one.digest.digest() == two.expected() for one, two in zip(programs, reversed(programs), strict=True)]
    return client, server, all(right)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("wires", [1, 2])
@pytest.mark.parametrize("name", ON_ONE_PATH)
def test_without_options_at_the_start_it_is_plain_tcp(name, wires, v6):
    box, clients, servers = ON_ONE_PATH[name]
    mesh = mesh_with(box, wires, v6=v6)
    client, server, right = talk(mesh)
    assert right
    assert clients in client.fallback
    assert servers in getattr(server, "fallback", "-")
    assert not any(mesh.carried[1:])


def test_where_syns_vanish_the_next_connection_does_not_wait():
    mesh = mesh_with(swallows_syns)
    client, _ = mesh.connect()
    assert NO_ANSWER in client.fallback
    assert mesh.host_a.mib.MPTcpExtMPCapableSYNTXDrop == 1
    assert mesh.host_a.mib.MPTcpExtBlackhole == 1
    again = mesh.host_a.connect(client.remote, mesh.clock.now)
    mesh.flush()
    assert mesh.run(lambda: again.established, SEC)
    assert "vanished" in again.fallback
    assert mesh.host_a.mib.MPTcpExtMPCapableSYNTXDisabled == 1


@pytest.mark.parametrize(
    ("side", "clients", "servers"), [("", NO_ACKS, NO_ACKS), ("a", INFINITE, NO_ACKS), ("b", NO_ACKS, INFINITE)]
)
def test_options_that_get_lost_later_end_mptcp_not_the_connection(side, clients, servers):
    client, server, right = talk(mesh_with(strips_after(100, side), wires=1))
    assert right
    assert clients in client.fallback
    assert servers in server.fallback


def test_a_small_text_without_mapping_does_not_wait_for_more():
    stripping = []
    mesh = mesh_with(strips(lambda _: stripping), wires=1)
    client, server = mesh.connect()
    client.send(b"question")
    mesh.flush()
    assert mesh.run(lambda: server.readable == 8, SEC)
    server.send(b"answer")
    mesh.flush()
    assert mesh.run(lambda: client.readable == 6, SEC)
    stripping.append(True)
    client.send(b"another")
    mesh.flush()
    assert mesh.run(lambda: server.readable == 15, SEC)
    assert "without a mapping" in server.fallback


@pytest.mark.rfc("8684", "3.3.3")
@pytest.mark.parametrize("size", [0, 100_000])
def test_a_question_without_text_whose_key_is_lost_is_answered(size):
    mesh = mesh_with(swallows_keys, wires=1)
    where = addr("b", 0, False)
    listener = mesh.host_b.listen(mesh.b.tcp.bind(bytes(4), PORT), 16)
    client = mesh.host_a.connect((where, PORT), mesh.clock.now)
    mesh.flush()
    assert mesh.run(lambda: client.established, SEC)
    client.shutdown()
    mesh.flush()
    servers = []
    assert mesh.run(lambda: servers.append(listener.accept()) or servers[-1] is not None, SEC)
    server = servers[-1]
    assert mesh.run(lambda: server.peer_closed, SEC)
    server.send(bytes(size))
    server.close()
    mesh.flush()

    def take():
        got.append(client.readable)
        client.consume(client.readable)
        mesh.flush()
        return client.is_over

    got = []
    assert mesh.run(take, 2 * SEC)
    assert sum(got) == size
    assert client.fallback == ""
    assert mesh.run(lambda: not list(mesh.host_b), SEC)


def mapping_lost_once(before=b"question"):
    """A connection in use for a while, and then a text on its way whose mapping is taken."""
    stripping = []
    mesh = mesh_with(strips(lambda parts: stripping and parts.text), wires=1)
    client, server = mesh.connect()
    client.send(before)
    mesh.flush()
    assert mesh.run(lambda: server.readable == len(before), SEC)
    stripping.append(True)
    client.send(b"another")
    mesh.flush()
    assert mesh.run(lambda: server.subflows[0].held_size, SEC)
    stripping.clear()
    return mesh, client, server


@pytest.mark.rfc("8684", "3.7")
def test_who_falls_back_for_want_of_a_mapping_tells_its_peer_before_that_sends_again():
    mesh, client, server = mapping_lost_once()
    assert mesh.run(lambda: client.fallback, SEC)
    assert "without a mapping" in server.fallback
    assert "MP_FAIL" in client.fallback
    assert (client.tx.retransmitted, mesh.host_b.mib.MPTcpExtMPFailTx, mesh.host_a.mib.MPTcpExtMPFailRx) == (0, 1, 1)
    client.send(b", and more")
    mesh.flush()
    assert mesh.run(lambda: server.readable >= 25, SEC)
    assert b"".join(server.views(99)) == b"questionanother, and more"


def test_text_without_a_mapping_that_is_sent_again_counts_once(monkeypatch):
    monkeypatch.setattr("mptcp.receive.PATIENCE", 100 * SEC)
    mesh, client, server = mapping_lost_once()
    assert mesh.run(lambda: server.readable == 15, 5 * SEC)
    assert (client.fallback, server.fallback, client.tx.retransmitted) == ("", "", 1)
    client.send(b", and more")
    mesh.flush()
    assert mesh.run(lambda: server.readable >= 25, SEC)
    assert b"".join(server.views(99)) == b"questionanother, and more"


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("wires", [1, 2])
@pytest.mark.parametrize("name", HARMLESS)
def test_boxes_that_change_the_shape_alone_do_no_harm(name, wires, v6):
    mesh = mesh_with(HARMLESS[name](), wires, v6=v6)
    client, server, right = talk(mesh)
    assert right
    assert (client.fallback, server.fallback) == ("", "")
    assert all(mesh.carried)


def proxied(side, wires, **common):
    """Wire 0 leads through a proxy that acknowledges a side's text before it arrives; its queue has no end."""
    mesh = Mesh([Link(rate=50 * M, delay=10 * MSEC, seed=number) for number in range(wires)], offload=False, **common)
    mesh.box = AcksEarly(side, 0, mesh.inject)
    return mesh


@pytest.mark.rfc("8684", "3.3.2")
@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("stamps", ["0", "1"])
def test_a_proxy_that_acknowledges_early_on_the_only_path(v6, side, stamps):
    mesh = proxied(side, 1, v6=v6, sysctl={"net.ipv4.tcp_timestamps": stamps})
    client, server, right = talk(mesh)
    assert right
    assert mesh.box.acks
    assert NO_OPTIONS in (client if side == "a" else server).fallback
    assert client.fallback
    assert server.fallback
    assert (client.rx.bytes, server.rx.bytes) == (300_000, 600_000)


@pytest.mark.rfc("8684", "3.3.2")
@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("side", ["a", "b"])
def test_what_a_proxy_acknowledged_and_lost_goes_over_the_other_path(v6, side):
    mesh = proxied(side, 2, v6=v6)
    mesh.box.armed = False
    client, server = mesh.connect()
    programs = mesh.programs(client, server, 3_000_000, 3_000_000)
    assert mesh.run(lambda: client.extra_subflows and mesh.carried[1] > 500_000, 10 * SEC)
    mesh.box.armed = True
    assert mesh.run(lambda: mesh.box.acks > 200, 10 * SEC)
    mesh.up[0] = False  # with megabytes in the proxy's queue that both senders believe delivered
    assert mesh.run(lambda: all(program.finished for program in programs), 120 * SEC), (client.error, server.error)
    for one, two in zip(programs, reversed(programs), strict=True):
        assert one.digest.digest() == two.expected()
    assert (client.fallback, server.fallback) == ("", "")


@pytest.mark.parametrize("when", ["all", "all but SYNs", "text"])
def test_a_second_path_that_strips_is_given_up(when):
    spoiled = {
        "all": lambda parts: parts.wire == 1,
        "all but SYNs": lambda parts: parts.wire == 1 and not parts.flags & SYN,
        "text": lambda parts: parts.wire == 1 and parts.text,
    }
    mesh = mesh_with(strips(spoiled[when]))
    client, server, right = talk(mesh)
    assert right
    assert (client.fallback, server.fallback) == ("", "")
    assert mesh.carried[1] < mesh.carried[0] // 2
    if when == "text":
        assert mesh.host_a.mib.MPTcpExtMPRstRx + mesh.host_b.mib.MPTcpExtMPRstRx


@pytest.mark.parametrize("number", [1, 20])
def test_changed_text_on_the_only_path_is_noticed_and_mptcp_ends(number):
    mesh = mesh_with(rewrites(number), wires=1, mptcp={"checksum_enabled": 1})
    client, server, right = talk(mesh)
    assert not right, "plain TCP takes what a box made of the text"
    assert "checksum failed" in server.fallback
    assert client.fallback
    assert (mesh.host_b.mib.MPTcpExtDataCsumErr, mesh.host_b.mib.MPTcpExtMPFailTx) == (1, 1)
    assert mesh.host_b.mib.MPTcpExtDSSCorruptionFallback == 1
    assert mesh.host_a.mib.MPTcpExtMPFailRx == 1


def test_changed_text_on_one_of_two_paths_costs_that_path_and_no_byte():
    mesh = mesh_with(rewrites(60), mptcp={"checksum_enabled": 1})
    client, server, right = talk(mesh)
    assert right
    assert (client.fallback, server.fallback) == ("", "")
    assert mesh.host_b.mib.MPTcpExtDSSCorruptionReset == 1
    assert mesh.host_a.mib.MPTcpExtMPRstRx == 1
