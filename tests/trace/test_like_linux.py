"""What the differential test found (tests/live/differential.py): answers in which our stack once differed from Linux.

RFC 9293 leaves most of these open. Linux's choices are those that peers have met for decades.
"""

import pytest


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_segment_without_ack_is_dropped_without_a_word(wire):
    wire.established()
    wire.play("""
        +0     in     F   501:502
        +0     in     P   1:101
        +50ms  quiet
        +0     check  state is ESTABLISHED and readable == 0
    """)


@pytest.mark.rfc("5961", "5.2")
def test_an_ack_of_what_was_never_sent_is_not_old_but_wrong(wire):
    """Nothing is older than the ISS, however large the window: the text that comes with it is not taken."""
    wire.established(role="server")
    wire.play("""
        +0     in     P.  1:101 ack -40000
        +0     out    .   1:1 ack 1
        +0     check  readable == 0
    """)


@pytest.mark.rfc("7323", "4.3")
def test_a_wrong_ack_brings_no_timestamp(wire):
    wire.established(ts=True)
    wire.play("""
        +0     in     .   1:1 ack 1 <nop,nop,TS val 2000000 ecr ?>
        +1ms   in     .   1:2 ack 1000 <nop,nop,TS val 3000000 ecr ?>
        +0     out    .   1:1 ack 1 <TS val ? ecr 2000000>
    """)


@pytest.mark.rfc("7323", "5.3")
def test_a_syn_with_an_old_timestamp_is_challenged(wire):
    wire.established(ts=True)
    wire.play("""
        +0     in     S   1:1 <nop,nop,TS val 5 ecr 0>
        +0     out    .   1:1 ack 1
    """)


@pytest.mark.rfc("2018", "3")
def test_a_fin_out_of_order_is_sacked(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     F.  101:101 ack 1
        +0     out    .   1:1 ack 1 <sack 101:102>
        +0     in     P.  51:101 ack 1
        +0     out    .   1:1 ack 1 <sack 51:102>
        +0     in     F.  101:101 ack 1
        +0     out    .   1:1 ack 1 <sack 101:102 51:102>
        +0     in     P.  1:51 ack 1
        +0     out    .   1:1 ack 102
        +0     check  state is CLOSE_WAIT
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_window_without_news_in_seq_and_ack_may_only_grow(wire):
    wire.established(wnd=5000)
    wire.play("""
        +0     in     .   1:1 ack 1 win 6000
        +0     in     .   1:1 ack 1 win 1000
        +0     app    send 6000
        +0     out    .   1:6001/1000
    """)


def test_an_old_ack_brings_no_window(wire):
    wire.established(wnd=5000)
    wire.play("""
        +0     app    send 1000
        +0     out    .   1:1001
        +10ms  in     .   1:1 ack 1001 win 5000
        +0     in     .   2:2 ack 501 win 100
        +0     app    send 1000
        +0     out    .   1001:2001
    """)


@pytest.mark.rfc("9293", "3.7.1")
def test_no_segment_is_larger_than_half_the_window(wire):
    wire.established(mss=1400, wnd=1000)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:501
        +0     out    .   501:1001
    """)


@pytest.mark.rfc("9293", "3.8.6.2.1")
def test_no_silly_segment_into_a_silly_window(wire):
    wire.established(wnd=0)
    wire.play("""
        +0     in     .   1:1 ack 1 win 1
        +0     app    send 100
        +0     quiet
        +200ms..260ms out . 1:2                 # what the probe timer lets through
    """)


@pytest.mark.rfc("9293", "3.8.6.1")
def test_a_fin_waits_for_window_and_is_probed_for(wire):
    wire.established(wnd=0)
    wire.play("""
        +0     app    shutdown
        +0     check  state is FIN_WAIT_1
        +200ms..260ms out . 0:0 ack 1           # a zero-window probe
        +10ms  in     .   1:1 ack 1 win 1000
        +0     out    F.  1:1 ack 1
    """)


def test_an_ack_lies_in_the_window_even_if_that_shrank(wire):
    wire.established(wnd=5000)
    wire.play("""
        +0     app    send 1000
        +0     out    .   1:1001
        +0     in     .   2:3 ack 406 win 0
        +0     out    .   406:406 ack 1
    """)


def test_text_says_what_a_duplicate_ack_would(wire):
    wire.established(wnd=0)
    wire.play("""
        +0     app    send 100
        +0     in     .   101:201 ack 1 win 5000
        +0     out    .   1:101 ack 1
        +30ms  quiet
    """)


def test_a_fin_beyond_a_hole_resets_when_nobody_reads(wire):
    wire.established()
    wire.play("""
        +0     app    shutdown rdwr
        +0     out    F.  1:1 ack 1
        +0     in     F.  202:202 ack 2
        +0     out    R   2:2
        +0     check  state is CLOSED and error is ECONNRESET
    """)


def test_no_room_is_kept_for_sack_that_was_not_agreed_on(wire):
    wire.established(ts=True)
    wire.play("""
        +0     in     P.  538:638 ack 1
        +0     out    .   1:1 ack 1
        +0     app    send 988
        +0     out    .   1:989
    """)


@pytest.mark.rfc("2883", "4")
def test_text_that_fills_a_hole_and_more_is_reported_twice(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   101:1101 ack 1
        +0     out    .   1:1 ack 1 <sack 101:1101>
        +0     in     P.  1:151 ack 1
        +0     out    .   1:1 ack 1101 <sack 101:151>
    """)


@pytest.mark.rfc("5961", "3.2")
def test_a_reset_at_a_hole_is_exact_only_where_sack_told_so(wire):
    wire.established(sack=False)
    wire.play("""
        +0     in     .   101:1101 ack 1
        +0     out    .   1:1 ack 1
        +0     in     R   1101
        +0     out    .   1:1 ack 1
        +0     check  state is ESTABLISHED
    """)


def test_a_reset_just_below_a_fin_kills(wire):
    """Linux's tcp_reset_check: what macOS sends."""
    wire.established()
    wire.play("""
        +0     in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
        +0     in     R   1
        +0     check  state is CLOSED and error is EPIPE
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_nothing_follows_the_last_ack(wire):
    """LAST-ACK ends with the ACK of our FIN; what else the segment carries is of no interest."""
    wire.established()
    wire.play("""
        +0     in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
        +0     app    close
        +0     out    F.  1:1 ack 2
        +0     in     .   -97:3 ack 2
        +0     quiet
        +0     check  conns == 0
    """)


@pytest.mark.rfc("3168", "6.1.2")
@pytest.mark.wire(sysctl={"net.ipv4.tcp_ecn": "1"})
def test_an_echo_with_nothing_out_is_no_congestion(wire):
    wire.play("""
        +0     app    connect
        +0     out    SEW 0:0
        +5ms   in     S.E 0:0 ack 1 <mss 1000>
        +0     out    .   1:1 ack 1
        +0     in     E.  1:1 ack 1
        +0     app    send 3000
        +0     out    .   1:3001/1000
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_ecn": "1"})
def test_a_crossing_syn_that_asks_for_no_ecn_gets_none(wire):
    wire.play("""
        +0     app    connect
        +0     out    SEW 0:0
        +5ms   in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
@pytest.mark.parametrize(("segment", "answer"), [("S 101:101", "R. ack 102"), ("S. 101:101 ack 1", "R. ack 102")])
def test_a_syn_in_the_window_ends_a_half_open_connection(wire, segment, answer):
    wire.play(
        f"""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     {segment}
    """,
        loose=True,
    )
    assert len(wire.sent) == 1
    assert wire.sent[0].packet.flags & 4
    assert not list(wire.stack.tcp.conns())


@pytest.mark.parametrize("segment", [". 1:1 ack 2", "S. 101:101 ack 2", "P. -99:1 ack 2", ". 300001:300101 ack 2"])
def test_a_wrong_ack_in_syn_received_is_reset_wherever_it_lies(wire, segment):
    wire.play(f"""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     {segment}
        +0     out    R   2:2
        +0     in     .   1:1 ack 1
        +0     app    accept
    """)


@pytest.mark.rfc("7323", "5.3")
def test_an_old_reset_does_not_end_a_half_open_connection(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000,TS val 1000000 ecr 0>
        +0     out    S.  0:0 ack 1
        +0     in     R   1:1 <nop,nop,TS val 5 ecr 0>
        +0     quiet
        +0     in     .   1:1 ack 1
        +0     app    accept
    """)


def test_text_that_fills_a_hole_does_not_make_an_older_window_good(wire):
    wire.established()
    wire.play("""
        +0     in     .   2001:2002 ack 1
        +0     out    .   1:1 ack 1
        +0     in     .   1:101 ack 1
        +0     out    .   1:1 ack 101
        +0     in     .   201:301 ack 1 win 0
        +0     out    .   1:1 ack 101
        +0     app    send 1000
        +0     out    .   1:1001
    """)


@pytest.mark.rfc("2883", "4")
def test_old_text_with_an_old_timestamp_is_reported_too(wire):
    wire.established(sack=True, ts=True)
    wire.play("""
        +0     in     .   1:101 ack 1
        +0     out    .   1:1 ack 101
        +0     in     .   51:61 ack 1 <nop,nop,TS val 0 ecr 0>
        +0     out    .   1:1 ack 101 <TS val ? ecr ?,sack 51:61>
    """)


@pytest.mark.rfc("9293", "3.7.1")
def test_the_third_segments_window_bounds_the_mss(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 win 65535 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     .   1:1 ack 1 win 100
        +0     app    accept
        +0     app    send 3000
        +0     out    .   1:101
    """)


def test_a_crossing_syn_is_offered_no_ecn_that_we_did_not_ask_for(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +5ms   in     SEW 0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
    """)
