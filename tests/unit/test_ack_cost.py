"""The cost of an ACK does not grow with what is in flight: lines of Python are counted, not microseconds."""

import sys

import pytest

from kit.trace import Trace
from stack.tcp.conn import TcpConn

pytestmark = pytest.mark.long

SEGMENTS = (1_000, 20_000)


@pytest.fixture(autouse=True)
def no_invariants(monkeypatch):
    """The kit checks them after each step, and that does grow."""
    monkeypatch.setattr(TcpConn, "check", lambda _conn: None)


def in_flight(count: int) -> Trace:
    """A connection with `count` segments of 1000 bytes outstanding, one record each."""
    wire = Trace(v6=False, offload=False)
    wire.established(sack=True, ts=False)
    conn = wire.conn
    conn.cc.cwnd = 2 * count * 1000
    conn.tcb.snd_wnd = conn.tcb.max_window = 1 << 30
    conn.tcb.snd_wscale = 14
    conn.send(bytes(count * 1000))
    wire.flush()
    wire.sent.clear()
    assert len(conn.board) == count
    return wire


def lines(wire: Trace, script: str) -> int:
    """Lines that the stack executes while it takes these segments and answers."""
    count = 0

    def on_line(_frame, event, _arg):
        nonlocal count
        count += event == "line"
        return on_line

    def on_call(frame, _event, _arg):
        return on_line if "/stack/" in frame.f_code.co_filename else None

    sys.settrace(on_call)
    try:
        wire.play(script, loose=True)
    finally:
        sys.settrace(None)
    wire.sent.clear()
    return count


@pytest.mark.rfc("6675", "5")
@pytest.mark.parametrize(
    "script",
    [
        "+10ms in . 1:1 ack 2001 win 60000",
        "+10ms in . 1:1 ack 1 win 60000 <sack 500001:501001>",
        "+10ms in . 1:1 ack 1 win 60000 <sack 500001:501001 300001:301001 100001:102001>",
        "+10ms in . 1:1 ack 1501 win 60000",
    ],
    ids=["ack", "sack", "three blocks", "half a segment"],
)
def test_an_ack_costs_the_same_with_little_and_much_in_flight(script):
    few, many = (lines(in_flight(count), script) for count in SEGMENTS)
    assert many <= few + 200  # the search is logarithmic


@pytest.mark.rfc("8985", "6.2")
def test_so_does_an_ack_in_the_middle_of_recovery():
    costs = []
    for count in SEGMENTS:
        wire = in_flight(count)
        end = count * 1000 + 1
        lines(wire, f"+10ms in . 1:1 ack 1 win 60000 <sack 20001:{end - 1000}>")
        more = [lines(wire, f"+1ms in . 1:1 ack {at} win 60000 <sack 20001:{end - 1000}>") for at in (1001, 2001, 3001)]
        costs.append(max(more))
    assert costs[1] <= costs[0] + 200
