"""RACK, RFC 8985 §6.2: text is lost when text sent well after it has been delivered.

"Well" is the reordering window: nothing at first and once the network has shown that it does not reorder, a quarter of
the minimum round trip where it does, and more of it each time a D-SACK says that even this was too hasty. Applies to
retransmissions alike. Without RACK (tcp_recovery 0) losses are counted as in RFC 6675 §5, at the end of this file.
"""

from typing import TYPE_CHECKING

from stack.tcp import timers as T
from stack.tcp.castate import NO_MARK, RACK_PERSIST, RECOVERY
from stack.tcp.scoreboard import Sent
from stack.units import MSEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

# net.ipv4.tcp_recovery
LOSS_DETECTION, STATIC_REO_WND, NO_DUPTHRESH = 1, 2, 4


def older(a: int, b: int) -> bool:
    """True if 32-bit timestamp `a` lies before `b`."""
    return ((a - b) & 0xFFFF_FFFF) >= 0x8000_0000


def rack_update(conn: "TcpConn", sent: Sent, ts_ecr: int, now: Nanos) -> None:
    """Steps 1–3: remember the newest transmission delivered, unless it is doubtful which one that was."""
    rec = conn.recovery
    rtt = now - sent.sent_at
    end = sent.end
    if sent.retrans:
        stale = conn.tcb.ts_ok and ts_ecr and older(ts_ecr, conn.ts_now(sent.sent_at))
        if rtt < conn.rtt.min_rtt or stale:
            return
    else:
        if end <= rec.high_seq:
            rec.originals = True
        if sent.start < rec.fack and (rec.reord_low == NO_MARK or sent.start < rec.reord_low):
            rec.reord_low = sent.start
    if sent.sent_at > rec.rack_sent_at or (sent.sent_at == rec.rack_sent_at and end > rec.rack_end):
        rec.rack_sent_at = sent.sent_at
        rec.rack_end = end
        rec.rack_rtt = rtt


def note_sacked(conn: "TcpConn", fresh: list[Sent]) -> None:
    """Step 3: what is the highest text delivered, and did any come from below what had been?"""
    rec = conn.recovery
    low = rec.reord_low
    if low != NO_MARK:
        rec.reord_low = NO_MARK
        if check_reordering(conn, low):
            conn.demux.mib.TcpExtTCPSACKReorder += 1
    for sent in fresh:
        rec.fack = max(rec.fack, sent.end)


def check_reordering(conn: "TcpConn", low: int) -> bool:
    """tcp_check_sack_reordering(): text from `low` on came after text from above it; by how many segments?"""
    rec, mss = conn.recovery, conn.tcb.mss_cache
    metric = max(rec.fack, conn.tcb.snd_una) - low
    if metric <= 0:
        return False
    if metric > rec.dupthresh * mss:
        rec.dupthresh = min(-(-metric // mss), max(conn.demux.sysctl.tcp_max_reordering, rec.dupthresh))
    rec.reord_seen += 1
    return True


def adapt_reo_wnd(conn: "TcpConn", prior_delivered: int) -> None:
    """Step 4: widen the window once a round trip in which a D-SACK came; give that up after sixteen recoveries.

    `prior_delivered` is what had been delivered when the text that this ACK is about left.
    """
    rec = conn.recovery
    if conn.demux.sysctl.tcp_recovery & STATIC_REO_WND:
        rec.rack_dsack = False
        return
    if rec.rack_dsack and prior_delivered < rec.rack_round:
        rec.rack_dsack = False  # the same round
    if rec.rack_dsack:
        rec.rack_dsack = False
        rec.reo_wnd_mult = min(rec.reo_wnd_mult + 1, 255)
        rec.rack_round = conn.counts.delivered
        rec.reo_wnd_persist = RACK_PERSIST
    elif not rec.reo_wnd_persist:
        rec.reo_wnd_mult = 1


def reo_wnd(conn: "TcpConn") -> Nanos:
    """Step 4: how much later than its successors a segment may be."""
    rec, rtt = conn.recovery, conn.rtt
    if not rec.reord_seen:
        if rec.ca >= RECOVERY:
            return 0
        enough = conn.board.sacked_out >= rec.dupthresh * conn.tcb.mss_cache
        if enough and not conn.demux.sysctl.tcp_recovery & NO_DUPTHRESH:
            return 0
    return min(rtt.min_rtt // 4 * rec.reo_wnd_mult, rtt.srtt)


def detect(conn: "TcpConn", now: Nanos) -> None:
    """Mark what is lost by now, and count it in `marked`."""
    if conn.demux.sysctl.tcp_recovery & LOSS_DETECTION:
        rack_detect(conn, now)
    else:
        _detect_by_count(conn)


def rack_detect(conn: "TcpConn", now: Nanos) -> None:
    """Step 5: mark what was sent well before something delivered; arm the reordering timer for what is on the edge.

    Walks the records in order of transmission and stops at the first that is not late: O(marked).
    """
    rec, board = conn.recovery, conn.board
    conn.timers.stop(T.REORDER)
    if not rec.rack_sent_at:
        return
    window_ns = rec.rack_rtt + reo_wnd(conn)
    for sent in board.by_time():
        if sent.sent_at > rec.rack_sent_at or (sent.sent_at == rec.rack_sent_at and sent.end >= rec.rack_end):
            break
        left = sent.sent_at + window_ns - now
        if left > 0:
            conn.timers.arm(T.REORDER, now + left + MSEC // 4)
            break
        _mark(conn, sent)


def _mark(conn: "TcpConn", sent: Sent) -> None:
    rec = conn.recovery
    if sent.resent:
        conn.demux.mib.TcpExtTCPLostRetransmit += 1
        rec.lost_again = True
    rec.marked += sent.end - sent.start
    conn.board.mark_lost(sent)


def _detect_by_count(conn: "TcpConn") -> None:
    """RFC 6675 §4 IsLost(): DupThresh ranges, or more than DupThresh - 1 segments' worth of text, SACKed above.

    Each hole is judged once, so a lost retransmission waits for the RTO. Amortised O(log n).
    """
    board, rec = conn.board, conn.recovery
    edge = board.lost_below(rec.dupthresh, (rec.dupthresh - 1) * conn.tcb.mss_cache)
    start = max(rec.counted_to, conn.tcb.snd_una)
    if edge > start:
        for sent in board.between(start, edge):
            if not sent.sacked and not sent.lost:
                _mark(conn, sent)
        rec.counted_to = edge
