"""Windows that close: ours as a receiver, the peer's as a sender; silly windows."""

import pytest


@pytest.mark.rfc("9293", "3.8.6")
def test_our_window_closes_when_the_program_does_not_read_and_opens_when_it_does(wire):
    wire.established(rcv_wnd=4000)
    wire.play("""
        +0     in     .   1:4001/1000
        +0     out    .   1:1 ack 4001 win 0
        +0     check  TcpExtTCPToZeroWindowAdv == 1
        +1s    app    recv 4000
        +0     out    .   1:1 ack 4001 win 4000
        +0     check  TcpExtTCPFromZeroWindowAdv == 1
    """)


@pytest.mark.rfc("9293", "3.8.6.2.2", "MUST-39")
def test_a_silly_window_is_not_offered(wire):
    wire.established(rcv_wnd=8000)
    wire.play("""
        +0     in     .   1:8001/1000
        +0     out    .   1:1 ack 8001 win 0
        +1s    app    recv 500
        +1ms   quiet
        +0     app    recv 500
        +1ms   quiet
        +0     app    recv 1000
        +0     out    .   1:1 ack 8001 win 2000
    """)


@pytest.mark.rfc("9293", "3.8.6.1", "MUST-36")
def test_a_zero_window_probe_is_answered(wire):
    wire.established(rcv_wnd=4000)
    wire.play("""
        +0     in     .   1:4001/1000
        +0     out    .   1:1 ack 4001 win 0
        +1s    in     .   4001:4002
        +0     out    .   1:1 ack 4001 win 0
        +1s    in     .   4000:4000                 # Linux's form
        +0     out    .   1:1 ack 4001 win 0
        +0     app    recv 4000
        +0     out    .   1:1 ack 4001 win 4000
        +0     in     .   4001:4002
        +0..40ms out  .   1:1 ack 4002
        +0     app    recv 1
    """)


@pytest.mark.rfc("9293", "3.8.6", "SHLD-14")
def test_our_right_edge_never_moves_left(wire):
    wire.established(rcv_wnd=8000)
    wire.play("""
        +0     in     .   1:1001
        +0..40ms out  .   1:1 ack 1001 win 7000
        +0     in     .   1001:2001
        +0..40ms out  .   1:1 ack 2001 win 6000
    """)


@pytest.mark.rfc("9293", "3.8.6.1", "MUST-35")
@pytest.mark.rfc("1122", "4.2.2.17")
def test_a_closed_window_is_probed_with_back_off_for_ever(wire):
    wire.established(wnd=2000)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:2001/1000
        +10ms  in     .   1:1 ack 2001 win 0
        +205ms..215ms out . 2000:2000 ack 1
        +0     in     .   1:1 ack 2001 win 0
        +410ms..430ms out . 2000:2000 ack 1
        +0     in     .   1:1 ack 2001 win 0
        +820ms..860ms out . 2000:2000 ack 1
        +0     in     .   1:1 ack 2001 win 0
        +100ms in     .   1:1 ack 2001 win 5000
        +0     out    P.  2001:3001
        +10ms  in     .   1:1 ack 3001 win 5000
        +5s    quiet
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_retries2": "3"})
@pytest.mark.rfc("9293", "3.8.6.1")
def test_a_peer_that_answers_no_probe_is_dead(wire):
    wire.established(wnd=2000)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:2001/1000
        +10ms  in     .   1:1 ack 2001 win 0
        +205ms..215ms out . 2000:2000 ack 1
        +410ms..430ms out . 2000:2000 ack 1
        +820ms..860ms out . 2000:2000 ack 1
    """)
    wire.advance(wire.clock.now + 2_000_000_000)
    wire.sent.clear()
    wire.advance(wire.clock.now + 10_000_000_000)
    wire.sent.clear()
    wire.play("+0 check state is CLOSED and error is ETIMEDOUT")


@pytest.mark.wire(sysctl={"net.ipv4.tcp_retries2": "3"})
@pytest.mark.rfc("9293", "3.8.6.1", "MUST-37")
def test_a_peer_that_answers_probes_is_alive_however_long_it_stays_closed(wire):
    wire.established(wnd=2000)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:2001/1000
        +10ms  in     .   1:1 ack 2001 win 0
    """)
    for _ in range(12):
        assert wire.advance(wire.clock.now + 121_000_000_000)
        wire.sent.clear()
        wire.play("+1ms in . 1:1 ack 2001 win 0")
    wire.play("""
        +0     check  state is ESTABLISHED
        +1ms   in     .   1:1 ack 2001 win 5000
        +0     out    P.  2001:3001
    """)


@pytest.mark.rfc("9293", "3.8.6.2.1", "MUST-38")
def test_we_send_no_silly_segment_but_never_wait_for_ever(wire):
    wire.established(wnd=2000)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:2001/1000
        +10ms  in     .   1:1 ack 2001 win 100
        +100ms quiet
        +100ms..120ms out . 2001:2101
        +10ms  in     .   1:1 ack 2101 win 5000
        +0     out    P.  2101:3001
    """)


@pytest.mark.rfc("9293", "3.8.6.2.1")
def test_half_of_the_largest_window_is_not_silly(wire):
    wire.established(mss=1400, wnd=1000)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:1001/500            # never more than half of it, so that two are under way
        +10ms  in     .   1:1 ack 1001 win 500
        +0     out    .   1001:1501
    """)


@pytest.mark.rfc("9293", "3.8.6", "MUST-34")
def test_a_window_that_shrinks_is_borne(wire):
    wire.established(wnd=5000)
    wire.play("""
        +0     app    send 8000
        +0     out    .   1:5001/1000
        +10ms  in     .   1:1 ack 1001 win 1000
        +50ms  quiet
        +10ms  in     .   1:1 ack 5001 win 3000
        +0     out    .   5001:8001/1000
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_an_old_segment_does_not_change_the_window(wire):
    wire.established(wnd=5000)
    wire.play("""
        +0     in     P.  1:101 ack 1 win 5000
        +0..40ms out  .   1:1 ack 101
        +0     app    send 3000
        +0     out    .   1:3001/1000
        +10ms  in     .   101:101 ack 2001 win 5000
        +1ms   in     .   101:101 ack 1001 win 100
        +0     check  snd_wnd == 5000
    """)


def test_autotuning_opens_the_window_for_a_fast_reader(wire):
    wire.established(wscale=7)
    at = 1
    for _ in range(8):
        size = min(wire.conn.info(wire.clock.now).rcv_wnd, 400_000) // 1000 * 1000
        for _ in range(size // 1000):
            wire.play(f"+0 in . {at}:{at + 1000}", loose=True)
            at += 1000
        wire.play("+10ms app recv", loose=True)
        wire.sent.clear()
    assert wire.conn.info(wire.clock.now).rcv_wnd > 300_000
