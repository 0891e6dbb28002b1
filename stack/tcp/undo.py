"""Taking a reduction back that was a mistake: Eifel by timestamps (RFC 4015), by D-SACK (RFC 2883, 3708), by F-RTO.

`undo_marker` is SND.UNA when the reduction happened, `undo_retrans` the bytes sent again since and not yet reported as
duplicates. When all of them are, or when the first ACK echoes a timestamp from before the first retransmission, nothing
was lost. As in Linux the marker outlives the episode, for D-SACKs that come after it.
"""

from typing import TYPE_CHECKING

from stack.tcp.castate import LOSS, NO_MARK, RACK_PERSIST
from stack.tcp.rack import older
from stack.units import Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn


def begin_undo(conn: "TcpConn") -> None:
    """tcp_init_undo(): a reduction begins here."""
    rec = conn.recovery
    rec.undo_marker = conn.tcb.snd_una
    rec.undo_retrans = conn.board.retrans_out
    rec.dsack_seen = False
    if not rec.undo_retrans:
        rec.retrans_stamp = -1


def on_retransmit(conn: "TcpConn", size: int, now: Nanos) -> None:
    """Told by output after it sent `size` bytes again."""
    rec = conn.recovery
    if rec.retrans_stamp < 0:
        rec.retrans_stamp = conn.ts_now(now)
    rec.undo_retrans += size


def on_dsack(conn: "TcpConn", left: int, right: int) -> None:
    """The peer got [left, right) twice (RFC 2883): a retransmission was needless, or the network duplicated."""
    rec = conn.recovery
    conn.counts.dsack_dups += 1
    conn.demux.mib.TcpExtTCPDSACKRecv += 1
    if conn.counts.dsack_dups > conn.counts.total_retrans:
        return  # more than we ever sent again: the network duplicates
    if rec.tlp_high_seq != NO_MARK and right == rec.tlp_high_seq:
        rec.tlp_dsack = True
    elif rec.reord_seen:
        rec.rack_dsack = True
    if rec.undo_marker != NO_MARK and right > rec.undo_marker:
        rec.dsack_seen = True
        rec.undo_retrans -= right - left


def may_undo(conn: "TcpConn", ts_ecr: int) -> bool:
    """tcp_may_undo()."""
    rec = conn.recovery
    if rec.undo_marker == NO_MARK:
        return False
    return (rec.dsack_seen and rec.undo_retrans <= 0) or packet_delayed(conn, ts_ecr)


def packet_delayed(conn: "TcpConn", ts_ecr: int) -> bool:
    """tcp_packet_delayed(): what was acknowledged is the original, or nothing has been sent again at all."""
    rec = conn.recovery
    if rec.retrans_stamp < 0:
        return conn.tcb.sack_ok
    return conn.tcb.ts_ok and ts_ecr > 0 and older(ts_ecr, rec.retrans_stamp)


def undo_by_dsack(conn: "TcpConn", now: Nanos) -> bool:
    """tcp_try_undo_dsack(): every retransmission was needless."""
    rec = conn.recovery
    if rec.undo_marker == NO_MARK or not rec.dsack_seen or rec.undo_retrans > 0:
        return False
    rec.reo_wnd_persist = min(RACK_PERSIST, rec.reo_wnd_persist + 1)
    restore(conn, now, unmark=False)
    conn.demux.mib.TcpExtTCPDSACKUndo += 1
    return True


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
    """Window and ssthresh as they were; with `unmark` nothing counts as lost any more."""
    rec = conn.recovery
    if unmark:
        conn.board.unmark_lost()
    conn.cc.on_undo(now)
    if conn.ecn is not None:
        conn.ecn.cwr_due = False
    rec.undo_marker = NO_MARK
    rec.dsack_seen = False
