"""RFC 7323: timestamps on every segment, which one is echoed, and PAWS."""

import pytest


@pytest.mark.rfc("7323", "3.2")
def test_every_segment_carries_timestamps_once_agreed(wire):
    wire.established(ts=True)
    wire.play("""
        +5ms   app    send 500
        +0     out    P.  1:501 <nop,nop,TS val 15 ecr ?>
        +10ms  in     .   1:1 ack 501 <nop,nop,TS val ? ecr 15>
        +0     in     P.  1:101 <nop,nop,TS val ? ecr 15>
        +0..40ms out  .   501:501 ack 101 <nop,nop,TS val ? ecr ?>
        +5ms   app    shutdown
        +0     out    F.  501:501 <nop,nop,TS val ? ecr ?>
    """)


@pytest.mark.rfc("7323", "4.3")
def test_a_delayed_ack_echoes_the_first_segment_it_covers(wire):
    wire.established(ts=True)
    wire.play("+0 app setopt quickack 0")
    base = wire.peer_time() + 5
    wire.play(f"""
        +5ms   in     P.  1:101   <nop,nop,TS val {base} ecr ?>
        +5ms   in     P.  101:201 <nop,nop,TS val {base + 5} ecr ?>
        +35ms  out    .   1:1 ack 201 <nop,nop,TS val ? ecr {base}>
    """)


@pytest.mark.rfc("7323", "4.3")
def test_a_segment_out_of_order_does_not_change_the_echo(wire):
    wire.established(ts=True)
    base = wire.peer_time()
    wire.play(f"""
        +5ms   in     P.  1001:1101 <nop,nop,TS val {base + 5} ecr ?>
        +0     out    .   1:1 ack 1 <nop,nop,TS val ? ecr {base}>
        +5ms   in     P.  1:1001    <nop,nop,TS val {base + 10} ecr ?>
        +0     out    .   1:1 ack 1101 <nop,nop,TS val ? ecr {base + 10}>
    """)


@pytest.mark.rfc("7323", "5.3")
def test_paws_drops_an_old_segment_and_acknowledges_it(wire):
    wire.established(ts=True)
    base = wire.peer_time()
    wire.play(f"""
        +5ms   in     P.  1:101 <nop,nop,TS val {base + 5} ecr ?>
        +0..40ms out  .   1:1 ack 101
        +5ms   in     P.  101:201 <nop,nop,TS val {base - 100} ecr ?>
        +0     out    .   1:1 ack 101 <nop,nop,TS val ? ecr {base + 5}>
        +0     check  readable == 100 and TcpExtPAWSEstab == 1
        +5ms   in     P.  101:201 <nop,nop,TS val {base + 15} ecr ?>
        +0..40ms out  .   1:1 ack 201
    """)


@pytest.mark.rfc("7323", "5.3")
def test_paws_does_not_apply_to_a_reset(wire):
    wire.established(ts=True)
    wire.play("""
        +5ms   in     R.  1:1 ack 1 <nop,nop,TS val 1 ecr ?>
        +0     check  state is CLOSED and error is ECONNRESET
    """)


@pytest.mark.rfc("7323", "5.5")
def test_after_24_days_of_silence_any_timestamp_is_young(wire):
    wire.established(ts=True)
    base = wire.peer_time()
    day = 86400
    wire.play(f"""
        +{25 * day}s in P. 1:101 <nop,nop,TS val {base - 1000} ecr ?>
        +0..40ms out  .   1:1 ack 101
        +0     check  readable == 100
    """)


@pytest.mark.rfc("7323", "3.2")
def test_a_segment_without_timestamps_is_taken_as_linux_does(wire):
    wire.established(ts=True)
    wire.play("""
        +5ms   in     P.  1:101 <>
        +0..40ms out  .   1:1 ack 101
    """)


@pytest.mark.rfc("7323", "4.1")
def test_the_round_trip_is_measured_by_the_echo_when_the_segment_was_sent_twice(wire):
    wire.established(ts=True)
    wire.play("""
        +0     app    send 500
        +0     out    P.  1:501 <nop,nop,TS val 10 ecr ?>
        +200ms..1s out P. 1:501
        +30ms  in     .   1:1 ack 501
        +0     check  10000 < rtt < 15000          # srtt moved by an eighth of 20..30 ms
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_timestamps": "0"})
def test_unasked_timestamps_are_not_answered(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0 <mss ?,sackOK,nop,wscale 7>
        +10ms  in     S.  0:0 ack 1 <mss 1000,nop,nop,TS val 5 ecr 0>
        +0     out    .   1:1 ack 1 <>
        +0     app    send 10
        +0     out    P.  1:11 <>
    """)


@pytest.mark.rfc("7323", "5.3")
def test_answers_that_come_too_soon_are_counted_by_what_was_wrong(wire):
    """tcp_invalid_ratelimit: for PAWS, for a sequence number, for a challenge (RFC 5961 §4.2)."""
    wire.established(ts=True)
    wire.play("""
        +1s    in     .   2:2 ack 1 <nop,nop,TS val 1 ecr 0>
        +0     out    .   1:1 ack 1
        +0     in     .   2:2 ack 1 <nop,nop,TS val 1 ecr 0>
        +0     check  TcpExtPAWSEstab == 2 and TcpExtTCPACKSkippedPAWS == 1
        +0     in     .   5000001:5000001 ack 1
        +0     check  TcpExtTCPACKSkippedSeq == 1
        +0     in     S   1:1
        +0     check  TcpExtTCPACKSkippedChallenge == 1
    """)
