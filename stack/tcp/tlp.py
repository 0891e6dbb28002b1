"""Tail loss probes, RFC 8985 §7: where nothing more is sent, no ACK can show what is missing; so send something.

One probe at a time, at most one per round trip: new text if any may go, else the last segment again. As in Linux
the probe timer adds two milliseconds to twice the srtt, and for a lone segment tcp_rto_min instead of a guess at the
peer's delayed ACK.
"""

from typing import TYPE_CHECKING

from stack.tcp import timers as T
from stack.tcp.castate import CWR, DISORDER, NO_MARK, OPEN
from stack.tcp.prr import begin_reduction, end_reduction
from stack.tcp.state import DRAINING
from stack.units import MSEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn


def tlp_schedule(conn: "TcpConn", now: Nanos) -> None:
    """§7.2: arm the probe timer after sending or on an ACK; asked once when the connection has no more to say."""
    rec, rtt, at = conn.recovery, conn.rtt, conn.timers.at
    if (
        conn.tcb.snd_una == conn.tcb.snd_nxt
        or rec.ca not in (OPEN, CWR)
        or not conn.tcb.sack_ok
        or conn.board.sacked_out
        or rec.tlp_high_seq != NO_MARK
        or not conn.demux.sysctl.tcp_early_retrans
        or conn.state not in DRAINING
        or not rtt.srtt
    ):
        at[T.TLP] = T.NEVER
        return
    pto = 2 * rtt.srtt
    if conn.tcb.snd_nxt - conn.tcb.snd_una <= conn.tcb.mss_cache:
        pto += rtt.rto_min  # the peer may delay the ACK of a lone segment
    else:
        pto += 2 * MSEC
    at[T.TLP] = min(now + pto, at[T.RTO])  # at the latest it takes the RTO's place


def tlp_on_ack(conn: "TcpConn", acked: int, dup: bool, now: Nanos) -> None:
    """§7.4: was a tail lost and mended by the probe? Then the congestion control must hear of it."""
    rec = conn.recovery
    una = conn.tcb.snd_una
    seen, rec.tlp_dsack = rec.tlp_dsack, False
    if una < rec.tlp_high_seq:
        return
    if not rec.tlp_resent or seen:
        rec.tlp_high_seq = NO_MARK  # nothing was sent twice, or both copies arrived
    elif una > rec.tlp_high_seq:
        # Later text is acknowledged and no D-SACK came: the tail was lost, so reduce once (§7.4.2).
        rec.tlp_high_seq = NO_MARK
        conn.demux.mib.TcpExtTCPLossProbeRecovery += 1
        if rec.ca <= DISORDER:
            conn.cc.on_loss(conn.in_flight(), now)
            begin_reduction(conn, 0)
            end_reduction(conn, now)
    elif dup and not acked:
        rec.tlp_high_seq = NO_MARK  # a bare duplicate: the original and the probe arrived
