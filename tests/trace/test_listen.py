"""Ports and listeners: who may bind, dual stack, full queues."""

import errno

import pytest

from kit.wire import PEER4, PEER6, STACK4, STACK6
from stack.errors import StackError
from stack.ip.addr import ANY4, ANY6


def refused(call, code):
    with pytest.raises(StackError) as caught:
        call()
    assert caught.value.errno == code


def test_a_port_is_bound_once(wire):
    tcp = wire.stack.tcp
    held = tcp.bind(STACK4, 80)
    refused(lambda: tcp.bind(STACK4, 80), errno.EADDRINUSE)
    refused(lambda: tcp.bind(ANY4, 80), errno.EADDRINUSE)
    refused(lambda: tcp.bind(ANY6, 80), errno.EADDRINUSE)  # dual stack: v4 as well
    tcp.bind(ANY6, 80, v6only=True).release()
    tcp.bind(STACK6, 80).release()
    held.release()
    tcp.bind(ANY4, 80)


def test_reuseaddr_shares_a_port_until_somebody_listens(wire):
    tcp = wire.stack.tcp
    first = tcp.bind(STACK4, 80, reuseaddr=True)
    second = tcp.bind(STACK4, 80, reuseaddr=True)
    tcp.listen(first, 5)
    refused(lambda: tcp.listen(second, 5), errno.EADDRINUSE)
    refused(lambda: tcp.bind(STACK4, 80, reuseaddr=True), errno.EADDRINUSE)


def test_reuseport_shares_a_listening_port(wire):
    tcp = wire.stack.tcp
    for _ in range(3):
        tcp.listen(tcp.bind(STACK4, 80, reuseport=True), 5)
    refused(lambda: tcp.bind(STACK4, 80), errno.EADDRINUSE)


def test_an_address_that_is_not_ours_cannot_be_bound(wire):
    refused(lambda: wire.stack.tcp.bind(PEER4, 80), errno.EADDRNOTAVAIL)
    refused(lambda: wire.stack.tcp.bind(PEER6, 80), errno.EADDRNOTAVAIL)


@pytest.mark.rfc("6056", "3.3")
def test_port_zero_means_any_free_one(wire):
    tcp = wire.stack.tcp
    ports = [tcp.bind(STACK4, 0).port for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(32768 <= port <= 60999 for port in ports)
    assert ports != sorted(ports)


@pytest.mark.rfc("6056", "3.3.4")
def test_a_port_is_not_chosen_again_at_once(wire):
    """A connection that was reset leaves its port free; the next to the same place takes a later one, as in Linux."""
    ports = []
    for _ in range(20):
        conn = wire.stack.tcp.connect((PEER4, 80), wire.clock.now)
        ports.append(conn.local[1])
        conn.abort()
    assert len(set(ports)) == 20


@pytest.mark.wire(sysctl={"net.ipv4.ip_local_port_range": "40000 40003"})
def test_connect_runs_out_of_ports(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +0     app    connect
        +0     out    S   0:0
        +0     app    connect
        +0     out    S   0:0
        +0     app    connect
        +0     out    S   0:0
        +0     app    connect -> EADDRNOTAVAIL
        +0     app    connect 2                    # to another port there is room
        +0     out    @2 S 0:0
    """)


def test_a_port_with_connections_can_be_listened_on_again_with_reuseaddr(wire):
    wire.established(role="server")
    wire.listener.close()
    tcp = wire.stack.tcp
    refused(lambda: tcp.bind(wire.stack_addr, 80), errno.EADDRINUSE)
    tcp.listen(tcp.bind(wire.stack_addr, 80, reuseaddr=True), 5)


def test_a_dual_stack_listener_serves_both_families(wire):
    tcp = wire.stack.tcp
    wire.listener = tcp.listen(tcp.bind(ANY6, 80), 5)
    wire.play("""
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +0     app    accept
        +0     check  state is ESTABLISHED
    """)
    assert wire.conn.remote == (wire.peer_addr, wire.peer(1).port)
    assert wire.conn.local == (wire.stack_addr, 80)


def test_a_v6only_listener_serves_one(wire):
    tcp = wire.stack.tcp
    wire.listener = tcp.listen(tcp.bind(ANY6, 80, v6only=True), 5)
    wire.play(f"""
        +0     in     S   0:0 <mss 1000>
        +0     out    {"S." if wire.v6 else "R."} 0:0 ack 1
    """)


def test_the_more_specific_listener_gets_the_connection(wire):
    tcp = wire.stack.tcp
    general = tcp.listen(tcp.bind(ANY6, 80, reuseport=True), 5)
    special = tcp.listen(tcp.bind(wire.stack_addr, 80, reuseport=True), 5)
    wire.play("""
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
    """)
    assert (general.queued, special.queued) == (0, 1)


def test_a_handshake_that_completes_into_a_full_queue_waits(wire):
    wire.play("""
        +0     app    listen 1
        +0     in     @1 S 0:0 <mss 1000>
        +0     out    @1 S. 0:0 ack 1
        +0     in     @2 S 0:0 <mss 1000>
        +0     out    @2 S. 0:0 ack 1
        +0     in     @1 . 1:1 ack 1
        +0     in     @2 . 1:1 ack 1
        +0     check  queued == 2
        +0     app    accept
        +0     in     @3 S 0:0 <mss 1000>
        +0     out    @3 S. 0:0 ack 1
        +0     in     @4 S 0:0 <mss 1000>
        +0     out    @4 S. 0:0 ack 1
        +0     in     @3 . 1:1 ack 1
        +0     in     @4 . 1:1 ack 1
        +100ms check  queued == 2 and TcpExtListenOverflows == 1 and TcpExtListenDrops == 1
        +900ms out    @4 S. 0:0 ack 1                # our SYN-ACK again asks for another try
        +0     app    accept
        +0     in     @4 . 1:1 ack 1
        +0     check  queued == 2
    """)


def test_children_inherit_the_options_of_their_listener(wire):
    wire.established(role="server", nodelay=True, keepalive=True, keepidle=10)
    wire.play("""
        +0     check  options.nodelay and options.keepidle == 10
        +0     app    send 10
        +0     out    P.  1:11
        +0     app    send 10
        +0     out    P.  11:21
        +1ms   in     .   1:1 ack 21
        +10s   out    .   20:20
    """)


def test_ids_are_unique(wire):
    wire.play("""
        +0     app    connect 1
        +0     out    @1 S 0:0
        +0     app    connect 2
        +0     out    @2 S 0:0
    """)
    ids = [conn.id for conn in wire.stack.tcp.conns()]
    assert len(set(ids)) == 2


def test_a_syn_flood_costs_no_more_than_the_backlog(wire):
    wire.play("+0 app listen 4096")
    for number in range(1, 200):
        wire.play(f"+0 in @{number} S 0:0 <mss 1000>", loose=True)
    wire.play("+70s check conns == 0", loose=True)


def test_a_reuseport_group_shares_the_flows_and_each_flow_stays_with_one(wire):
    tcp = wire.stack.tcp
    group = [tcp.listen(tcp.bind(wire.stack_addr, 80, reuseport=True), 64) for _ in range(4)]
    for number in range(1, 81):
        wire.play(f"+0 in @{number} S 0:0 <mss 1000>", loose=True)
        wire.play(f"+0 in @{number} . 1:1 ack 1", loose=True)
    shares = [listener.queued for listener in group]
    assert sum(shares) == 80
    assert all(10 <= share <= 30 for share in shares)
    group[0].close()
    wire.play("+0 in @100 S 0:0 <mss 1000>", loose=True)
    assert sum(len(listener.half_open) for listener in group[1:]) == 1


def test_a_group_is_of_one_address(wire):
    """The specific address wins over the general one, whole groups of them."""
    tcp = wire.stack.tcp
    general = [tcp.listen(tcp.bind(ANY6, 80, reuseport=True), 64) for _ in range(2)]
    special = [tcp.listen(tcp.bind(wire.stack_addr, 80, reuseport=True), 64) for _ in range(2)]
    for number in range(1, 31):
        wire.play(f"+0 in @{number} S 0:0 <mss 1000>", loose=True)
    assert sum(len(each.half_open) for each in general) == 0
    assert sum(len(each.half_open) for each in special) == 30
    assert all(each.half_open for each in special)
