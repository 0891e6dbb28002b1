"""Connections whose program has gone: how many, how long, and what ends them. RFC 9293 §3.6, RFC 1122 §4.2.2.13."""

import pytest


@pytest.mark.wire(sysctl={"net.ipv4.tcp_max_orphans": "1"})
def test_too_many_orphans_are_reset(wire):
    wire.play("""
        +0     app    listen
        +0     in     @1 S 0:0 <mss 1000>
        +0     out    @1 S. 0:0 ack 1
        +0     in     @1 . 1:1 ack 1
        +0     app    accept
        +0     app    close
        +0     out    @1 F. 1:1 ack 1
        +0     in     @2 S 0:0 <mss 1000>
        +0     out    @2 S. 0:0 ack 1
        +0     in     @2 . 1:1 ack 1
        +0     app    accept
        +0     app    close
        +0     out    @2 R. 1:1 ack 1
        +0     check  TcpExtTCPAbortOnMemory == 1 and conns == 1
        +0     in     @1 F. 1:1 ack 2                  # in TIME-WAIT it is no orphan any more
        +0     out    @1 . 2:2 ack 2
        +0     in     @3 S 0:0 <mss 1000>
        +0     out    @3 S. 0:0 ack 1
        +0     in     @3 . 1:1 ack 1
        +0     app    accept
        +0     app    close
        +0     out    @3 F. 1:1 ack 1
    """)


def test_linger2_below_zero_does_not_wait_for_the_peers_fin(wire):
    wire.established(linger2=-1)
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
        +0     check  conns == 0 and TcpExtTCPAbortOnData == 1
        +10ms  in     F.  1:1 ack 2
        +0     out    R   2:2
    """)


def test_linger2_below_zero_resets_a_half_closed_connection(wire):
    wire.established(linger2=-1)
    wire.play("""
        +0     app    shutdown
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
        +0     app    close
        +0     out    R.  2:2
        +0     check  conns == 0 and TcpExtTCPAbortOnLinger == 1
    """)


def test_linger2_is_how_long_the_peers_fin_is_awaited(wire):
    wire.established(linger2=5)
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
        +4.9s  check  conns == 1
        +0.2s  check  conns == 0
    """)


def test_no_longer_than_two_minutes(wire):
    wire.established(linger2=1000)
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
        +119s  check  conns == 1
        +2s    check  conns == 0
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_fin_timeout": "10"})
def test_fin_timeout(wire):
    wire.established()
    wire.play("""
        +0     app    shutdown
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
        +100s  check  state is FIN_WAIT_2              # half-closed is not orphaned
        +0     app    close
        +9.9s  check  conns == 1
        +0.2s  check  conns == 0
    """)
