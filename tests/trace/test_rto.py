"""The retransmission timer: RFC 6298, Karn's rule, giving up, tail loss probes."""

import pytest


@pytest.mark.rfc("6298", "5.4")
@pytest.mark.rfc("6298", "5.5")
def test_the_timer_doubles_with_each_retransmission(wire):
    wire.established()
    wire.play("""
        +0     check  rto == 210000                 # 10 ms + the floor of 200 ms
        +0     app    send 500
        +0     out    P.  1:501
        +210ms out    P.  1:501
        +420ms out    P.  1:501
        +840ms out    P.  1:501
        +1680ms out   P.  1:501
        +0     check  snd_cwnd == 1 and TcpExtTCPTimeouts == 4 and TcpRetransSegs == 4 and ca_state == "loss"
        +10ms  in     .   1:1 ack 501
        +5s    quiet
    """)


@pytest.mark.rfc("6298", "3")
def test_karn_takes_no_sample_from_what_was_sent_twice(wire):
    wire.established()
    wire.play("""
        +0     app    send 500
        +0     out    P.  1:501
        +210ms out    P.  1:501
        +50ms  in     .   1:1 ack 501
        +0     check  rtt == 10000
        +0     app    send 500
        +0     out    P.  501:1001
        +10ms  in     .   1:1 ack 1001
        +0     check  rtt == 10000 and rto < 211000 and backoff == 0
    """)


@pytest.mark.rfc("6298", "3")
def test_an_ack_that_fills_a_hole_says_nothing_of_what_waited_behind_it(wire):
    """The second segment was sent once, and had been there for long; its acknowledgment waited for the first."""
    wire.established()
    wire.play("""
        +0     app    send 2000
        +0     out    .   1:2001/1000
        +210ms..260ms out .  1:1001
        +10ms  in     .   1:1 ack 2001
        +0     check  rtt == 10000
    """)


@pytest.mark.rfc("6298", "5.3")
def test_an_ack_of_something_new_restarts_the_timer(wire):
    wire.established()
    wire.play("""
        +0     app    send 2000
        +0     out    .   1:2001/1000
        +100ms in     .   1:1 ack 1001
        +0     check  rto > 210000
        +200ms quiet
        +1ms..400ms out P. 1001:2001
    """)


@pytest.mark.rfc("6298", "5.2")
def test_the_timer_is_off_when_nothing_is_outstanding(wire):
    wire.established()
    wire.play("""
        +0     app    send 500
        +0     out    P.  1:501
        +10ms  in     .   1:1 ack 501
        +60s   quiet
    """)


@pytest.mark.rfc("5681", "3.1")
def test_a_timeout_sends_one_segment_and_starts_slowly(wire):
    wire.established()
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +210ms out    .   1:1001
        +0     check  snd_cwnd == 1 and snd_ssthresh == 7      # CUBIC: 0.7 of ten
        +10ms  in     .   1:1 ack 1001
        +0     out    .   1001:3001/1000
        +10ms  in     .   1:1 ack 3001
        +0     out    .   3001:7001/1000
        +10ms  in     .   1:1 ack 10001
        +1s    quiet
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_retries2": "3"})
@pytest.mark.rfc("9293", "3.8.3", "MUST-20")
def test_a_dead_peer_times_out(wire):
    """As Linux counts: not retransmissions, but the time that so many would take with the least RTO."""
    wire.established()
    wire.play("""
        +0     app    send 500
        +0     out    P.  1:501
        +210ms out    P.  1:501
        +420ms out    P.  1:501
        +840ms out    P.  1:501
        +1680ms out   P.  1:501                     # three doublings of 200 ms make 3 s: not yet over
        +3300ms quiet
        +90ms  check  state is CLOSED and error is ETIMEDOUT and FAILED in events
        +0     check  conns == 0 and TcpExtTCPAbortOnTimeout == 1
    """)


@pytest.mark.rfc("5482", "2")
def test_the_user_timeout_is_shorter(wire):
    wire.established(user_timeout_ms=300)
    wire.play("""
        +0     app    send 500
        +0     out    P.  1:501
        +210ms out    P.  1:501
        +0     check  state is ESTABLISHED
        +310ms check  state is CLOSED and error is ETIMEDOUT
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_rto_max_ms": "1000"})
@pytest.mark.rfc("6298", "2.5")
def test_the_ceiling_of_the_timer(wire):
    wire.established()
    wire.play("""
        +0     app    send 500
        +0     out    P.  1:501
        +210ms out    P.  1:501
        +420ms out    P.  1:501
        +840ms out    P.  1:501
        +1s    out    P.  1:501
        +1s    out    P.  1:501
    """)


@pytest.mark.rfc("8985", "7.2")
@pytest.mark.rfc("8985", "7.3")
def test_a_lost_tail_is_probed_after_two_round_trips(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:3001/1000
        +22ms  out    P.  2001:3001                 # 2 · srtt + 2 ms
        +0     check  TcpExtTCPLossProbes == 1
        +10ms  in     .   1:1 ack 1 <sack 2001:3001>
        +0     out    .   1:1001
        +10ms  in     .   1:1 ack 1001 <sack 2001:3001>
        +0     out    .   1001:2001
        +0     check  TcpExtTCPTimeouts == 0
    """)


@pytest.mark.rfc("8985", "7.4.2")
def test_a_probe_that_repairs_the_loss_is_a_congestion_signal(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +10ms  in     .   1:1 ack 8001
        +22ms  out    P.  9001:10001
        +10ms  in     .   1:1 ack 10001
        +0     check  snd_cwnd >= 10 and TcpExtTCPLossProbeRecovery == 0
        +0     app    send 1000
        +0     out    P.  10001:11001
        +10ms  in     .   1:1 ack 11001
        +0     check  TcpExtTCPLossProbeRecovery == 1 and snd_cwnd < 14
    """)


@pytest.mark.rfc("8985", "7.4.2")
def test_a_probe_that_was_needless_costs_nothing(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:3001/1000
        +22ms  out    P.  2001:3001
        +1ms   in     .   1:1 ack 3001
        +5ms   in     .   1:1 ack 3001 <sack 2001:3001>
        +0     check  TcpExtTCPLossProbeRecovery == 0 and TcpExtTCPDSACKRecv == 1 and snd_cwnd >= 10
        +1s    quiet
    """)


@pytest.mark.rfc("8985", "7.2")
def test_a_lone_segment_is_probed_not_timed_out(wire):
    """PTO = 2·SRTT + max ack delay, but no later than the RTO would have been."""
    wire.established(sack=True)
    wire.play("""
        +0     app    send 500
        +0     out    P.  1:501
        +200ms..225ms out P. 1:501
        +0     check  snd_cwnd == 10 and TcpExtTCPLossProbes == 1 and TcpExtTCPTimeouts == 0
    """)


@pytest.mark.rfc("8985", "7.3")
def test_new_text_is_the_better_probe(wire):
    wire.established(sack=True, wnd=2000)
    wire.play("""
        +0     app    send 2000
        +0     out    .   1:2001/1000
        +1ms   in     .   1:1 ack 1 win 3000
        +1ms   app    send 500
        +0     out    P.  2001:2501
        +22ms  out    P.  2001:2501
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_early_retrans": "0"})
def test_probes_can_be_turned_off(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 3000
        +0     out    .   1:3001/1000
        +209ms quiet
        +1ms   out    .   1:1001
    """)


@pytest.mark.rfc("4015", "3")
def test_a_spurious_timeout_is_undone_by_timestamps(wire):
    wire.established(ts=True)
    wire.play("""
        +0     app    send 9880
        +0     out    .   1:9881/988
        +210ms out    .   1:989 <TS val 220 ecr ?>
        +0     check  snd_cwnd == 1
        +10ms  in     .   1:1 ack 9881 <nop,nop,TS val ? ecr 10>    # the first transmission was only late
        +0     check  snd_cwnd >= 10 and TcpExtTCPLossUndo == 1
    """)
