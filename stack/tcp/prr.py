"""Proportional rate reduction, RFC 9937: how the window comes down to ssthresh over one round trip.

While more is in flight than ssthresh, output is a share of what is delivered; below it, PRR sends what was delivered
(the conservative reduction bound), and one segment more on a safe ACK, one that advances and shows no further loss.
"""

from typing import TYPE_CHECKING

from stack.units import Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn


def begin_reduction(conn: "TcpConn", delivered: int) -> None:
    """§6.1, on entering CWR or RECOVERY; the congestion control has chosen ssthresh. `delivered` by this very ACK."""
    rec, tcb, board = conn.recovery, conn.tcb, conn.board
    rec.prr_delivered = rec.prr_out = 0
    rec.tlp_high_seq = -1
    rec.recover_fs = max(tcb.snd_nxt - tcb.snd_una - board.sacked_out - rec.reno_sacked + delivered, 1)
    rec.limit = conn.in_flight()


def reduce_window(conn: "TcpConn", delivered: int, advanced: bool) -> None:
    """§6.2: how much this ACK lets go out. `advanced`: SND.UNA did. Nothing happens if nothing was delivered."""
    if delivered <= 0:
        return
    rec, cc = conn.recovery, conn.cc
    rec.prr_delivered += delivered
    pipe = conn.in_flight()
    mss = cc.mss
    if pipe > cc.ssthresh:
        send = -(-rec.prr_delivered * cc.ssthresh // rec.recover_fs) - rec.prr_out
    else:
        send = max(rec.prr_delivered - rec.prr_out, delivered)
        if advanced and not rec.marked:
            send += mss  # a safe ACK
        send = min(cc.ssthresh - pipe, send)
    if not rec.prr_out:
        send = max(send, mss)  # the fast retransmission itself
    rec.limit = pipe + max(send, 0)


def end_reduction(conn: "TcpConn", now: Nanos) -> None:
    """§6.2: the episode is over; the window is ssthresh."""
    conn.cc.on_exit(now)
