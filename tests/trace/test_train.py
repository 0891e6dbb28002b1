"""A train: text that an extension cuts into small packets, decided on at once as a BIG TCP packet would be."""

import pytest

from kit.build import ACK, tcp
from kit.oracle import decode, joined
from stack.tcp.conn import TcpConn
from stack.tcp.extension import TcpExtension
from stack.wire.tcp import flags_text

pytestmark = pytest.mark.wire(only="offload offload6")
MAPPED = 30_000


class Mapper(TcpExtension):
    """No packet crosses a multiple of MAPPED."""

    def limit(self, conn: TcpConn, seq: int, size: int) -> int:
        return min(size, MAPPED - (seq - conn.tcb.iss - 1) % MAPPED)


def begin(wire, size, rtt="500us", **how):
    """`size` bytes queued on an open window that takes them all."""
    wire.established(mss=1000, wscale=7, rtt=rtt, **how)
    wire.conn.ext = Mapper()
    wire.conn.cc.cwnd = 1 << 20
    wire.play("""
        +0     in   .  1:1 ack 1 win 8000
    """)
    if size:
        wire.conn.send(bytes(size))


def poll(wire):
    """The next packet, decoded; None if there is none."""
    out = wire.stack.poll_transmit(wire.clock.now)
    return None if out is None else decode(joined(out[1]))


def rest(wire):
    return list(iter(lambda: poll(wire), None))


@pytest.mark.rfc("9293", "3.8.6")
def test_one_decision_many_packets(wire):
    begin(wire, 200_000)
    conn = wire.conn
    before = conn.counts.segs_out
    first = poll(wire)
    assert len(first.payload) == MAPPED
    assert conn.tcb.snd_nxt - conn.tcb.snd_una == 200_000, "all of it counts as sent"
    assert len(conn.board) == 1
    packets = [first, *rest(wire)]
    assert [len(each.payload) for each in packets] == [MAPPED] * 6 + [20_000]
    starts = [(each.seq - packets[0].seq) % (1 << 32) for each in packets]
    assert starts == [MAPPED * index for index in range(7)]
    assert [flags_text(each.flags) for each in packets] == ["."] * 6 + ["P."]
    wire.play("+500us in . 1:1 ack 200001")
    assert conn.counts.data_segs_out == conn.counts.segs_out - before == 200
    conn.check()


def test_for_a_far_peer_no_more_than_a_packet_is_decided_on_at_once(wire):
    begin(wire, 200_000, rtt="2ms")
    poll(wire)
    assert wire.conn.tcb.snd_nxt - wire.conn.tcb.snd_una == 65_000


def test_an_abort_in_the_middle_resets_where_the_text_ended(wire):
    begin(wire, 200_000)
    sent = poll(wire)
    wire.conn.abort()
    (reset,) = rest(wire)
    assert (flags_text(reset.flags), reset.seq) == ("R.", (sent.seq + MAPPED) % (1 << 32))


def test_who_acknowledges_what_was_not_sent_yet_does_no_harm(wire):
    begin(wire, 200_000)
    poll(wire)
    conn = wire.conn
    wire.stack.receive(
        tcp(conn.remote, conn.local, ACK, conn.tcb.rcv_nxt, conn.tcb.snd_nxt, win=8000), wire.clock.now, wire.link
    )
    assert rest(wire) == []
    wire.conn.check()
    wire.conn.send(bytes(10_000))
    assert sum(len(each.payload) for each in rest(wire)) == 10_000


@pytest.mark.rfc("6675", "5")
def test_what_is_lost_of_it_goes_again_within_its_mapping(wire):
    begin(wire, 0, sack=True)
    wire.play("""
        +0     app  send 90000
        +0     out  .   1:30001/1000
        +0     out  .   30001:60001/1000
        +0     out  .   60001:89001/1000
        +0     out  P.  89001:90001
        +500us in   .   1:1 ack 20001 <nop,nop,sack 40001:90001>
        +0     out  .   20001:30001/1000
        +0     out  .   30001:40001/1000
        +500us in   .   1:1 ack 90001
    """)


def test_the_end_follows_the_last_packet(wire):
    begin(wire, 70_000)
    wire.conn.shutdown()
    packets = rest(wire)
    assert [len(each.payload) for each in packets] == [30_000, 30_000, 10_000, 0]
    assert [flags_text(each.flags) for each in packets] == [".", ".", "P.", "F."]


def test_what_becomes_urgent_meanwhile_leaves_segment_by_segment(wire):
    """Whoever cuts a super-segment would repeat the urgent pointer."""
    begin(wire, 100_000)
    assert len(poll(wire).payload) == MAPPED
    wire.conn.send(b"!", urgent=True)
    packets = rest(wire)
    assert all(len(each.payload) <= 1000 for each in packets)
    assert sum(len(each.payload) for each in packets) == 100_001 - MAPPED
