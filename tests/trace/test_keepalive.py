"""Keepalive: probes on an idle connection, and what silence means."""

import pytest


@pytest.mark.rfc("9293", "3.8.4", "MUST-27")
def test_an_idle_connection_is_probed_and_an_answer_restarts_the_wait(wire):
    wire.established(keepalive=True, keepidle=10, keepintvl=5, keepcnt=3)
    wire.play("""
        +10s   out    .   0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +9.9s  quiet
        +0..200ms out .   0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +0     check  state is ESTABLISHED
    """)


@pytest.mark.rfc("9293", "3.8.4")
def test_silence_after_all_probes_is_a_timeout(wire):
    wire.established(keepalive=True, keepidle=10, keepintvl=5, keepcnt=3)
    wire.play("""
        +10s   out    .   0:0 ack 1
        +5s    out    .   0:0 ack 1
        +5s    out    .   0:0 ack 1
        +5s    out    R.  1:1 ack 1
        +0     check  state is CLOSED and error is ETIMEDOUT and FAILED in events and conns == 0
    """)


@pytest.mark.rfc("9293", "3.8.4", "MUST-25")
def test_no_probes_unless_asked_for(wire):
    wire.established(keepidle=10)
    wire.play("+100000s quiet")


@pytest.mark.rfc("9293", "3.8.4", "MUST-26")
def test_text_postpones_the_probe(wire):
    wire.established(keepalive=True, keepidle=10, keepintvl=5, keepcnt=3)
    wire.play("""
        +8s    in     P.  1:101
        +0..40ms out  .   1:1 ack 101
        +9.9s  quiet
        +0..200ms out .   0:0 ack 101
    """)


def test_turning_keepalive_on_later(wire):
    wire.established(keepidle=10)
    wire.play("""
        +5s    app    setopt keepalive 1
        +4.9s..10.1s out . 0:0 ack 1
    """)


@pytest.mark.rfc("9293", "3.8.4", "MUST-28")
def test_the_default_is_two_hours(wire):
    wire.established(keepalive=True)
    wire.play("""
        +7199s quiet
        +0..1.1s out  .   0:0 ack 1
    """)


@pytest.mark.rfc("9293", "3.8.4")
def test_a_probe_is_answered(wire):
    wire.established()
    wire.play("""
        +100s  in     .   0:0 ack 1
        +0     out    .   1:1 ack 1
        +100s  in     .   0:1 ack 1            # with one garbage byte
        +0     out    .   1:1 ack 1
        +0     check  readable == 0
    """)


@pytest.mark.rfc("9293", "3.8.4")
def test_with_an_octet_of_garbage(wire):
    wire.established(sack=True)
    wire.play("""
        +0     app    send 1000
        +0     out    P.  1:1001 ack 1
        +10ms  in     .   1:1 ack 1001
    """)
    wire.conn.octet_due = True
    wire.stack.tcp.mark(wire.conn)
    wire.play("+0  check  state is ESTABLISHED", loose=True)
    assert [wire.show(each.packet) for each in wire.sent] == [". 1000:1001 ack 1 win 65535"]
    wire.sent.clear()
    wire.play("+10ms  in     .   1:1 ack 1001 <nop,nop,sack 1000:1001>")
    assert wire.stack.mib.TcpExtTCPDSACKRecv == 1
    assert wire.conn.counts.dsack_dups == 0
