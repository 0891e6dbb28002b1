"""Closing in every order: FINs, half-close, simultaneous close, TIME-WAIT, orphans, linger."""

import pytest


@pytest.mark.rfc("9293", "3.6", "MUST-12")
def test_we_close_first(wire):
    wire.established()
    wire.play("""
        +0     app    shutdown
        +0     out    F.  1:1 ack 1
        +0     check  state is FIN_WAIT_1
        +10ms  in     .   1:1 ack 2
        +0     check  state is FIN_WAIT_2
        +10ms  in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
        +0     check  state is TIME_WAIT and peer_closed and PEER_CLOSED in events
        +59s   quiet
        +0     check  conns == 1
        +1.1s  check  conns == 0 and state is CLOSED
    """)


@pytest.mark.rfc("9293", "3.6")
def test_the_peer_closes_first(wire):
    wire.established()
    wire.play("""
        +0     in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
        +0     check  state is CLOSE_WAIT and peer_closed and PEER_CLOSED in events and READABLE in events
        +1s    app    close
        +0     out    F.  1:1 ack 2
        +0     check  state is LAST_ACK
        +10ms  in     .   2:2 ack 2
        +0     check  state is CLOSED and conns == 0
        +60s   quiet
    """)


@pytest.mark.rfc("9293", "3.6.1")
def test_our_fin_is_acknowledged_by_the_peer_fin(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
        +0     check  state is TIME_WAIT
    """)


@pytest.mark.rfc("9293", "3.6")
def test_both_close_at_once(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +5ms   in     F.  1:1 ack 1
        +0     out    .   2:2 ack 2
        +0     check  state is CLOSING
        +5ms   in     .   2:2 ack 2
        +0     check  state is TIME_WAIT
    """)


@pytest.mark.rfc("9293", "3.6", "MUST-12")
def test_half_closed_we_still_receive(wire):
    wire.established()
    wire.play("""
        +0     app    send 500
        +0     out    P.  1:501
        +0     app    shutdown
        +0     out    F.  501:501
        +10ms  in     .   1:1 ack 502
        +1s    in     P.  1:1001 ack 502
        +0..40ms out  .   502:502 ack 1001
        +0     app    recv 1000
        +1s    in     F.  1001:1001 ack 502
        +0     out    .   502:502 ack 1002
        +0     check  state is TIME_WAIT and peer_closed
    """)


@pytest.mark.rfc("9293", "3.6")
def test_half_closed_by_the_peer_we_still_send(wire):
    wire.established()
    wire.play("""
        +0     in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
        +1s    app    send 2000
        +0     out    .   1:2001/1000 ack 2
        +10ms  in     .   2:2 ack 2001
        +0     app    close
        +0     out    F.  2001:2001 ack 2
        +10ms  in     .   2:2 ack 2002
        +0     check  conns == 0
    """)


@pytest.mark.rfc("9293", "3.10.4")
def test_a_fin_follows_queued_text_however_long_it_takes(wire):
    wire.established(wnd=2000)
    wire.play("""
        +0     app    send 4000
        +0     out    .   1:2001/1000
        +0     app    close
        +10ms  in     .   1:1 ack 2001 win 2000
        +0     out    .   2001:3001
        +0     out    P.  3001:4001
        +10ms  in     .   1:1 ack 4001 win 2000
        +0     out    F.  4001:4001             # a FIN needs window, too
        +10ms  in     .   1:1 ack 4002
        +0     check  state is FIN_WAIT_2
    """)


def test_a_fin_rides_on_the_last_text(wire):
    wire.established()
    wire.play("""
        +0     app    send 100 more
        +0     app    shutdown
        +0     out    FP. 1:101
        +10ms  in     .   1:1 ack 102
        +0     check  state is FIN_WAIT_2
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_fin_with_text_is_taken_whole(wire):
    wire.established()
    wire.play("""
        +0     in     FP. 1:501 ack 1
        +0     out    .   1:1 ack 502
        +0     check  state is CLOSE_WAIT and readable == 500 and peer_closed
        +0     app    recv 500
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_fin_out_of_order_counts_when_its_turn_comes(wire):
    wire.established()
    wire.play("""
        +0     in     F.  1001:1001 ack 1
        +0     out    .   1:1 ack 1
        +0     check  state is ESTABLISHED and not peer_closed
        +1ms   in     .   1:1001 ack 1
        +0     out    .   1:1 ack 1002
        +0     check  state is CLOSE_WAIT and peer_closed
        +0     app    recv 1000
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_fin_with_text_out_of_order(wire):
    wire.established()
    wire.play("""
        +0     in     FP. 1001:2001 ack 1
        +0     out    .   1:1 ack 1
        +1ms   in     .   1:1001 ack 1
        +0     out    .   1:1 ack 2002
        +0     check  state is CLOSE_WAIT and readable == 2000
    """)


@pytest.mark.rfc("6298", "5.4")
def test_a_lost_fin_is_sent_again(wire):
    wire.established()
    wire.play("""
        +0     app    shutdown
        +0     out    F.  1:1
        +210ms out    F.  1:1
        +420ms out    F.  1:1
        +10ms  in     .   1:1 ack 2
        +0     check  state is FIN_WAIT_2
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_repeated_fin_is_acknowledged_again(wire):
    wire.established()
    wire.play("""
        +0     in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
        +1s    in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
        +0     check  state is CLOSE_WAIT
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_time_wait_acknowledges_a_repeated_fin_and_waits_anew(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
        +40s   in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
        +40s   check  conns == 1
        +21s   check  conns == 0
    """)


@pytest.mark.rfc("1337", "3")
@pytest.mark.wire(sysctl={"net.ipv4.tcp_rfc1337": "1"})
def test_a_reset_does_not_kill_time_wait(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
        +10ms  in     R   2:2
        +0     check  conns == 1
    """)


@pytest.mark.rfc("9293", "3.6.1", "MAY-2")
@pytest.mark.rfc("6191", "2")
def test_a_new_syn_reopens_a_port_in_time_wait(wire):
    wire.established(role="server")
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
        +1s    in     S   100000:100000 <mss 1000>       # beyond everything seen
        +0     out    S.  0:0 ack 100001
        +10ms  in     .   100001:100001 ack 1
        +0     app    accept
        +0     check  state is ESTABLISHED
    """)


@pytest.mark.rfc("9293", "3.6.1")
def test_an_old_syn_does_not_reopen_a_port_in_time_wait(wire):
    wire.established(role="server")
    wire.play("""
        +0     in     P.  1:2001 ack 1
        +0..40ms out  .   1:1 ack 2001
        +0     app    recv 2000
        +0     app    close
        +0     out    F.  1:1 ack 2001
        +10ms  in     F.  2001:2001 ack 2
        +0     out    .   2:2 ack 2002
        +1s    in     S   500:500 <mss 1000>
        +0     out    .   2:2 ack 2002
        +0     check  conns == 1
    """)


@pytest.mark.rfc("2525", "2.17")
def test_close_with_unread_text_resets(wire):
    wire.established()
    wire.play("""
        +0     in     P.  1:101
        +0..40ms out  .   1:1 ack 101
        +0     app    close
        +0     out    R.  1:1 ack 101
        +0     check  conns == 0 and TcpExtTCPAbortOnClose == 1
    """)


@pytest.mark.rfc("2525", "2.17")
@pytest.mark.rfc("9293", "3.6.1")
def test_text_for_a_program_that_has_gone_is_answered_with_a_reset(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
        +10ms  in     P.  1:101 ack 2
        +0     out    R   2:2
        +0     check  conns == 0 and TcpExtTCPAbortOnData == 1
    """)


def test_text_that_crosses_our_fin_after_close_resets(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +5ms   in     P.  1:101 ack 1
        +0     out    R   1:1
        +0     check  conns == 0
    """)


def test_a_peer_that_never_closes_cannot_hold_an_orphan(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
        +59s   check  conns == 1
        +2s    check  conns == 0
        +1s    in     .   1:1 ack 2
        +0     out    R   2:2
    """)


def test_half_closed_by_its_program_a_connection_waits_for_ever(wire):
    wire.established()
    wire.play("""
        +0     app    shutdown
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
        +3600s check  state is FIN_WAIT_2
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_orphan_retries": "2"})
def test_an_orphan_gives_up_early(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1
        +210ms out    F.  1:1
        +420ms out    F.  1:1
        +840ms out    F.  1:1                       # 1.26 s since the first: not yet 1.4 s
        +1680ms check conns == 0
        +10s   quiet
    """)


def test_linger_zero_resets(wire):
    wire.established(linger=0)
    wire.play("""
        +0     app    send 100
        +0     out    P.  1:101
        +0     app    close
        +0     out    R.  101:101 ack 1
        +0     check  conns == 0
    """)


@pytest.mark.rfc("9293", "3.10.5")
def test_abort_resets_and_forgets_the_queue(wire):
    wire.established()
    wire.play("""
        +0     app    send 20000
        +0     out    .   1:10001/1000
        +0     app    abort
        +0     out    R.  10001:10001 ack 1
        +0     check  conns == 0 and TcpOutRsts == 1
        +10s   quiet
    """)


@pytest.mark.rfc("9293", "3.10.4")
def test_close_in_syn_sent_is_silent(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +0     app    close
        +10s   quiet
        +0     check  conns == 0
        +0     in     S.  0:0 ack 1 <mss 1000>
        +0     out    R   1:1
    """)


def test_close_before_accept_still_delivers_what_came(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +0     in     FP. 1:501 ack 1
        +0     out    .   1:1 ack 502
        +0     app    accept
        +0     check  state is CLOSE_WAIT and readable == 500 and peer_closed
        +0     app    recv 500
        +0     app    close
        +0     out    F.  1:1 ack 502
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_text_after_a_fin_is_ignored(wire):
    wire.established()
    wire.play("""
        +0     in     F.  1:1 ack 1
        +0     out    .   1:1 ack 2
    """)
    wire.play("+1ms in P. 2:102 ack 1", loose=True)
    wire.sent.clear()
    wire.play("+0 check readable == 0 and state is CLOSE_WAIT")


@pytest.mark.rfc("9293", "3.10.7.4")
def test_text_beyond_a_fin_that_is_still_to_come_is_ignored(wire):
    wire.established()
    wire.play(
        """
        +0     in     F.  1001:1001 ack 1
        +1ms   in     P.  1001:2001 ack 1
        +1ms   in     .   1:1001 ack 1
    """,
        loose=True,
    )
    wire.sent.clear()
    wire.play("+0 check readable == 1000 and peer_closed and state is CLOSE_WAIT")
