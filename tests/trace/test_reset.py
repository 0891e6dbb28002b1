"""Resets and forgeries: RST in every state, RFC 5961's challenge ACKs, blind data."""

import pytest

OPENINGS = {
    "ESTABLISHED": "",
    "FIN_WAIT_1": """
        +0     app    shutdown
        +0     out    F.  1:1
    """,
    "FIN_WAIT_2": """
        +0     app    shutdown
        +0     out    F.  1:1
        +10ms  in     .   1:1 ack 2
    """,
    "CLOSE_WAIT": """
        +0     in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
    """,
    "CLOSING": """
        +0     app    shutdown
        +0     out    F.  1:1
        +10ms  in     F.  1:1 ack 1
        +0     out    .   2:2 ack 2
    """,
    "LAST_ACK": """
        +0     in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
        +0     app    shutdown
        +0     out    F.  1:1
    """,
}
AFTER_FIN = ("CLOSE_WAIT", "CLOSING", "LAST_ACK")


@pytest.mark.rfc("9293", "3.10.7.4")
@pytest.mark.parametrize("state", OPENINGS)
def test_an_exact_reset_kills(wire, state):
    wire.established()
    nxt = 2 if state in AFTER_FIN else 1
    wire.play(
        OPENINGS[state]
        + f"""
        +0     check  state is {state}
        +1ms   in     R   {nxt}:{nxt}
        +0     quiet
        +0     check  state is CLOSED and conns == 0
        +0     check  error is {"EPIPE" if state == "CLOSE_WAIT" else "ECONNRESET"} and FAILED in events
        +10s   quiet
    """
    )


@pytest.mark.rfc("5961", "3.2")
@pytest.mark.parametrize("state", OPENINGS)
def test_a_reset_elsewhere_in_the_window_is_challenged(wire, state):
    wire.established()
    nxt = 2 if state in AFTER_FIN else 1
    wire.play(OPENINGS[state] + f"+0 check state is {state}\n+1s check state is {state}", loose=True)
    wire.sent.clear()
    wire.play(
        f"""
        +0     in     R   500:500                # inside the window, wrong place
        +0     out    .   ack {nxt}
        +0     check  state is {state} and TcpExtTCPChallengeACK == 1
        +5ms   in     R   {nxt}:{nxt}
        +0     check  state is CLOSED
    """
    )


@pytest.mark.rfc("5961", "3.2")
@pytest.mark.parametrize("seq", [0, 100_000, 2_000_000_000])
def test_a_reset_outside_the_window_is_ignored(wire, seq):
    wire.established()
    wire.play(f"""
        +0     in     R   {seq}:{seq}
        +0     quiet
        +0     check  state is ESTABLISHED and TcpExtTCPChallengeACK == 0
    """)


@pytest.mark.rfc("5961", "4.2")
@pytest.mark.parametrize("seq", [0, 1, 500, 100_000])
def test_a_syn_is_challenged_wherever_it_lies(wire, seq):
    wire.established()
    wire.play(f"""
        +1s    in     S   {seq}:{seq} <mss 1000>
        +0     out    .   1:1 ack 1
        +0     check  state is ESTABLISHED
    """)


@pytest.mark.rfc("5961", "5.2")
def test_text_whose_ack_is_absurd_is_not_taken(wire):
    wire.established()
    wire.play(
        """
        +1s    in     P.  1:101 ack 500              # acknowledges what was never sent
        +0     check  readable == 0
        +1s    in     P.  1:101 ack 4294800000       # older than any window
        +0     check  readable == 0 and state is ESTABLISHED
    """,
        loose=True,
    )
    assert wire.sent  # each owes an ACK


@pytest.mark.rfc("9293", "3.10.7.4")
def test_an_ack_of_what_was_never_sent_is_answered_and_ignored(wire):
    wire.established()
    wire.play("""
        +1s    in     .   1:1 ack 500
        +0     out    .   1:1 ack 1
        +0     check  state is ESTABLISHED
    """)


@pytest.mark.rfc("5961", "7")
def test_challenges_are_limited_per_connection(wire):
    wire.established()
    wire.play("""
        +1s    in     R   500:500
        +0     out    .   1:1 ack 1
        +1ms   in     R   600:600
        +0     quiet
        +500ms in     R   700:700
        +0     out    .   1:1 ack 1
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_challenge_ack_limit": "2", "net.ipv4.tcp_invalid_ratelimit": "0"})
@pytest.mark.rfc("5961", "7")
def test_challenges_are_limited_per_stack(wire):
    wire.established()
    wire.play(
        """
        +1s    in     R   500:500
        +1ms   in     R   501:501
        +1ms   in     R   502:502
        +1ms   in     R   503:503
        +1ms   quiet
    """,
        loose=True,
    )
    assert len(wire.sent) <= 4  # the budget may be randomised by half
    assert len(wire.sent) >= 1


def test_what_arrived_before_a_reset_may_still_be_read(wire):
    wire.established()
    wire.play("""
        +0     in     P.  1:101
        +0..40ms out  .   1:1 ack 101
        +1ms   in     R   101:101
        +0     check  state is CLOSED and error is ECONNRESET
        +0     app    recv 100
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_reset_after_a_hole_must_match_the_hole_or_the_last_block(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1001:2001
        +0     out    .   1:1 ack 1
        +1s    in     R   2001:2001
        +0     check  state is CLOSED
    """)
