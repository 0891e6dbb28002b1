"""The ACK half of segment arrival: RFC 9293 §3.10.7.4, fifth check, with SACK, RTT sampling and the send window."""

from typing import TYPE_CHECKING

from stack.seq import HALF32, MASK32
from stack.tcp import timers as T
from stack.tcp.castate import OPEN
from stack.tcp.ecn import on_marks
from stack.tcp.plpmtud import on_ack as mtu_probe_arrived
from stack.tcp.rack import adapt_reo_wnd, note_sacked, rack_update
from stack.tcp.rate import note_delivery
from stack.tcp.recovery import on_ack, on_plain_ack
from stack.tcp.scoreboard import Sent
from stack.tcp.undo import on_dsack
from stack.units import MSEC, Nanos
from stack.wire.tcp import FIN, SYN, Segment

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

UNKNOWN = -1


def ack_arrives(conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    """Take an acceptable acknowledgement: window, scoreboard, RTT, congestion control, timers.

    The caller has checked snd_una − max_window ≤ seg.ack ≤ snd_nxt (RFC 5961 §5.2) and unwrapped the fields.
    """
    tcb, board = conn.tcb, conn.board
    counts = conn.counts
    counts.last_ack_recv = now
    conn.probes_out = 0
    ack = seg.ack
    una = tcb.snd_una
    was_out = una != tcb.snd_nxt  # with nothing out there is nothing to be said about congestion
    wnd = seg.wnd << tcb.snd_wscale if not seg.flags & SYN else seg.wnd
    window_moved = _update_window(conn, seg, wnd)
    acked = ack - una
    late = acked < 0
    if late:  # Linux's old_ack: what it SACKs may be news all the same
        if not seg.sack:
            return
        acked, ack = 0, una
    rec, ecn = conn.recovery, conn.ecn
    marks = UNKNOWN
    if (
        acked
        and rec.ca == OPEN
        and seg.sack is None
        and not board.sacked_out
        and not board.lost_out
        and rec.tlp_high_seq < 0
        and not rec.dup_acks
        and not rec.rack_dsack
        and (ecn is None or not (marks := ecn.marks(conn, seg, acked)))
    ):
        _plain_ack(conn, ack, acked, seg.ts_ecr, now)
        return
    flight = conn.in_flight()
    was_sacked = board.sacked_out
    gone: list[Sent] = []
    if acked:
        tcb.snd_una = ack
        if conn.mtu_search is not None:
            mtu_probe_arrived(conn, conn.mtu_search)
        if ack > conn.sendq.start:
            conn.sendq.ack_to(min(ack, conn.sendq.end))
        gone = board.ack_to(ack)
        counts.bytes_acked += acked
        if rec.retransmits:
            counts.total_rto_time += now - rec.retry_since
        conn.persist_backoff = conn.keepalive_sent = rec.retransmits = 0
        conn.room_made()
    delivered = acked - (was_sacked - board.sacked_out)
    fresh = _take_sacks(conn, seg, ack, gone) if seg.sack and tcb.sack_ok else _NONE
    for sent in fresh:
        delivered += sent.end - sent.start
    rtt = 0
    if gone or fresh:
        rtt = _sample(conn, gone, fresh, delivered, seg.ts_ecr, acked, now)
    dup = (
        not acked
        and not late
        and not seg.length
        and not window_moved
        and tcb.snd_nxt > ack
        and not seg.flags & (SYN | FIN)
        and (not tcb.sack_ok or bool(seg.sack))
    )
    counts.delivered += delivered
    conn.demux.mib.TcpExtTCPDelivered += -(-delivered // tcb.mss_cache)
    if ecn is not None and was_out and not late:
        if marks == UNKNOWN:
            marks = ecn.marks(conn, seg, delivered)
        if marks:
            conn.demux.mib.TcpExtTCPDeliveredCE += marks
            rec.ece = True
            on_marks(conn, ecn, now)
    rearm = on_ack(conn, acked, delivered, flight, dup, seg.ts_ecr, rtt, now)
    if conn.cc_listens:
        _tell_cc(conn, delivered, flight, min(marks * tcb.mss_cache, delivered) if marks > 0 else 0, now)
    if rearm:
        _rearm(conn, acked, delivered, now)


def _plain_ack(conn: "TcpConn", ack: int, acked: int, ts_ecr: int, now: Nanos) -> None:
    """The usual ACK: all is well and text is acknowledged. What ack_arrives would do, without what it would skip."""
    tcb, board, counts, sendq = conn.tcb, conn.board, conn.counts, conn.sendq
    flight = tcb.snd_nxt - tcb.snd_una
    tcb.snd_una = ack
    if conn.mtu_search is not None:
        mtu_probe_arrived(conn, conn.mtu_search)
    sendq.ack_to(ack if ack < sendq.end else sendq.end)
    gone = board.ack_to(ack)
    counts.bytes_acked += acked
    conn.persist_backoff = conn.keepalive_sent = 0
    if conn.snd_stalled:
        conn.room_made()
    rtt = 0
    last = gone[-1] if gone else None
    if last is not None and not last.retrans and not gone[0].retrans:
        # Nothing was sent twice, so times rise with sequence numbers: the last is RACK's newest, the first the sample.
        rack_update(conn, last, ts_ecr, now)
        rtt = now - last.sent_at
        conn.rtt.on_sample(now - gone[0].sent_at, now)
        conn.recovery.backoff = 0
        note_delivery(conn, last, acked, now)
    elif gone:
        rtt = _sample(conn, gone, _NONE, acked, ts_ecr, acked, now)
    counts.delivered += acked
    conn.demux.mib.TcpExtTCPDelivered += -(-acked // tcb.mss_cache)
    on_plain_ack(conn, acked, flight, rtt, now)
    if conn.cc_listens:
        conn.recovery.marked = 0
        _tell_cc(conn, acked, flight, 0, now)
    conn.recovery.retransmits = 0
    at = conn.timers.at
    if ack == tcb.snd_nxt:
        at[T.RTO] = at[T.TLP] = at[T.REORDER] = T.NEVER
    else:
        conn.arm_rto(now)
        conn.tlp_stale = True


def _tell_cc(conn: "TcpConn", delivered: int, flight: int, marked: int, now: Nanos) -> None:
    """For those who listen: the sample of this ACK, the share of marks, and the pace that follows."""
    cc, sample, pacer = conn.cc, conn.sample, conn.pacer
    if cc.needs_ecn and conn.ecn is not None:
        cc.on_marks(delivered, marked, now)
    if sample is not None:
        rec = conn.recovery
        sample.acked = delivered
        sample.delivered_total = conn.counts.delivered
        sample.prior_in_flight = flight
        sample.in_flight = conn.in_flight()
        sample.lost = rec.marked
        sample.ca_state = rec.ca
        sample.srtt = conn.rtt.srtt
        cc.on_sample(sample, now)
        sample.delivered = sample.interval = sample.rtt = 0
    if pacer is not None:
        if cc.pacing_rate:
            pacer.set_rate(cc.pacing_rate)
        else:
            pacer.follow(cc.cwnd, cc.ssthresh, conn.tcb.snd_nxt - conn.tcb.snd_una, conn.rtt.srtt)


_NONE: list[Sent] = []


def _update_window(conn: "TcpConn", seg: Segment, wnd: int) -> bool:
    """SND.WND from a segment that is not older than the one it came from last, RFC 9293 §3.10.7.4.

    Where neither number moved, only a larger window or none at all is news (Linux's tcp_may_update_window): of two such
    segments it is not known which was sent last, and a window does not shrink.
    """
    tcb = conn.tcb
    if seg.ack >= tcb.snd_una and (
        seg.ack > tcb.snd_una or seg.seq > tcb.snd_wl1 or (seg.seq == tcb.snd_wl1 and (wnd > tcb.snd_wnd or not wnd))
    ):
        moved = wnd != tcb.snd_wnd
        if moved:
            tcb.snd_wnd = wnd
            if wnd > tcb.max_window:
                tcb.max_window = wnd
                conn.sync_mss()
            if wnd:
                conn.persist_backoff = 0
        tcb.snd_wl1 = seg.seq
        tcb.snd_wl2 = seg.ack
        return moved
    return False


def _take_sacks(conn: "TcpConn", seg: Segment, una: int, gone: list[Sent]) -> list[Sent]:
    """Unwrap and validate SACK blocks (RFC 2018, 2883 §4), hand the good ones to the scoreboard.

    A first block below the ACK's own number is a D-SACK; one below SND.UNA alone is just late.
    """
    nxt = conn.tcb.snd_nxt
    blocks: list[tuple[int, int]] = []
    wire = seg.sack or ()
    for index, (left32, right32) in enumerate(wire):
        left = una + (((left32 - una) & MASK32) ^ HALF32) - HALF32
        right = una + (((right32 - una) & MASK32) ^ HALF32) - HALF32
        if right <= left or right > nxt:
            continue
        if index == 0 and (left < seg.ack or (len(wire) > 1 and _inside(left, right, wire[1], una))):
            on_dsack(conn, left, right, left < seg.ack, gone)
        elif right > una:
            blocks.append((max(left, una), right))
    if not blocks:
        return _NONE
    if len(blocks) > 1:
        blocks.sort()
    return conn.board.sack(blocks, una)


def _inside(left: int, right: int, outer: tuple[int, int], una: int) -> bool:
    outer_left = una + (((outer[0] - una) & MASK32) ^ HALF32) - HALF32
    outer_right = una + (((outer[1] - una) & MASK32) ^ HALF32) - HALF32
    return outer_left <= left and right <= outer_right


def _sample(
    conn: "TcpConn", gone: list[Sent], fresh: list[Sent], delivered: int, ts_ecr: int, acked: int, now: Nanos
) -> Nanos:
    """RTT by Karn's rule (RFC 6298 §3), RACK's newest delivery, the delivery rate. Returns the newest RTT or 0.

    An ACK of anything retransmitted came when a hole was closed: it says nothing of what had waited behind the hole.
    """
    first = last = None
    filled = False
    for sent in gone:
        if sent.retrans:
            filled = True
        if not sent.sacked:
            rack_update(conn, sent, ts_ecr, now)
            if first is None:
                first = sent
            last = sent
    if filled:
        first = last = None
    for sent in fresh:
        rack_update(conn, sent, ts_ecr, now)
        if not sent.retrans:
            if first is None:
                first = sent
            last = sent
    newest = last or (fresh[-1] if fresh else gone[-1])
    prior = newest.delivered
    note_delivery(conn, newest, delivered, now)
    note_sacked(conn, fresh)
    if conn.tcb.sack_ok:
        adapt_reo_wnd(conn, prior)
    if first is not None and last is not None:
        conn.rtt.on_sample(now - first.sent_at, now)
        conn.recovery.backoff = 0
        return now - last.sent_at
    if acked and conn.tcb.ts_ok and ts_ecr:
        elapsed = (conn.ts_now(now) - ts_ecr) & MASK32
        if elapsed < 1 << 24:
            conn.rtt.on_sample(max(elapsed, 1) * MSEC, now)
            conn.recovery.backoff = 0
    return 0


def _rearm(conn: "TcpConn", acked: int, delivered: int, now: Nanos) -> None:
    """RFC 6298 §5.2–5.3: off when nothing is outstanding, from now when something new was acknowledged.

    As in Linux also when text was SACKed that left before the first was (last) sent: the first has time yet.
    """
    at = conn.timers.at
    tcb, rec = conn.tcb, conn.recovery
    if tcb.snd_una == tcb.snd_nxt:
        at[T.RTO] = at[T.TLP] = at[T.REORDER] = T.NEVER
        return
    if acked or (delivered and (head := conn.board.first()) is not None and rec.rack_sent_at < head.sent_at):
        conn.arm_rto(now)
    if acked or delivered:
        conn.tlp_stale = True
