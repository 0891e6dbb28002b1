"""A sender with much to send lets the window grow for a moment: few large packets leave (tcp_tso_win_divisor)."""

import pytest

OFFLOAD = "offload"


@pytest.mark.wire(only=OFFLOAD)
def test_a_window_that_is_about_to_open_is_waited_for(wire):
    wire.established(rtt="1ms")
    wire.play("""
        +0     app    send 40000
        +0     out    .   1:10001/1000
        +1ms   in     .   1:1 ack 1001                # room for 2000 of 11000
        +0     in     .   1:1 ack 2001                # … for 4000 of 12000, a third
        +0     out    .   10001:14001/1000
    """)


@pytest.mark.wire(only=OFFLOAD)
def test_nobody_waits_for_an_ack_that_may_be_far(wire):
    """Nor in the first half of the oldest segment's round trip, nor after a pause of a millisecond."""
    wire.established(rtt="2ms")
    wire.play("""
        +0     app    send 40000
        +0     out    .   1:10001/1000
        +2ms   in     .   1:1 ack 1001
        +0     out    .   10001:12001/1000
    """)


@pytest.mark.wire(only=OFFLOAD)
def test_a_waiting_sender_is_not_forgotten(wire):
    """The ACK waited for is lost: the probe of RFC 8985 §7 takes the text along."""
    wire.established(rtt="1ms", sack=True)
    wire.play(
        """
        +0     app    send 40000
        +0     out    .   1:10001/1000
        +1ms   in     .   1:1 ack 1001
        +0..5ms out   .   10001:11001
    """,
        loose=True,
    )


@pytest.mark.wire(only=OFFLOAD, sysctl={"net.ipv4.tcp_tso_win_divisor": "0"})
def test_without_a_divisor_three_segments_are_enough(wire):
    wire.established(rtt="1ms")
    wire.play("""
        +0     app    send 40000
        +0     out    .   1:10001/1000
        +1ms   in     .   1:1 ack 1001
        +0     in     .   1:1 ack 3001
        +0     out    .   10001:16001/1000
    """)


@pytest.mark.wire(only=OFFLOAD)
def test_the_last_of_the_text_does_not_wait(wire):
    wire.established(rtt="1ms")
    wire.play("""
        +0     app    send 12000
        +0     out    .   1:10001/1000
        +1ms   in     .   1:1 ack 1001
        +0     out    .   10001:11001
        +0     out    P.  11001:12001
    """)
