"""Loss recovery: fast retransmit with and without SACK, RACK, PRR, undo, reneging."""

import pytest


@pytest.mark.rfc("5681", "3.2")
def test_three_duplicate_acks_resend_the_first_segment(wire):
    wire.established()
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1
        +1ms   in     .   1:1 ack 1
        +1ms   quiet
        +0     in     .   1:1 ack 1
        +0     out    .   1:1001
        +0     check  ca_state == "recovery" and snd_ssthresh == 7 and TcpExtTCPRenoRecovery == 1
        +10ms  in     .   1:1 ack 10001
        +0     check  ca_state == "open" and snd_cwnd == 7 and TcpExtTCPTimeouts == 0
        +1s    quiet
    """)


@pytest.mark.rfc("3042", "2")
def test_the_first_two_duplicate_acks_let_new_segments_out(wire):
    wire.established()
    wire.play("""
        +0     app    send 20000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1
        +0     out    .   10001:11001
        +1ms   in     .   1:1 ack 1
        +0     out    .   11001:12001
        +1ms   in     .   1:1 ack 1
        +0     out    .   1:1001
    """)


@pytest.mark.rfc("6582", "3.2")
def test_a_partial_ack_shows_the_next_hole(wire):
    wire.established()
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1
        +1ms   in     .   1:1 ack 1
        +1ms   in     .   1:1 ack 1
        +0     out    .   1:1001
        +10ms  in     .   1:1 ack 4001
        +0     out    .   4001:5001
        +0     check  ca_state == "recovery"
        +10ms  in     .   1:1 ack 10001
        +0     check  ca_state == "open" and TcpExtTCPTimeouts == 0
        +1s    quiet
    """)


@pytest.mark.rfc("5681", "2")
def test_a_window_update_is_no_duplicate_ack(wire):
    wire.established(wnd=50000)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1 win 51000
        +1ms   in     .   1:1 ack 1 win 52000
        +1ms   in     .   1:1 ack 1 win 53000
        +1ms   in     .   1:1 ack 1 win 54000
        +1ms   quiet
        +0     check  ca_state == "open"
    """)


@pytest.mark.rfc("5681", "2")
def test_text_is_no_duplicate_ack(wire):
    wire.established()
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     P.  1:11 ack 1
        +0     out    .   10001:10001 ack 11
        +1ms   in     P.  11:21 ack 1
        +0     out    .   10001:10001 ack 21
        +1ms   in     P.  21:31 ack 1
        +0     out    .   10001:10001 ack 31
        +1ms   in     P.  31:41 ack 1
        +0     out    .   10001:10001 ack 41
        +0     check  ca_state == "open"
    """)


@pytest.mark.rfc("6675", "5")
@pytest.mark.rfc("8985", "6.2")
def test_three_segments_sacked_above_a_hole_resend_it(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:2001>
        +100us in     .   1:1 ack 1 <sack 1001:3001>
        +100us in     .   1:1 ack 1 <sack 1001:4001>
        +0     out    .   1:1001
        +0     check  ca_state == "recovery" and snd_ssthresh == 7 and TcpExtTCPSackRecovery == 1
        +0     check  sacked == 3 and lost == 1 and retrans == 1
        +10ms  in     .   1:1 ack 10001
        +0     check  ca_state == "open" and snd_cwnd == 7 and TcpRetransSegs == 1 and TcpExtTCPTimeouts == 0
        +1s    quiet
    """)


@pytest.mark.rfc("6675", "5")
def test_only_the_holes_are_sent_again(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1001 <sack 2001:3001 4001:10001>
        +0     out    .   1001:2001
        +0     out    .   3001:4001
        +10ms  in     .   1:1 ack 3001 <sack 4001:10001>
        +0     quiet
        +1ms   in     .   1:1 ack 10001
        +0     check  TcpRetransSegs == 2 and TcpExtTCPTimeouts == 0 and ca_state == "open"
        +1s    quiet
    """)


@pytest.mark.rfc("8985", "6.2")
def test_a_hole_is_given_a_quarter_of_the_round_trip_for_reordering(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:3001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:2001>
        +2ms..4ms out   .   1:1001
        +0     check  ca_state == "recovery"
    """)


@pytest.mark.rfc("8985", "6.2")
def test_reordering_within_that_time_resends_nothing(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:3001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:2001>
        +1ms   in     .   1:1 ack 2001
        +1ms   in     .   1:1 ack 3001
        +1s    quiet
        +0     check  TcpRetransSegs == 0 and snd_cwnd >= 10 and TcpExtTCPSACKReorder >= 1
    """)


@pytest.mark.rfc("8985", "6.2")
def test_a_lost_retransmission_is_noticed_without_a_timeout(wire):
    wire.established(sack=True)
    wire.play(
        """
        +0     app    send 30000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:5001>
        +0     out    .   1:1001                            # … and is lost again
        +0     out    .   10001:11001
        +10ms  in     .   1:1 ack 1 <sack 1001:11001>       # what left after it has arrived
        +0..10ms out  .   1:1001
        +0     check  TcpExtTCPLostRetransmit == 1 and TcpExtTCPTimeouts == 0
    """,
        loose=True,
    )


def _drain(wire):
    wire.bursting = False
    wire.flush()
    wire.sent.clear()


@pytest.mark.rfc("6675", "5.1")
def test_after_a_timeout_sacked_text_is_not_sent_again(wire):
    wire.established(sack=True)
    wire.play(
        """
        +0     app    send 4000
        +0     out    .   1:4001/1000
        +5ms   in     .   1:1 ack 1 <sack 3001:4001>
        +0..15ms out  .   1:1001
    """,
        loose=True,
    )
    _drain(wire)
    assert wire.conn.info(wire.clock.now).sacked == 1
    seen = []
    for _ in range(4):
        if wire.advance(wire.clock.now + 2_000_000_000):
            seen += [(e.packet.seq - wire.peer(1).iss - 1) & 0xFFFFFFFF for e in wire.sent]
            wire.sent.clear()
    assert seen
    assert 3000 not in seen


@pytest.mark.rfc("2018", "8")
def test_a_peer_that_reneges_gets_the_text_again(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:3001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:3001>
        +2ms..4ms out .   1:1001
        +10ms  in     .   1:1 ack 1001                    # took the first, threw the others away
        +10ms  out    .   1001:2001                       # Linux gives it 10 ms or half a round trip
        +0     check  TcpExtTCPSACKReneging == 1
        +10ms  in     .   1:1 ack 2001
        +0     out    P.  2001:3001
        +10ms  in     .   1:1 ack 3001
        +1s    quiet
    """)


@pytest.mark.rfc("9937", "6.2")
def test_prr_sends_in_step_with_what_is_delivered(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 60000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 10001
        +0     out    .   10001:30001/1000
    """)
    sent = 0
    for n in range(1, 20):  # the first of twenty is lost, each ACK SACKs one more
        wire.play(f"+200us in . 1:1 ack 10001 <sack 11001:{11001 + n * 1000}>", loose=True)
        sent += len(wire.sent)
        wire.sent.clear()
    assert wire.conn.info(wire.clock.now).ca_state == "recovery"
    # Twenty in flight, ssthresh 14: about 0.7 segments for each delivered.
    assert 13 <= sent <= 16


@pytest.mark.rfc("2883", "5")
def test_a_needless_fast_retransmit_is_undone_by_dsack(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:4001>
        +0     out    .   1:1001
        +0     check  snd_ssthresh == 7
        +1ms   in     .   1:1 ack 4001                        # it was only late
        +1ms   in     .   1:1 ack 10001
        +8ms   in     .   1:1 ack 10001 <sack 1:1001>         # and came twice
        +0     check  TcpExtTCPDSACKRecv == 1
    """)


@pytest.mark.rfc("4015", "3")
def test_a_needless_fast_retransmit_is_undone_by_timestamps(wire):
    wire.established(sack=True, ts=True)
    wire.play("""
        +0     app    send 9880
        +0     out    .   1:9881/988
        +10ms  in     .   1:1 ack 1 <TS val ? ecr 10,sack 989:3953>
        +0     out    .   1:989
        +0     check  snd_ssthresh == 7 and ca_state == "recovery"
        +1ms   in     .   1:1 ack 3953 <TS val ? ecr 10>      # echoes the first transmission
        +0     check  ca_state == "open" and snd_cwnd >= 10 and TcpExtTCPPartialUndo == 1
    """)


@pytest.mark.rfc("6675", "5")
def test_recovery_ends_where_it_began_and_a_new_loss_cuts_again(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:10001>
        +0     out    .   1:1001
        +10ms  in     .   1:1 ack 10001
        +0     check  snd_cwnd == 7
        +0     app    send 7000
        +0     out    .   10001:17001/1000
        +10ms  in     .   1:1 ack 10001 <sack 11001:17001>
        +0     out    .   10001:11001
        +10ms  in     .   1:1 ack 17001
        +0     check  snd_cwnd == 4 and TcpExtTCPSackRecovery == 2
    """)


@pytest.mark.rfc("5961", "5.2")
def test_sack_blocks_of_nonsense_are_ignored(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:3001/1000
        +1ms   in     .   1:1 ack 1 <sack 2001:9001>         # beyond what was sent
        +1ms   in     .   1:1 ack 1 <sack 3001:2001>         # backwards
        +1ms   in     .   1:1 ack 1 <sack 2001:2001>         # empty
        +1ms   in     .   1:1 ack 1 <sack 2000000000:2000001000>
        +0     check  sacked == 0 and ca_state == "open"
    """)


@pytest.mark.rfc("6582", "6")
def test_without_sack_recovery_ends_only_beyond_where_it_began(wire):
    wire.established()
    wire.play(
        """
        +0     app    send 20000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1
        +0     in     .   1:1 ack 1
        +0     in     .   1:1 ack 1
        +1ms   in     .   1:1 ack 1
        +1ms   in     .   1:1 ack 1
        +1ms   in     .   1:1 ack 1
        +1ms   in     .   1:1 ack 1
        +10ms  in     .   1:1 ack 10001               # exactly all that was outstanding
        +0     check  ca_state == "recovery"
        +1ms   in     .   1:1 ack 10001               # the copies draw duplicates, which mean nothing
        +0     in     .   1:1 ack 10001
        +0     in     .   1:1 ack 10001
        +0     check  TcpExtTCPRenoRecovery == 1
        +1ms   in     .   1:1 ack 11001
        +0     check  ca_state == "open" and TcpExtTCPRenoRecovery == 1
    """,
        loose=True,
    )


@pytest.mark.rfc("6675", "4")
@pytest.mark.wire(sysctl={"net.ipv4.tcp_recovery": "0"})
def test_without_rack_losses_are_counted(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:2001>
        +50ms  in     .   1:1 ack 1 <sack 1001:3001>  # time alone does not tell
        +0     check  lost == 0
        +1ms   in     .   1:1 ack 1 <sack 1001:3001 5001:6001>
        +0     out    .   1:1001
        +0     check  lost == 1 and ca_state == "recovery"
        +1ms   in     .   1:1 ack 1 <sack 7001:10001 5001:6001 1001:3001>
        +0     out    .   3001:5001/1000
        +0     out    .   6001:7001
        +0     check  lost == 4 and TcpExtTCPTimeouts == 0
    """)


@pytest.mark.rfc("8985", "6.3")
def test_what_left_too_late_to_be_acknowledged_survives_a_timeout(wire):
    wire.established()
    wire.play("""
        +0     app    send 1000
        +0     out    P.  1:1001
        +10ms  in     .   1:1 ack 1001
        +0     app    send 3000
        +0     out    .   1001:4001/1000
        +205ms app    send 2000
        +0     out    .   4001:6001/1000
        +0..5ms out   .   1001:2001
        +0     check  ca_state == "loss" and lost == 3 and unacked == 5 and snd_cwnd == 3
    """)


@pytest.mark.rfc("8985", "6.2")
def test_each_round_with_a_dsack_widens_the_reordering_window(wire):
    wire.established(sack=True)
    wire.play(
        """
        +0     app    send 60000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1 <sack 1001:2001>
        +1ms   in     .   1:1 ack 2001                # only late: the network reorders
        +0     check  TcpExtTCPSACKReorder == 1
        +1ms   in     .   1:1 ack 2001 <sack 3001:4001>
        +5ms   check  TcpRetransSegs == 1
        +0     in     .   1:1 ack 4001                # and this was even later
        +10ms  in     .   1:1 ack 4001 <sack 2001:3001>
        +0     check  dsack_dups == 1
        +1ms   in     .   1:1 ack 6001
    """,
        loose=True,
    )
    assert wire.conn.recovery.reo_wnd_mult == 2


@pytest.mark.rfc("9937", "6.2")
def test_a_safe_ack_sends_one_segment_more(wire):
    """Most of the flight is lost: the pipe is below ssthresh, and an ACK that advances without new loss grows it."""
    wire.established(sack=True)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 1 <sack 9001:10001>
        +2ms..4ms out .   1:1001
        +10ms  in     .   1:1 ack 1001 <sack 9001:10001>
        +0     out    .   1001:3001/1000
        +10ms  in     .   1:1 ack 3001 <sack 9001:10001>
        +0     out    .   3001:6001/1000
    """)
