"""Spurious timeouts: F-RTO, what the timeout spares, and the counters that tell them apart."""

import pytest


@pytest.mark.rfc("5682", "3.1")
def test_new_text_goes_first_and_its_ack_proves_the_timeout_spurious(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 20000
        +0     out    .   1:10001/1000
        +22ms  out    .   10001:11001                 # the probe
        +210ms out    .   1:1001
        +0     check  snd_cwnd == 1 and ca_state == "loss"
        +1ms   in     .   1:1 ack 2001                # the originals arrive after all
        +0     out    .   11001:14001/1000            # as much as the old window allows
        +0     check  ca_state == "open" and snd_cwnd >= 10 and TcpExtTCPSpuriousRTOs == 1 and TcpExtTCPLossUndo == 1
        +1ms   check  TcpRetransSegs == 1
    """)


@pytest.mark.rfc("5682", "3.1")
def test_only_what_was_sent_twice_is_acknowledged_so_new_text_must_decide(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 20000
        +0     out    .   1:10001/1000
        +22ms  out    .   10001:11001
        +210ms out    .   1:1001
        +10ms  in     .   1:1 ack 1001                # perhaps the second copy
        +0     out    .   11001:13001/1000            # step 2b: nothing old
        +10ms  in     .   1:1 ack 1001 <sack 11001:12001>
        +0     out    .   1001:2001                   # step 3a: the loss was real
        +0     check  ca_state == "loss" and TcpExtTCPSpuriousRTOs == 0
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_frto": "0"})
def test_without_frto_the_old_text_follows_at_once(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 20000
        +0     out    .   1:10001/1000
        +22ms  out    .   10001:11001
        +210ms out    .   1:1001
        +10ms  in     .   1:1 ack 1001
        +0     out    .   1001:3001/1000
    """)


@pytest.mark.rfc("5682", "3.1")
def test_sacked_originals_prove_it_as_well(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +22ms  out    P.  9001:10001
        +210ms out    .   1:1001
        +1ms   in     .   1:1 ack 1 <sack 3001:5001>
        +0     check  ca_state == "disorder" and TcpExtTCPSpuriousRTOs == 1
    """)


@pytest.mark.rfc("6298", "5.5")
@pytest.mark.wire(sysctl={"net.ipv4.tcp_thin_linear_timeouts": "1"})
def test_a_thin_stream_does_not_back_off_for_six_timeouts(wire):
    wire.established()
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +210ms out    .   1:1001
        +1ms   in     .   1:1 ack 10001               # no longer in the first slow start
        +0     app    send 500
        +0     out    P.  10001:10501
        +200ms..450ms out P. 10001:10501
        +200ms..450ms out P. 10001:10501
        +200ms..450ms out P. 10001:10501
    """)
