"""The course of loss recovery: what each ACK and each timer makes of the state, and when an episode begins and ends.

A copy of Linux's tcp_fastretrans_alert() and its helpers in structure. States are in tcp/castate.py. What is lost, RACK
decides (tcp/rack.py), or duplicate ACKs where the peer has no SACK (tcp/newreno.py); how fast the window comes down is
PRR's (tcp/prr.py); whether it was a mistake, tcp/undo.py tells; tails are probed by tcp/tlp.py. An episode ends when
`high_seq`, SND.NXT at its beginning, is acknowledged. This calls the congestion control and builds no packet.

After a timeout F-RTO (RFC 5682 §3.1, the SACK-enhanced form) holds back: if text that was never sent again turns out to
have been delivered, or new text draws no duplicate, the timeout was spurious and all is as it was.
"""

from typing import TYPE_CHECKING

from stack.tcp import newreno, rack
from stack.tcp import timers as T
from stack.tcp.castate import CWR, DISORDER, LOSS, NEW_FIRST, NEW_ONLY, NO_MARK, OPEN, RECOVERY, REDUCING
from stack.tcp.plpmtud import on_loss as mtu_probe_lost
from stack.tcp.prr import begin_reduction, end_reduction, reduce_window
from stack.tcp.tlp import tlp_on_ack
from stack.tcp.undo import STILL_OUT, begin_undo, undo_by_dsack, undo_loss, undo_partial, undo_recovery
from stack.units import MSEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

THIN_SEGS = 4  # fewer in flight draw no three duplicate ACKs
THIN_RETRIES = 6


def on_ack(
    conn: "TcpConn", acked: int, delivered: int, flight: int, dup: bool, ts_ecr: int, rtt: Nanos, now: Nanos
) -> bool:
    """Advance recovery after the scoreboard took an ACK. False if the retransmission timer is set already.

    An ACK that stops short of SACKed text means that the peer reneged; it gets a moment, then it is a timeout.
    `acked` bytes were cumulatively acknowledged, `delivered` left the network by ACK or SACK, `flight` is the pipe
    before the ACK, `dup` a duplicate ACK in the sense of RFC 5681 §2.
    """
    rec, board = conn.recovery, conn.board
    rec.marked = 0
    rec.lost_again = False
    rec.send_new = 0
    if rec.tlp_high_seq != NO_MARK:
        tlp_on_ack(conn, acked, dup, now)
    if rec.ca == OPEN and not (board.sacked_out or board.lost_out or dup) and rec.undo_retrans:  # the usual case
        rec.dup_acks = 0
        if acked:
            on_plain_ack(conn, acked, flight, rtt, now)
        return True
    head = board.first()
    if acked and head is not None and head.sacked:
        rec.originals = False
        conn.timers.arm(T.RTO, now + max(conn.rtt.srtt // 2, 10 * MSEC))  # tcp_check_sack_reneging()
        return False
    reno_sacked, mss = rec.reno_sacked, conn.tcb.mss_cache
    _advance(conn, acked, delivered, flight, dup, ts_ecr, now)
    rec.originals = False
    if not conn.tcb.sack_ok:
        delivered = mss if dup else max(delivered - reno_sacked, mss) if acked else 0
    if rec.ca in REDUCING:
        reduce_window(conn, delivered, acked > 0)
    elif acked and rec.ca == LOSS:
        conn.cc.on_ack(acked, rtt, now, flight)
    elif acked:
        on_plain_ack(conn, acked, flight, rtt, now)
    return True


def on_plain_ack(conn: "TcpConn", acked: int, flight: int, rtt: Nanos, now: Nanos) -> None:
    """All is well: cwnd grows where it was the limit (RFC 7661 §4.1); in slow start half used will do, as in Linux."""
    cc = conn.cc
    if conn.cwnd_limited or (cc.cwnd < cc.ssthresh and 2 * flight >= cc.cwnd):
        cc.on_ack(acked, rtt, now, flight)


def _advance(conn: "TcpConn", acked: int, delivered: int, flight: int, dup: bool, ts_ecr: int, now: Nanos) -> None:
    """tcp_fastretrans_alert()."""
    rec, tcb = conn.recovery, conn.tcb
    una = tcb.snd_una
    if rec.ca == OPEN:
        rec.retrans_stamp = -1
    elif rec.ca == CWR and una > rec.high_seq:  # beyond it, so that CWR reaches the peer
        end_reduction(conn, now)
        rec.ca = OPEN
    elif rec.ca == RECOVERY and una >= rec.high_seq:
        rec.reno_sacked = rec.dup_acks = 0
        undone = undo_recovery(conn, ts_ecr, now)
        if not tcb.sack_ok and una == rec.high_seq and tcb.snd_nxt > una:
            return  # the careful variant, RFC 6582 §6
        rec.ca = OPEN
        if not undone:
            end_reduction(conn, now)
    if rec.ca == LOSS:
        _in_loss(conn, acked, dup, ts_ecr, now)
        if rec.ca == LOSS:
            _detect(conn, acked, dup, now)
        if rec.ca != OPEN and not rec.lost_again:
            return
    elif rec.ca == RECOVERY and acked and (late := undo_partial(conn, acked, ts_ecr, now)):
        if late == STILL_OUT:
            rec.send_new = NEW_ONLY
            return
        _open(conn)
    if rec.ca not in (LOSS, CWR) and undo_by_dsack(conn, now) and rec.ca == RECOVERY:
        _open(conn)
    if rec.ca != LOSS:
        _detect(conn, acked, dup, now)
    if rec.ca == RECOVERY:
        return
    if conn.board.lost_out:
        _enter_recovery(conn, flight, delivered, now)
    elif rec.ca != CWR:
        _open(conn)


def _detect(conn: "TcpConn", acked: int, dup: bool, now: Nanos) -> None:
    if conn.tcb.sack_ok:
        rack.detect(conn, now)
    else:
        newreno.detect(conn, acked, dup)


def _open(conn: "TcpConn") -> None:
    """tcp_try_to_open(): OPEN, or DISORDER while something is missing or was sent again."""
    rec, board = conn.recovery, conn.board
    again = board.any_retrans()
    if not again:
        rec.retrans_stamp = -1
    state = DISORDER if board.sacked_out or board.lost_out or rec.dup_acks or again else OPEN
    if state != rec.ca:
        rec.ca = state
        rec.high_seq = conn.tcb.snd_nxt


def _enter_recovery(conn: "TcpConn", flight: int, delivered: int, now: Nanos) -> None:
    rec = conn.recovery
    mib = conn.demux.mib
    if conn.mtu_search is not None and mtu_probe_lost(conn, conn.mtu_search):
        _resend_without_blame(conn)
        return
    if conn.tcb.sack_ok:
        mib.TcpExtTCPSackRecovery += 1
    else:
        mib.TcpExtTCPRenoRecovery += 1
    already = rec.ca == CWR
    rec.ca = RECOVERY
    rec.high_seq = conn.tcb.snd_nxt
    begin_undo(conn)
    rec.ece = already
    if already:  # the marks came first: one reduction a round trip (RFC 3168 §6.1.2), and it stays
        return
    conn.cc.on_loss(flight, now)
    begin_reduction(conn, delivered)
    conn.demux.trace("recovery", conn)


def enter_cwr(conn: "TcpConn", now: Nanos) -> bool:
    """The network marked, or the device is full: reduce without loss, once a round trip. False if that is under way."""
    rec = conn.recovery
    if rec.ca >= CWR:
        return False
    rec.ca = CWR
    rec.high_seq = conn.tcb.snd_nxt
    rec.no_undo()
    conn.cc.on_ecn(conn.in_flight(), now)
    begin_reduction(conn, 0)
    return True


def after_timer(conn: "TcpConn", flight: int, now: Nanos) -> None:
    """The reordering timer found losses: recovery begins, or goes on, without an ACK (tcp_rack_reo_timeout)."""
    conn.recovery.send_new = 0
    if conn.recovery.ca < RECOVERY:
        _enter_recovery(conn, flight, 0, now)
    if conn.recovery.ca == RECOVERY:
        reduce_window(conn, conn.tcb.mss_cache, False)


def on_smaller_mss(conn: "TcpConn", now: Nanos) -> None:
    """The path takes only smaller segments: what was sent larger is lost, without blame (RFC 1191 §6.5)."""
    rec, board = conn.recovery, conn.board
    mss = conn.tcb.mss_cache
    for sent in board.outstanding():
        if not sent.sacked and sent.end - sent.start > mss:
            board.mark_lost(sent)
    if board.lost_out and rec.ca < RECOVERY:
        _resend_without_blame(conn)


def _resend_without_blame(conn: "TcpConn") -> None:
    """What is marked lost is sent again, at the window that there is: it was too large, not too much."""
    rec = conn.recovery
    rec.ca = LOSS
    rec.high_seq = conn.tcb.snd_nxt
    rec.no_undo()
    rec.frto = False


# ---------------------------------------------------------------------- retransmission timeout


def on_rto(conn: "TcpConn", now: Nanos) -> None:
    """RFC 6298 §5.4–5.6, RFC 5681 §3.1: presume lost what had time to arrive, one segment, double the timer."""
    rec, board = conn.recovery, conn.board
    knobs = conn.demux.sysctl
    _count_timeout(conn)
    flight = conn.in_flight()
    fresh_episode = rec.ca < RECOVERY
    head = board.first()
    if head is not None and head.sacked:
        conn.demux.mib.TcpExtTCPSACKReneging += 1
        board.forget_sacks()
        board.mark_all_lost()
    else:
        board.mark_all_lost(now - rec.rack_rtt if knobs.tcp_recovery & rack.LOSS_DETECTION else -1)
    rec.dup_acks = rec.reno_sacked = 0
    begins = rec.ca <= DISORDER or conn.tcb.snd_una >= rec.high_seq or (rec.ca == LOSS and not rec.retransmits)
    if begins:
        begin_undo(conn)
        rec.ece = False
        conn.cc.on_rto(flight, now)
        if rec.ca <= DISORDER and board.sacked_out >= rec.dupthresh * conn.tcb.mss_cache:
            rec.dupthresh = min(rec.dupthresh, knobs.tcp_reordering)
    conn.cc.on_loss_window(conn.in_flight())
    rec.ca = LOSS
    rec.high_seq = conn.tcb.snd_nxt
    rec.tlp_high_seq = NO_MARK
    rec.frto = bool(knobs.tcp_frto) and (fresh_episode or rec.retransmits > 0)
    rec.send_new = 0
    if conn.ecn is not None:
        conn.ecn.cwr_due = True
    if not rec.retransmits:
        rec.retry_since = now
        conn.counts.total_rto_recoveries += 1
    conn.counts.total_rto += 1
    rec.retransmits += 1
    if knobs.tcp_thin_linear_timeouts and _thin(conn) and rec.retransmits <= THIN_RETRIES:
        rec.backoff = 0
    else:
        rec.backoff += 1
    conn.demux.trace("rto", conn)


def _thin(conn: "TcpConn") -> bool:
    """tcp_stream_is_thin()."""
    tcb = conn.tcb
    return tcb.snd_nxt - tcb.snd_una < THIN_SEGS * tcb.mss_cache and not conn.cc.in_initial_slow_start()


def _count_timeout(conn: "TcpConn") -> None:
    """tcp_retransmit_timer(): which state the timeout found."""
    rec, mib = conn.recovery, conn.demux.mib
    mib.TcpExtTCPTimeouts += 1
    if rec.retransmits:
        return
    sack = conn.tcb.sack_ok
    if rec.ca == RECOVERY:
        mib.TcpExtTCPSackRecoveryFail += sack
        mib.TcpExtTCPRenoRecoveryFail += not sack
    elif rec.ca == LOSS:
        mib.TcpExtTCPLossFailures += 1
    elif rec.ca == DISORDER or conn.board.sacked_out:
        mib.TcpExtTCPSackFailures += sack
        mib.TcpExtTCPRenoFailures += not sack


def _in_loss(conn: "TcpConn", acked: int, dup: bool, ts_ecr: int, now: Nanos) -> None:
    """tcp_process_loss(): F-RTO, and the end of the episode."""
    rec, tcb = conn.recovery, conn.tcb
    recovered = tcb.snd_una >= rec.high_seq
    if acked and undo_loss(conn, ts_ecr, now, by_frto=False):
        if tcb.sack_ok:
            rec.ca = OPEN
        return
    if rec.frto:
        if rec.originals and undo_loss(conn, ts_ecr, now, by_frto=True):  # step 3.b
            rec.ca = OPEN
            return
        if tcb.snd_nxt > rec.high_seq:
            if dup or conn.board.sacked_out:
                rec.frto = False  # step 3.a: the loss was real
        elif acked and not recovered:
            rec.high_seq = tcb.snd_nxt
            if conn.sendq.end > tcb.snd_nxt and tcb.snd_una + tcb.snd_wnd > tcb.snd_nxt:
                rec.send_new = NEW_FIRST  # step 2.b
                return
            rec.frto = False
    if recovered:  # step 2.a
        undo_recovery(conn, ts_ecr, now)
        rec.dup_acks = rec.reno_sacked = 0
        if tcb.sack_ok or tcb.snd_una > rec.high_seq or tcb.snd_nxt == tcb.snd_una:
            rec.ca = OPEN
