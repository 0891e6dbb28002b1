"""Text both ways: delayed ACKs, Nagle, cork, push, windows, overlap."""

import pytest


@pytest.mark.rfc("9293", "3.10.2")
def test_text_goes_out_in_segments_and_is_acknowledged(wire):
    wire.established()
    wire.play("""
        +0     app    send 2500
        +0     out    .   1:2001/1000 ack 1
        +0     out    P.  2001:2501 ack 1
        +0     check  send_queued == 2500 and unacked > 0
        +10ms  in     .   1:1 ack 2501
        +0     check  send_queued == 0 and bytes_acked == 2500
        +1s    quiet
    """)


def test_text_comes_in_intact(wire):
    wire.established(role="server")
    wire.play("""
        +0     in     P.  1:1001
        +0..40ms out  .   1:1 ack 1001
        +0     check  readable == 1000 and READABLE in events
        +0     app    recv 300
        +0     app    recv 700
        +0     in     P.  1001:1501
        +0..40ms out  .   1:1 ack 1501
        +0     app    recv 500
        +0     check  bytes_received == 1500
    """)


@pytest.mark.rfc("5681", "4.2")
@pytest.mark.rfc("9293", "3.8.6.3", "MUST-58")
def test_a_lone_segment_is_acknowledged_within_the_delay(wire):
    wire.established()
    wire.play("""
        +0     app    setopt quickack 0
        +0     in     P.  1:501
        +39ms  quiet
        +1ms   out    .   1:1 ack 501
        +0     check  TcpExtDelayedACKs == 1
    """)


@pytest.mark.rfc("5681", "4.2")
@pytest.mark.rfc("9293", "3.8.6.3", "MUST-59")
def test_every_second_full_segment_is_acknowledged_at_once(wire):
    wire.established()
    wire.play("""
        +0     app    setopt quickack 0
        +0     in     .   1:1001
        +1ms   in     .   1001:2001
        +0     out    .   1:1 ack 2001
        +1ms   in     .   2001:3001
        +1ms   in     .   3001:4001
        +0     out    .   1:1 ack 4001
    """)


def test_a_burst_is_answered_by_one_ack(wire):
    wire.established()
    wire.play("""
        +0     in     .   1:8001/1000
        +0     out    .   1:1 ack 8001
    """)


@pytest.mark.rfc("9293", "3.8.6.3")
def test_an_ack_rides_on_text(wire):
    wire.established()
    wire.play("""
        +0     app    setopt quickack 0
        +0     in     P.  1:101
        +5ms   app    send 10
        +0     out    P.  1:11 ack 101
        +100ms quiet
    """)


def test_a_new_connection_acknowledges_quickly(wire):
    """As Linux: the peer is in slow start, and each ACK helps it grow."""
    wire.established()
    wire.play("""
        +0     in     P.  1:501
        +0     out    .   1:1 ack 501
        +1ms   in     P.  501:1001
        +0     out    .   1:1 ack 1001
    """)


@pytest.mark.rfc("9293", "3.7.4", "SHLD-7")
def test_nagle_holds_a_small_segment_while_one_is_out(wire):
    wire.established()
    wire.play("""
        +0     app    send 100
        +0     out    P.  1:101
        +1ms   app    send 100
        +1ms   app    send 100
        +1ms   quiet
        +10ms  in     .   1:1 ack 101
        +0     out    P.  101:301
    """)


@pytest.mark.rfc("9293", "3.7.4", "MUST-17")
def test_nodelay_turns_nagle_off(wire):
    wire.established(nodelay=True)
    wire.play("""
        +0     app    send 100
        +0     out    P.  1:101
        +1ms   app    send 100
        +0     out    P.  101:201
    """)


def test_setting_nodelay_releases_what_nagle_held(wire):
    wire.established()
    wire.play("""
        +0     app    send 100
        +0     out    P.  1:101
        +1ms   app    send 100
        +1ms   app    setopt nodelay 1
        +0     out    P.  101:201
    """)


def test_nagle_lets_full_segments_pass(wire):
    wire.established()
    wire.play("""
        +0     app    send 100
        +0     out    P.  1:101
        +1ms   app    send 2100
        +0     out    .   101:2101/1000
        +1ms   quiet
        +10ms  in     .   1:1 ack 2101
        +0     out    P.  2101:2201
    """)


def test_cork_holds_partial_segments_until_it_is_pulled(wire):
    wire.established()
    wire.play("""
        +0     app    setopt cork 1
        +0     app    send 1500
        +0     out    .   1:1001
        +10ms  in     .   1:1 ack 1001
        +100ms quiet
        +0     app    setopt cork 0
        +0     out    P.  1001:1501
    """)


def test_cork_gives_way_after_a_retransmission_timeout(wire):
    """Linux uses the timer of zero-window probes: the RTO, at least 200 ms."""
    wire.established(rtt="10ms")
    wire.play("""
        +0     app    setopt cork 1
        +0     app    send 500
        +209ms..211ms out P. 1:501
    """)


def test_more_to_come_holds_a_partial_segment(wire):
    wire.established()
    wire.play("""
        +0     app    send 100 more
        +50ms  quiet
        +0     app    send 100
        +0     out    P.  1:201
    """)


@pytest.mark.rfc("5681", "3.1")
@pytest.mark.rfc("6928", "2")
def test_slow_start_begins_with_ten_segments(wire):
    wire.established()
    wire.play("""
        +0     app    send 40000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 2001
        +0     out    .   10001:14001/1000
        +0     in     .   1:1 ack 10001
        +0     out    .   14001:30001/1000
        +0     check  snd_cwnd == 20
    """)


@pytest.mark.rfc("9293", "3.8.6")
def test_the_peer_window_limits_us(wire):
    wire.established(wnd=3000)
    wire.play("""
        +0     app    send 9000
        +0     out    .   1:3001/1000
        +10ms  in     .   1:1 ack 2001 win 3000
        +0     out    .   3001:5001/1000
        +10ms  in     .   1:1 ack 5001 win 4000
        +0     out    .   5001:9001/1000
    """)


@pytest.mark.rfc("7323", "2.3")
def test_windows_are_scaled_except_on_syns(wire):
    wire.established(wnd=3000, wscale=3)
    wire.play("""
        +0     app    send 9000
        +0     out    .   1:3001/1000              # the SYN-ACK's window was not scaled
        +10ms  in     .   1:1 ack 3001 win 500     # 4000 bytes
        +0     out    .   3001:7001/1000
        +0     check  snd_wnd == 4000
    """)


@pytest.mark.rfc("7323", "2.3")
def test_our_window_is_scaled_once_both_offered_it(wire):
    wire.established(wscale=0)
    wire.play("""
        +0     in     .   1:1001
        +0..40ms out  .   1:1 ack 1001 win ?
        +0     check  rcv_wscale == 7
    """)
    assert wire.peer(1).last.win << 7 >= 60000


@pytest.mark.rfc("9293", "3.10.7.4")
def test_text_that_overlaps_what_came_is_trimmed(wire):
    wire.established()
    wire.play("""
        +0     in     .   1:1001
        +0..40ms out  .   1:1 ack 1001
        +1ms   in     .   501:1501
        +0..40ms out  .   1:1 ack 1501
        +0     app    recv 1500
    """)


@pytest.mark.rfc("9293", "3.10.7.4", "MUST-31")
def test_text_out_of_order_waits_and_is_delivered_in_order(wire):
    wire.established()
    wire.play("""
        +0     in     .   2001:3001
        +0     out    .   1:1 ack 1
        +1ms   in     .   1001:2001
        +0     out    .   1:1 ack 1
        +0     check  readable == 0
        +1ms   in     .   1:1001
        +0     out    .   1:1 ack 3001            # at once: a hole was filled (RFC 5681 4.2)
        +0     app    recv 3000
    """)


@pytest.mark.rfc("5681", "4.2")
def test_each_segment_out_of_order_gets_its_own_ack_even_in_a_burst(wire):
    wire.established()
    wire.play("""
        +0     in     .   1001:5001/1000
        +0     out    .   1:1 ack 1
        +0     out    .   1:1 ack 1
        +0     out    .   1:1 ack 1
        +0     out    .   1:1 ack 1
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_old_text_is_acknowledged_again(wire):
    wire.established()
    wire.play("""
        +0     in     P.  1:1001
        +0..40ms out  .   1:1 ack 1001
        +1ms   in     P.  1:1001
        +0     out    .   1:1 ack 1001
        +0     app    recv 1000
        +0     check  readable == 0
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_text_beyond_the_window_is_not_taken(wire):
    wire.established(rcv_wnd=4000)
    wire.play(
        """
        +0     in     .   8001:9001
        +0     out    .   1:1 ack 1
        +0     in     .   3501:4501               # half of it fits
        +0     out    .   1:1 ack 1
        +0     in     .   1:3501/1000
        +0     out    .   1:1 ack 4001 win 0
        +0     check  readable == 4000
    """
    )


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_segment_without_ack_is_dropped(wire):
    wire.established()
    wire.play("""
        +0     in     P   1:101
        +50ms  quiet
        +0     check  readable == 0
    """)


@pytest.mark.rfc("9293", "3.8.5")
def test_urgent_text_is_delivered_in_line_on_demand(wire):
    wire.established()
    wire.play("""
        +0     app    setopt oobinline 1
        +0     in     PU. 1:101 urg 50
        +0..40ms out  .   1:1 ack 101
        +0     app    recv 49
        +0     app    recv 51
    """)


@pytest.mark.rfc("5681", "4.1")
def test_an_idle_connection_starts_again_slowly(wire):
    wire.established()
    wire.play("""
        +0     app    send 30000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 10001
        +0     out    .   10001:30001/1000
        +10ms  in     .   1:1 ack 30001
        +0     check  snd_cwnd >= 20
        +10s   app    send 40000
        +0     out    .   30001:40001/1000
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_wmem": "4096 16384 131072"})
def test_writable_again_once_a_third_is_free(wire):
    wire.established(sndbuf=30000)
    wire.play("""
        +0     app    send 30000
        +0     out    .   1:10001/1000
        +0     check  send_space <= 0
        +10ms  in     .   1:1 ack 5001
        +0     out    .   10001:20001/1000
        +0     check  WRITABLE not in events
        +10ms  in     .   1:1 ack 11001
        +0     out    .   20001:30001/1000
        +0     check  WRITABLE in events and send_space > 10000
    """)


def test_sending_after_shutdown_is_epipe(wire):
    wire.established()
    wire.play("""
        +0     app    shutdown
        +0     out    F.  1:1
        +0     app    send 10 -> EPIPE
    """)
