"""Taking a reduction back that was a mistake: Eifel by timestamps (RFC 4015), by D-SACK (RFC 2883, 3708), by F-RTO.

`undo_marker` is SND.UNA when the reduction happened, `undo_retrans` the bytes sent again since and not yet reported as
duplicates. When all of them are, or when the first ACK echoes a timestamp from before the first retransmission, nothing
was lost. The marker outlives the episode, for D-SACKs that come after it.

The rules are those of Linux 6.12 and later (net/ipv4/tcp_input.c; its function's name is in each docstring), which
these RFCs leave open or do not have:
- text that is acknowledged before anything was sent again was merely late, also without timestamps;
- a late original while retransmissions are out undoes nothing yet, but nothing more is deemed lost or sent again;
- only a D-SACK of what we did send again counts, and none once more duplicates were told of than we ever made;
- when the network marked since, recovery ends early but the window stays down;
- a full undo does not keep losses beyond `high_seq` from beginning the next episode with the same ACK.

Where the network reorders most episodes may end so, more often than in Linux: a batch of ACKs is taken before anything
is sent, so that an episode may begin and be undone within a batch, with nothing sent again and no window lost.
"""

from typing import TYPE_CHECKING

from stack.tcp.castate import LOSS, NO_MARK, RACK_PERSIST
from stack.tcp.rack import check_reordering, older
from stack.tcp.scoreboard import Sent
from stack.units import Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

STILL_OUT, UNDONE = 1, 2  # what undo_partial() found


def begin_undo(conn: "TcpConn") -> None:
    """tcp_init_undo(), tcp_retrans_stamp_cleanup(): a reduction begins here."""
    rec = conn.recovery
    rec.undo_marker = conn.tcb.snd_una
    rec.undo_retrans = conn.board.retrans_out or -1
    if not conn.board.any_retrans():
        rec.retrans_stamp = -1


def on_retransmit(conn: "TcpConn", size: int, now: Nanos) -> None:
    """Told by output after it sent `size` bytes again."""
    rec = conn.recovery
    if rec.retrans_stamp < 0:
        rec.retrans_stamp = conn.ts_now(now)
    rec.undo_retrans = max(rec.undo_retrans, 0) + size


def on_dsack(conn: "TcpConn", left: int, right: int, below: bool, gone: list[Sent]) -> None:
    """tcp_check_dsack(): the peer got [left, right) twice, `below` its ACK or above; `gone` was just acknowledged.

    A retransmission was needless, or the network duplicated.
    """
    rec, counts, mib, mss = conn.recovery, conn.counts, conn.demux.mib, conn.tcb.mss_cache
    if below:
        mib.TcpExtTCPDSACKRecv += 1
    else:
        mib.TcpExtTCPDSACKOfoRecv += 1
    if left == conn.octet_at and right == left + 1:
        return  # of a keepalive's octet
    size = right - left
    segs = -(-size // mss)
    counts.dsack_dups += segs
    if size > conn.tcb.max_window or counts.dsack_dups > counts.total_retrans:
        mib.TcpExtTCPDSACKIgnoredDubious += 1
        return  # more than it could have, or than we ever sent again: the network duplicates
    mib.TcpExtTCPDSACKRecvSegs += segs
    if size <= mss and rec.tlp_high_seq != NO_MARK and right == rec.tlp_high_seq:
        rec.tlp_dsack = True
    elif rec.reord_seen:
        rec.rack_dsack = True
    again = [sent for sent in (*gone, *conn.board.overlapping(left, right)) if sent.retrans and sent.end > left]
    if rec.undo_marker != NO_MARK and right > rec.undo_marker and rec.undo_retrans > 0:
        forgotten = right <= (gone[0].start if gone else conn.tcb.snd_una)
        if forgotten or any(sent.start < right for sent in again):
            rec.undo_retrans = max(rec.undo_retrans - size, 0)
    low = min((sent.start for sent in again if sent.sacked and sent.start < right), default=NO_MARK)
    if low != NO_MARK and (rec.ca != LOSS or rec.undo_marker != NO_MARK) and check_reordering(conn, low):
        mib.TcpExtTCPSACKReorder += 1


def may_undo(conn: "TcpConn", ts_ecr: int) -> bool:
    """tcp_may_undo()."""
    rec = conn.recovery
    return rec.undo_marker != NO_MARK and (not rec.undo_retrans or packet_delayed(conn, ts_ecr))


def packet_delayed(conn: "TcpConn", ts_ecr: int) -> bool:
    """tcp_packet_delayed(): what was acknowledged is the original, or nothing has been sent again at all.

    Not so for a peer without SACK at the end of an episode, which waits there with its retransmissions forgotten.
    """
    rec, tcb = conn.recovery, conn.tcb
    if rec.retrans_stamp < 0:
        return tcb.sack_ok or tcb.snd_una < rec.high_seq
    return tcb.ts_ok and ts_ecr > 0 and older(ts_ecr, rec.retrans_stamp)


def undo_by_dsack(conn: "TcpConn", now: Nanos) -> bool:
    """tcp_try_undo_dsack(): every retransmission was needless."""
    rec = conn.recovery
    if rec.undo_marker == NO_MARK or rec.undo_retrans:
        return False
    rec.reo_wnd_persist = min(RACK_PERSIST, rec.reo_wnd_persist + 1)
    restore(conn, now, unmark=False)
    conn.demux.mib.TcpExtTCPDSACKUndo += 1
    return True


def undo_partial(conn: "TcpConn", acked: int, ts_ecr: int, now: Nanos) -> int:
    """tcp_try_undo_partial(): `acked` bytes in the midst of recovery; did a late original fill the hole?

    UNDONE if so; STILL_OUT if something was sent again and is out yet, 0 if not.
    """
    if conn.recovery.undo_marker == NO_MARK or not packet_delayed(conn, ts_ecr):
        return 0
    mib = conn.demux.mib
    if check_reordering(conn, conn.tcb.snd_una - acked):
        mib.TcpExtTCPTSReorder += 1
    if conn.board.retrans_out:
        return STILL_OUT
    restore(conn, now, unmark=True)
    mib.TcpExtTCPPartialUndo += 1
    return UNDONE


def undo_recovery(conn: "TcpConn", ts_ecr: int, now: Nanos) -> bool:
    """tcp_try_undo_recovery(): all that was outstanding is acknowledged; was anything lost?"""
    rec = conn.recovery
    if may_undo(conn, ts_ecr):
        mib = conn.demux.mib
        if rec.ca == LOSS:
            mib.TcpExtTCPLossUndo += 1
        else:
            mib.TcpExtTCPFullUndo += 1
        restore(conn, now, unmark=False)
        return True
    if rec.reo_wnd_persist:
        rec.reo_wnd_persist -= 1
    return False


def undo_loss(conn: "TcpConn", ts_ecr: int, now: Nanos, by_frto: bool) -> bool:
    """tcp_try_undo_loss(): the timeout was spurious."""
    rec, mib = conn.recovery, conn.demux.mib
    if not by_frto and not may_undo(conn, ts_ecr):
        return False
    restore(conn, now, unmark=True)
    mib.TcpExtTCPLossUndo += 1
    if by_frto:
        mib.TcpExtTCPSpuriousRTOs += 1
    rec.retransmits = rec.backoff = 0
    return True


def restore(conn: "TcpConn", now: Nanos, unmark: bool) -> None:
    """tcp_undo_cwnd_reduction(): window and ssthresh as they were; with `unmark` nothing counts as lost any more."""
    rec = conn.recovery
    if unmark:
        conn.board.unmark_lost()
    if not rec.ece:
        conn.cc.on_undo(now)
        if conn.ecn is not None:
            conn.ecn.cwr_due = False
    rec.no_undo()
