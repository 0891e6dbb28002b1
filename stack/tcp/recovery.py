"""What is lost, and how much may be sent while mending it: RACK-TLP, PRR, RTO and undo.

States are Linux's: OPEN; DISORDER (SACKs or duplicate ACKs, nothing deemed lost yet); RECOVERY (fast recovery, cwnd by
PRR towards the congestion control's ssthresh); LOSS (after a retransmission timeout, slow start again). RECOVERY and
LOSS end when `high_seq`, SND.NXT at their beginning, is acknowledged.

Loss detection: RACK (RFC 8985) for peers with SACK; three duplicate ACKs and NewReno's partial ACKs (RFC 6582) for
those without. PRR is RFC 9937. Undo by timestamps (Eifel, RFC 4015) and by D-SACK, as Linux does both. It calls the
congestion control and keeps PRR's own window; it builds no packet.
"""

from typing import TYPE_CHECKING

from stack.tcp import timers as T
from stack.tcp.scoreboard import Sent
from stack.tcp.state import DRAINING, ESTABLISHED
from stack.units import MSEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

OPEN, DISORDER, CWR, RECOVERY, LOSS = range(5)
CA_NAMES = ("open", "disorder", "cwr", "recovery", "loss")

REDUCING = (CWR, RECOVERY)  # PRR brings the window down

NO_MARK = -1


class Recovery:
    """State of loss recovery; all sequence numbers unwrapped, all amounts bytes."""

    __slots__ = (
        "backoff",
        "ca",
        "dsack_seen",
        "dup_acks",
        "dupthresh",
        "fack",
        "high_seq",
        "limit",
        "prr_delivered",
        "prr_out",
        "rack_end",
        "rack_rtt",
        "rack_sent_at",
        "recover_fs",
        "reno_sacked",
        "reo_wnd_mult",
        "reo_wnd_persist",
        "reord_seen",
        "retrans_stamp",
        "tlp_high_seq",
        "tlp_resent",
        "undo_marker",
        "undo_retrans",
    )

    def __init__(self, dupthresh: int) -> None:
        self.ca = OPEN
        self.high_seq = 0
        self.dupthresh = dupthresh
        self.dup_acks = 0
        self.reno_sacked = 0  # what duplicate ACKs of a peer without SACK say has left the network
        self.fack = 0  # highest sequence number SACKed
        self.reord_seen = 0
        # PRR
        self.prr_delivered = self.prr_out = self.recover_fs = 0
        self.limit = 0  # PRR's cwnd while in RECOVERY
        # undo
        self.undo_marker = NO_MARK
        self.undo_retrans = 0
        self.retrans_stamp = -1  # our timestamp when the first retransmission of the episode left; −1 none
        self.dsack_seen = False
        # RACK
        self.rack_sent_at: Nanos = 0
        self.rack_end = 0
        self.rack_rtt: Nanos = 0
        self.reo_wnd_mult = 1
        self.reo_wnd_persist = 16
        # TLP and RTO
        self.tlp_high_seq = NO_MARK
        self.tlp_resent = False
        self.backoff = 0


def window(conn: "TcpConn") -> int:
    """Bytes that may be in flight now."""
    rec = conn.recovery
    return rec.limit if rec.ca in REDUCING else conn.cc.cwnd


# ---------------------------------------------------------------------- on each ACK


def on_ack(
    conn: "TcpConn",
    acked: int,
    delivered: int,
    fresh: list[Sent],
    flight: int,
    dup: bool,
    ts_ecr: int,
    rtt: Nanos,
    now: Nanos,
) -> None:
    """Advance recovery after the scoreboard took an ACK.

    `acked` bytes were cumulatively acknowledged, `delivered` left the network by ACK or SACK, `fresh` are the records
    that SACK newly covered, `flight` the pipe before the ACK, `dup` a duplicate ACK in the sense of RFC 5681 §2.
    """
    rec, tcb, board = conn.recovery, conn.tcb, conn.board
    una = tcb.snd_una
    if rec.tlp_high_seq != NO_MARK:
        _tlp_on_ack(conn, dup, now)
    if rec.ca == OPEN and not board.sacked_out and not board.lost_out and not dup:  # nothing is wrong: the usual case
        rec.dup_acks = 0
        if acked:
            on_plain_ack(conn, acked, flight, rtt, now)
        return
    if rec.ca >= RECOVERY and una >= rec.high_seq:
        _leave(conn, ts_ecr, now)
    elif rec.ca == CWR and una >= rec.high_seq:
        conn.cc.on_exit(now)
        rec.ca = OPEN
    elif rec.ca >= RECOVERY and acked and _try_undo(conn, ts_ecr, now):
        pass
    if tcb.sack_ok:
        rack_detect(conn, now)
    else:
        _reno_detect(conn, acked, dup)
    if rec.ca < RECOVERY:
        if board.lost_out:
            _enter_recovery(conn, flight, delivered, now)
        elif rec.ca != CWR:
            rec.ca = DISORDER if board.sacked_out or rec.dup_acks else OPEN
    if rec.ca in REDUCING:
        _prr(conn, delivered, acked > 0)
    elif acked and rec.ca == LOSS:
        conn.cc.on_ack(acked, rtt, now, flight)
    elif acked:
        on_plain_ack(conn, acked, flight, rtt, now)


def on_plain_ack(conn: "TcpConn", acked: int, flight: int, rtt: Nanos, now: Nanos) -> None:
    """All is well: cwnd grows where it was the limit (RFC 7661 §4.1); in slow start half used will do, as in Linux."""
    cc = conn.cc
    if conn.cwnd_limited or (cc.cwnd < cc.ssthresh and 2 * flight >= cc.cwnd):
        cc.on_ack(acked, rtt, now, flight)


def _enter_recovery(conn: "TcpConn", flight: int, delivered: int, now: Nanos) -> None:
    rec, tcb = conn.recovery, conn.tcb
    mib = conn.demux.mib
    if tcb.sack_ok:
        mib.TcpExtTCPSackRecovery += 1
    else:
        mib.TcpExtTCPRenoRecovery += 1
    already = rec.ca == CWR
    rec.ca = RECOVERY
    rec.high_seq = tcb.snd_nxt
    rec.undo_marker = tcb.snd_una
    rec.undo_retrans = 0
    rec.retrans_stamp = -1
    rec.dsack_seen = False
    if already:  # the marks came first: one reduction a round trip (RFC 3168 §6.1.2)
        rec.undo_marker = NO_MARK
        return
    conn.cc.on_loss(flight, now)
    rec.prr_delivered = rec.prr_out = 0
    rec.recover_fs = max(tcb.snd_nxt - tcb.snd_una - conn.board.sacked_out + delivered, 1)  # RFC 9937 §6.2
    conn.demux.trace("recovery", conn)


def enter_cwr(conn: "TcpConn", now: Nanos) -> bool:
    """The network marked, or the device is full: reduce without loss, once a round trip. False if that is under way."""
    rec, tcb = conn.recovery, conn.tcb
    if rec.ca >= CWR:
        return False
    rec.ca = CWR
    rec.high_seq = tcb.snd_nxt
    rec.undo_marker = NO_MARK
    conn.cc.on_ecn(conn.in_flight(), now)
    rec.prr_delivered = rec.prr_out = 0
    rec.recover_fs = max(tcb.snd_nxt - tcb.snd_una - conn.board.sacked_out, 1)
    rec.limit = conn.in_flight()
    return True


def _prr(conn: "TcpConn", delivered: int, advanced: bool) -> None:
    """RFC 9937 §6.2: how much this ACK lets go out, so that the pipe reaches ssthresh by the end of recovery."""
    rec, cc = conn.recovery, conn.cc
    rec.prr_delivered += delivered
    pipe = conn.in_flight()
    mss = cc.mss
    if pipe > cc.ssthresh:
        send = -(-rec.prr_delivered * cc.ssthresh // rec.recover_fs) - rec.prr_out
    else:
        send = max(rec.prr_delivered - rec.prr_out, delivered)
        if advanced and not conn.board.lost_out > conn.board.retrans_out:
            send += mss  # a safe ACK
        send = min(cc.ssthresh - pipe, send)
    if not rec.prr_out and rec.ca == RECOVERY:
        send = max(send, mss)  # the fast retransmission itself
    rec.limit = pipe + max(send, 0)


def after_timer(conn: "TcpConn", flight: int, now: Nanos) -> None:
    """The reordering timer found losses: recovery begins, or goes on, without an ACK."""
    if conn.recovery.ca < RECOVERY:
        _enter_recovery(conn, flight, 0, now)
    if conn.recovery.ca == RECOVERY:
        _prr(conn, 0, False)


def on_smaller_mss(conn: "TcpConn", now: Nanos) -> None:
    """The path takes only smaller segments: what was sent larger is lost, without blame (RFC 1191 §6.5)."""
    rec, board = conn.recovery, conn.board
    mss = conn.tcb.mss_cache
    for sent in board.outstanding():
        if not sent.sacked and sent.end - sent.start > mss:
            board.mark_lost(sent)
    if board.lost_out and rec.ca < RECOVERY:
        rec.ca = LOSS
        rec.high_seq = conn.tcb.snd_nxt
        rec.undo_marker = NO_MARK


def _leave(conn: "TcpConn", ts_ecr: int, now: Nanos) -> None:
    """The episode is over: all that was outstanding at its start is acknowledged."""
    rec, board = conn.recovery, conn.board
    if not _try_undo(conn, ts_ecr, now) and rec.ca == RECOVERY:
        conn.cc.on_exit(now)
    rec.ca = DISORDER if board.sacked_out else OPEN
    rec.dup_acks = 0
    rec.reno_sacked = 0
    rec.undo_marker = NO_MARK
    rec.retrans_stamp = -1


def _try_undo(conn: "TcpConn", ts_ecr: int, now: Nanos) -> bool:
    """Take the reduction back if the first retransmission was needless: RFC 4015 by timestamps, else by D-SACK."""
    rec = conn.recovery
    if rec.undo_marker == NO_MARK:
        return False
    by_dsack = rec.dsack_seen and rec.undo_retrans <= 0
    by_time = rec.retrans_stamp >= 0 and conn.tcb.ts_ok and _older(ts_ecr, rec.retrans_stamp)
    if not (by_dsack or by_time):
        return False
    mib = conn.demux.mib
    if by_dsack:
        mib.TcpExtTCPDSACKUndo += 1
    elif rec.ca == LOSS:
        mib.TcpExtTCPSpuriousRTOs += 1
    else:
        mib.TcpExtTCPFullUndo += 1
    conn.board.unmark_lost()
    conn.cc.on_undo(now)
    rec.undo_marker = NO_MARK
    rec.retrans_stamp = -1
    rec.backoff = 0
    rec.ca = DISORDER if conn.board.sacked_out else OPEN
    return True


def _older(a: int, b: int) -> bool:
    return ((a - b) & 0xFFFF_FFFF) >= 0x8000_0000


def on_dsack(conn: "TcpConn", left: int, right: int) -> None:
    """The peer got [left, right) twice (RFC 2883): a retransmission was needless, or the network duplicated."""
    rec = conn.recovery
    conn.counts.dsack_dups += 1
    conn.demux.mib.TcpExtTCPDSACKRecv += 1
    if rec.undo_marker != NO_MARK and left >= rec.undo_marker:
        rec.dsack_seen = True
        rec.undo_retrans -= right - left
    if rec.tlp_high_seq != NO_MARK and right >= rec.tlp_high_seq:
        rec.tlp_high_seq = NO_MARK  # both the original and the probe arrived: nothing was lost (RFC 8985 §7.4.2)
    rec.reo_wnd_mult = min(rec.reo_wnd_mult + 1, 255)
    rec.reo_wnd_persist = 16


# ---------------------------------------------------------------------- RACK, RFC 8985 §6.2


def rack_update(conn: "TcpConn", rec_sent: Sent, ts_ecr: int, now: Nanos) -> None:
    """Step 1–2: remember the most recently sent record delivered, unless a retransmission makes it doubtful."""
    rec = conn.recovery
    rtt = now - rec_sent.sent_at
    if rec_sent.retrans and (
        rtt < conn.rtt.min_rtt or (conn.tcb.ts_ok and ts_ecr and _older(ts_ecr, conn.ts_now(rec_sent.sent_at)))
    ):
        return
    if rec_sent.sent_at > rec.rack_sent_at or (rec_sent.sent_at == rec.rack_sent_at and rec_sent.end > rec.rack_end):
        rec.rack_sent_at = rec_sent.sent_at
        rec.rack_end = rec_sent.end
        rec.rack_rtt = rtt
    if rec_sent.end > rec.fack:
        rec.fack = rec_sent.end
    elif not rec_sent.retrans and rec_sent.end < rec.fack and not rec_sent.lost:
        if not rec.reord_seen:
            conn.demux.mib.TcpExtTCPSACKReorder += 1
        rec.reord_seen += 1


def _reo_wnd(conn: "TcpConn") -> Nanos:
    """Step 4: how late a segment may be before it counts as lost."""
    rec, rtt = conn.recovery, conn.rtt
    if not rec.reord_seen and (rec.ca >= RECOVERY or conn.board.sacked_out >= rec.dupthresh * conn.tcb.mss_cache):
        return 0
    return min(rtt.min_rtt // 4 * rec.reo_wnd_mult, rtt.srtt)


def rack_detect(conn: "TcpConn", now: Nanos) -> None:
    """Step 5: mark what was sent well before something delivered; arm the reordering timer for what is on the edge.

    Walks the records in order of transmission and stops at the first that is not late: O(marked).
    """
    rec, board = conn.recovery, conn.board
    conn.timers.stop(T.REORDER)
    if not rec.rack_sent_at:
        return
    late = []
    window_ns = rec.rack_rtt + _reo_wnd(conn)
    for sent in board.by_time:
        if sent.sent_at > rec.rack_sent_at or (sent.sent_at == rec.rack_sent_at and sent.end >= rec.rack_end):
            break
        left = sent.sent_at + window_ns - now
        if left > 0:
            conn.timers.arm(T.REORDER, now + left + MSEC // 4)
            break
        late.append(sent)
    for sent in late:
        if sent.resent:
            conn.demux.mib.TcpExtTCPLostRetransmit += 1
        board.mark_lost(sent)


def _reno_detect(conn: "TcpConn", acked: int, dup: bool) -> None:
    """Peers without SACK: RFC 5681 §3.2 and the partial ACKs of RFC 6582."""
    rec, board = conn.recovery, conn.board
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
    if (rec.ca < RECOVERY and rec.dup_acks >= rec.dupthresh) or (rec.ca == RECOVERY and not board.lost_out):
        _mark_head_lost(conn)


def _mark_head_lost(conn: "TcpConn") -> None:
    head = conn.board.first()
    if head is None or head.lost:
        return
    if head.end - head.start > conn.tcb.mss_cache:
        conn.board.split_head(conn.tcb.mss_cache)
    conn.board.mark_lost(head)


# ---------------------------------------------------------------------- tail loss probe, RFC 8985 §7


def tlp_schedule(conn: "TcpConn", now: Nanos) -> None:
    """§7.2: arm the probe timer after sending or on an ACK; asked once when the connection has no more to say."""
    rec, rtt, at = conn.recovery, conn.rtt, conn.timers.at
    if (
        conn.tcb.snd_una == conn.tcb.snd_nxt
        or rec.ca > DISORDER
        or not conn.tcb.sack_ok
        or conn.board.sacked_out
        or rec.tlp_high_seq != NO_MARK
        or not conn.demux.sysctl.tcp_early_retrans
        or conn.state not in DRAINING
    ):
        at[T.TLP] = T.NEVER
        return
    if rtt.srtt:
        pto = 2 * rtt.srtt
        if conn.tcb.snd_nxt - conn.tcb.snd_una <= conn.tcb.mss_cache:
            pto += rtt.rto_min  # the peer may delay the ACK of a lone segment
        else:
            pto += 2 * MSEC
        at[T.TLP] = min(now + pto, at[T.RTO])  # at the latest it takes the RTO's place
        return
    at[T.TLP] = T.NEVER


def _tlp_on_ack(conn: "TcpConn", dup: bool, now: Nanos) -> None:
    """§7.4: was a tail lost and mended by the probe? Then the congestion control must hear of it."""
    rec = conn.recovery
    una = conn.tcb.snd_una
    if una < rec.tlp_high_seq:
        return
    if not rec.tlp_resent or (una == rec.tlp_high_seq and dup):
        rec.tlp_high_seq = NO_MARK
    elif una > rec.tlp_high_seq:
        # Later data is acknowledged and no D-SACK came (on_dsack would have cleared the mark): the tail was lost.
        rec.tlp_high_seq = NO_MARK
        conn.demux.mib.TcpExtTCPLossProbeRecovery += 1
        conn.cc.on_loss(conn.in_flight(), now)
        conn.cc.on_exit(now)


# ---------------------------------------------------------------------- retransmission timeout


def on_rto(conn: "TcpConn", now: Nanos) -> None:
    """RFC 6298 §5.4–5.6 and RFC 5681 §3.1: presume all lost, one segment, double the timer."""
    rec, board, tcb = conn.recovery, conn.board, conn.tcb
    head = board.first()
    if head is not None and head.sacked:
        conn.demux.mib.TcpExtTCPSACKReneging += 1
        board.forget_sacks()
    flight = conn.in_flight()
    if rec.ca != LOSS or (head is not None and not head.retrans):
        if rec.ca < RECOVERY:
            rec.undo_marker = tcb.snd_una
            rec.undo_retrans = 0
            rec.dsack_seen = False
            rec.retrans_stamp = -1
        conn.cc.on_rto(flight, now)
    else:
        conn.cc.cwnd = conn.cc.mss
    rec.ca = LOSS
    rec.high_seq = tcb.snd_nxt
    rec.dup_acks = rec.reno_sacked = 0
    rec.tlp_high_seq = NO_MARK
    board.mark_all_lost()
    rec.backoff += 1
    conn.demux.mib.TcpExtTCPTimeouts += 1
    conn.demux.trace("rto", conn)


def on_retransmit(conn: "TcpConn", size: int, now: Nanos) -> None:
    """Told by output after it sent `size` bytes again."""
    rec = conn.recovery
    if rec.retrans_stamp < 0:
        rec.retrans_stamp = conn.ts_now(now)
    rec.undo_retrans += size


def may_be_idle(conn: "TcpConn", now: Nanos) -> None:
    """RFC 5681 §4.1: after an idle RTO the window is no longer a measurement; decay it before sending again."""
    idle = now - conn.counts.last_data_sent
    if (
        idle >= conn.rtt.rto
        and conn.state is ESTABLISHED
        and conn.recovery.ca == OPEN
        and conn.demux.sysctl.tcp_slow_start_after_idle
        and conn.counts.bytes_sent
    ):
        conn.cc.on_idle(idle, conn.rtt.rto)
