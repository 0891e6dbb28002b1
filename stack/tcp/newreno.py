"""Peers without SACK: three duplicate ACKs (RFC 5681 §3.2), partial ACKs (RFC 6582), limited transmit (RFC 3042).

Each duplicate ACK says that one segment has left the network; `reno_sacked` counts them off the pipe, and so the first
two let new text out by themselves. The careful variant (RFC 6582 §6): recovery ends only when something beyond
`high_seq` is acknowledged, so that duplicates of what was sent twice begin no second one.
"""

from typing import TYPE_CHECKING

from stack.tcp.castate import RECOVERY

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn


def detect(conn: "TcpConn", acked: int, dup: bool) -> None:
    """Count a duplicate ACK, or what an ACK took off them; deem the first segment lost when it is time."""
    rec = conn.recovery
    mss = conn.tcb.mss_cache
    if dup:
        rec.dup_acks += 1
        rec.reno_sacked = min(rec.reno_sacked + mss, max(conn.tcb.snd_nxt - conn.tcb.snd_una - mss, 0))
    elif acked:
        if rec.ca == RECOVERY:  # a partial ACK: the next hole begins where it ends
            rec.reno_sacked = max(rec.reno_sacked - max(acked - mss, 0), 0)
            _mark_head_lost(conn)
            return
        rec.dup_acks = 0
        rec.reno_sacked = 0
    if rec.ca < RECOVERY and rec.dup_acks >= rec.dupthresh:
        _mark_head_lost(conn)


def _mark_head_lost(conn: "TcpConn") -> None:
    board, mss = conn.board, conn.tcb.mss_cache
    head = board.first()
    if head is None or head.lost:
        return
    if head.end - head.start > mss:
        board.split_head(mss)
    conn.recovery.marked += head.end - head.start
    board.mark_lost(head)
