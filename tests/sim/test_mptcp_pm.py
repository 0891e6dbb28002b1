"""Path management between two stacks, in virtual time: addresses told, subflows opened, lost, removed and back."""

import errno

import pytest

from kit.link import Link
from kit.mesh import Mesh, addr
from mptcp.pm import BACKUP, FULLMESH, SIGNAL, SUBFLOW
from stack.units import MSEC, SEC

K = 1024


def mesh(count=2, **words):
    return Mesh([Link(rate=50_000_000, delay=10 * MSEC) for _ in range(count)], **words)


def connected(net):
    """Client and server, each of which knows that the other speaks MPTCP."""
    client, server = net.connect()
    for one, other in ((client, server), (server, client)):
        one.send(b"!")
        net.flush()
        assert net.run(lambda other=other: other.readable == 1)
        other.consume(1)
    net.idle(SEC)
    return client, server


def ways(meta):
    """Wire of the local and of the remote address of each complete subflow."""
    return sorted((_wire(each.conn.local[0]), _wire(each.conn.remote[0])) for each in meta.subflows if each.joined)


def _wire(where):
    return where[3] if len(where) == 16 else where[1] - 64


def carries(net, client, server, size=200 * K):
    """Text gets through, both ways."""
    for one, other in ((client, server), (server, client)):
        got, sent = 0, 0

        def more(one=one, other=other):
            nonlocal got, sent
            if sent < size and one.send_space > 0:
                one.send(bytes(8 * K))
                sent += 8 * K
            got += other.readable
            other.consume(other.readable)
            net.flush()
            return got >= size

        assert net.run(more), (client.why, server.why)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.rfc("8684", "3.4.1")
def test_a_signalled_address_is_joined_and_echoed(v6):
    net = mesh(v6=v6, mptcp={"mptcp_auto_endpoints": 0})
    net.host_b.pm.add(addr("b", 1, v6), 0, flags=SIGNAL)
    client, server = connected(net)
    assert ways(client) == ways(server) == [(0, 0), (1, 1)]
    a, b = net.host_a.mib, net.host_b.mib
    assert (a.MPTcpExtAddAddr, a.MPTcpExtEchoAddTx) == (1, 1)
    assert (b.MPTcpExtAddAddrTx, b.MPTcpExtEchoAdd) == (1, 1)
    assert a.MPTcpExtAddAddrDrop == 0
    carries(net, client, server)


@pytest.mark.rfc("8684", "3.4.1")
def test_a_signalled_port_is_listened_at_and_joined():
    net = mesh(mptcp={"mptcp_auto_endpoints": 0})
    net.host_b.pm.add(addr("b", 1), 0, port=8080, flags=SIGNAL)
    client, _server = connected(net)
    assert client.subflows[1].conn.remote == (addr("b", 1), 8080)
    assert client.subflows[1].joined
    assert net.host_a.mib.MPTcpExtPortAdd == 1
    stranger = net.host_a.connect((addr("b", 1), 8080), net.clock.now)
    net.flush()
    assert net.run(lambda: stranger.error == errno.ECONNREFUSED)
    assert net.host_b.mib.MPTcpExtMPCapableEndpAttempt == 1


@pytest.mark.rfc("8684", "3.2")
def test_a_join_that_overtakes_the_first_dss_is_taken():
    early, held = [], []

    def slow(name, wire, packet):
        """Of the client's packets of the first path only SYN and third ACK pass, until its join is through."""
        if name != "a" or wire or net.carried[1] > 100:
            return (packet,)
        (early if len(early) < 2 else held).append(packet)
        return () if held else (packet,)

    net = mesh(box=slow)
    client, server = net.connect()
    server.send(b"!")
    net.flush()
    net.idle(3 * SEC)
    assert held
    assert ways(client) == [(0, 0), (1, 0)]
    assert net.host_b.mib.MPTcpExtMPJoinNoTokenFound == 0


def test_many_announcements_go_at_once():
    net = mesh(4, mptcp={"mptcp_auto_endpoints": 0})
    for wire in (1, 2, 3):
        net.host_b.pm.add(addr("b", wire), 0, flags=SIGNAL)
    began = net.clock.now
    client, _server = connected(net)
    assert ways(client) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert net.clock.now - began < 2 * SEC


def test_a_lost_announcement_is_repeated():
    lost = []

    def lossy(name, wire, packet):
        if name == "b" and len(lost) < 2 and b"\x1e\x10\x30" in packet:  # ADD_ADDR with HMAC
            lost.append(packet)
            return ()
        return (packet,)

    net = mesh(mptcp={"mptcp_auto_endpoints": 0}, box=lossy)
    net.host_b.pm.add(addr("b", 1), 0, flags=SIGNAL)
    client, _server = connected(net)
    net.idle(3 * SEC)
    assert len(lost) == 2
    assert ways(client) == [(0, 0), (1, 1)]
    assert net.host_b.mib.MPTcpExtAddAddrTx == 3


def test_without_endpoints_the_client_uses_all_it_has():
    net = mesh(3)
    client, server = connected(net)
    assert ways(client) == [(0, 0), (1, 0), (2, 0)]
    assert ways(server) == [(0, 0), (0, 1), (0, 2)]


def test_fullmesh_joins_everything_with_everything():
    net = mesh(2)
    net.host_a.pm.add(addr("a", 0), 0, flags=SUBFLOW | FULLMESH)
    net.host_a.pm.add(addr("a", 1), 0, flags=SUBFLOW | FULLMESH)
    net.host_b.pm.add(addr("b", 1), 0, flags=SIGNAL)
    client, server = connected(net)
    assert ways(client) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    carries(net, client, server)


@pytest.mark.rfc("8684", "3.4.2")
def test_a_removed_endpoint_takes_its_subflow_along_on_both_sides():
    net = mesh()
    endpoint = net.host_a.pm.add(addr("a", 1), 0, flags=SUBFLOW)
    client, server = connected(net)
    assert ways(client) == [(0, 0), (1, 0)]
    net.host_a.pm.delete(endpoint.id, net.clock.now)
    net.flush()
    net.idle(SEC)
    assert ways(client) == ways(server) == [(0, 0)]
    assert net.host_b.mib.MPTcpExtRmAddr == 1
    assert net.host_a.mib.MPTcpExtRmAddrTx == 1
    carries(net, client, server)
    net.host_a.pm.add(addr("a", 1), net.clock.now, flags=SUBFLOW)
    net.flush()
    net.idle(SEC)
    assert ways(client) == [(0, 0), (1, 0)]


@pytest.mark.rfc("8684", "3.3.8")
def test_a_backup_endpoint_says_so_when_it_joins_and_when_it_changes():
    net = mesh()
    endpoint = net.host_a.pm.add(addr("a", 1), 0, flags=SUBFLOW | BACKUP)
    client, server = connected(net)
    assert [each.peer_bkup for each in server.subflows] == [False, True]
    assert net.host_b.mib.MPTcpExtMPJoinSynBackupRx == 1
    net.host_a.pm.change(endpoint, net.clock.now, backup=False)
    net.flush()
    net.idle(SEC)
    assert [each.peer_bkup for each in server.subflows] == [False, False]
    assert not client.subflows[1].backup


@pytest.mark.rfc("8684", "3.1")
def test_a_server_behind_a_balancer_is_joined_only_where_it_says():
    net = mesh(mptcp_b={"allow_join_initial_addr_port": 0})
    net.host_b.pm.add(addr("b", 1), 0, flags=SIGNAL)
    client, server = connected(net)
    assert ways(client) == [(0, 0), (0, 1), (1, 1)] or ways(client) == [(0, 0), (1, 1)]
    carries(net, client, server)


def test_a_reset_subflow_comes_back():
    net = mesh()
    client, server = connected(net)
    assert ways(client) == [(0, 0), (1, 0)]
    for wait in (1, 2, 4):
        client.subflows[1].conn.abort()
        net.flush()
        net.idle(200 * MSEC)
        assert ways(client) == [(0, 0)]
        net.idle(wait * SEC)
        assert ways(client) == ways(server)[::-1] or len(ways(client)) == 2
    carries(net, client, server)


def test_the_first_subflow_comes_back_as_a_join():
    net = mesh()
    client, server = connected(net)
    client.subflows[0].conn.abort()
    net.flush()
    net.idle(3 * SEC)
    assert ways(client) == [(0, 0), (1, 0)]
    assert not any(each.initial for each in client.subflows)
    carries(net, client, server)


def test_without_any_path_it_comes_back_when_there_is_one():
    net = mesh()
    client, server = connected(net)
    for each in list(client.subflows):
        each.conn.abort()
    net.up = [False, False]
    net.flush()
    net.idle(60 * SEC)
    assert ways(client) == []
    net.up = [True, True]
    for name in ("tun0", "tun1"):
        net.host_a.pm.on_link_up(net.a.links[name], net.clock.now)
    net.flush()
    net.idle(3 * SEC)
    carries(net, client, server)


def test_an_address_that_goes_and_returns():
    net = mesh()
    client, server = connected(net)
    link = net.a.links["tun1"]
    net.a.remove_addr(link, addr("a", 1))
    net.host_a.pm.on_addr_removed(link, addr("a", 1), net.clock.now)
    net.flush()
    net.idle(SEC)
    assert ways(client) == ways(server) == [(0, 0)]
    net.a.add_addr(link, addr("a", 1), 24)
    net.host_a.pm.on_addr_added(link, addr("a", 1), net.clock.now)
    net.flush()
    net.idle(SEC)
    assert ways(client) == [(0, 0), (1, 0)]
    carries(net, client, server)


def test_ndiffports_has_two_subflows_over_one_wire():
    net = mesh(1, mptcp={"path_manager": "ndiffports"})
    client, server = connected(net)
    assert ways(client) == [(0, 0), (0, 0)]
    carries(net, client, server)


def test_both_sides_are_within_the_limits_of_the_smaller():
    net = mesh(4)
    net.host_b.pm.set_limits(0, subflows=1)
    client, server = connected(net)
    net.idle(SEC)
    assert len(ways(server)) == 2
    carries(net, client, server)
