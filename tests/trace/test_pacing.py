"""Pacing: SO_MAX_PACING_RATE and BBR spread what leaves; nobody else is held back."""

import pytest


@pytest.mark.wire(only="v4 v6 wrap")
def test_a_pacing_rate_spaces_the_packets(wire):
    wire.established(max_pacing_rate=200_000)  # two segments each 10 ms
    wire.play("""
        +0     app    send 6000
        +0     out    .   1:1001
        +0     check  pacing_rate == 200000
        +2500us out   .   1001:2001                   # half of what the first was late by is made up for
        +5ms   out    .   2001:3001
        +5ms   out    .   3001:4001
        +5ms   out    .   4001:5001
        +5ms   out    P.  5001:6001
    """)


@pytest.mark.wire(only="offload")
def test_super_segments_are_of_a_millisecond_but_two_segments_at_least(wire):
    wire.established(max_pacing_rate=200_000)
    wire.play("""
        +0     app    send 6000
        +0     out    .   1:2001/1000
        +5ms   out    .   2001:4001/1000
        +10ms  out    .   4001:5001
        +0     out    P.  5001:6001
    """)


@pytest.mark.wire(only="v4 v6 wrap")
def test_acks_and_probes_do_not_wait_for_the_pace(wire):
    wire.established(max_pacing_rate=20_000)
    wire.play(
        """
        +0     app    send 2000
        +0     out    .   1:1001
        +5ms   in     P.  1:101 ack 1
        +0     out    .   1001:1001 ack 101
    """,
        loose=True,
    )


def test_without_a_wish_nothing_is_paced(wire):
    wire.established()
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +0     check  pacing_rate > 1000000           # shown all the same
    """)


@pytest.mark.wire(only="v4 v6 wrap", sysctl={"net.ipv4.tcp_congestion_control": "bbr"})
def test_bbr_paces_its_first_window(wire):
    wire.established(sack=True)
    wire.play(
        """
        +0     app    send 10000
        +0     out    .   1:1001
        +100us..400us out .   1001:2001
        +100us..400us out .   2001:3001
        +0     check  pacing_rate == 2890000          # 2/ln 2 windows of ten a round trip of 10 ms
    """,
        loose=True,
    )


def test_the_rate_can_be_changed_and_lifted(wire):
    wire.established()
    wire.play("""
        +0     app    setopt max_pacing_rate 1000
        +0     app    setopt max_pacing_rate 0
        +0     app    send 10000
        +0     out    .   1:10001/1000
    """)
