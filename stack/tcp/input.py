"""Segment arrival, RFC 9293 §3.10.7, one function per check, fast path first.

Input changes the connection and marks what output owes; it sends nothing. A burst of segments is therefore answered by
one ACK, except that every out-of-order segment is owed its own (RFC 5681 §4.2), which is counted in `dup_acks_due`.
"""

import errno
from typing import TYPE_CHECKING

from stack.events import CONNECTED, PEER_CLOSED, READABLE
from stack.seq import HALF32, MASK32, ts_before
from stack.tcp import timers as T
from stack.tcp.accecn import on_syn as ecn_on_syn
from stack.tcp.ack import ack_arrives
from stack.tcp.fastopen import ClientOpen, ServerOpen
from stack.tcp.fastopen import take_ack as take_fast_ack
from stack.tcp.plpmtud import start as start_mtu_search
from stack.tcp.state import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    RECEIVING,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
)
from stack.tcp.urgent import on_pointer
from stack.units import MSEC, SEC, Nanos
from stack.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Segment
from stack.wire.tcp_options import SynOptions, parse_syn_options

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn
    from stack.tcp.extension import TcpExtension

PAWS_IDLE = 24 * 86400 * SEC  # RFC 7323 §5.5
PAWS_WINDOW = 1  # ticks of the peer's clock
FAST_FLAGS = 0xFF & ~(PSH | CWR | ECE)  # any flag but these takes the slow path
DELACK_MIN = 40 * MSEC
DELACK_MAX = 200 * MSEC
AFTER_FIN = frozenset((CLOSE_WAIT, CLOSING, LAST_ACK))
MAX_ECHO = 1 << 24  # ms; a timestamp echo older than that is a lie
AGAIN_SOON = 2 * MSEC  # Linux's TCP_TIMEOUT_MIN


def segment_arrives(conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    """One segment for a connection in any state but LISTEN and CLOSED. Marks the connection dirty."""
    tcb = conn.tcb
    counts = conn.counts
    counts.segs_in += seg.packets
    if seg.length:
        counts.data_segs_in += seg.packets
    conn.demux.mark(conn)
    near = tcb.rcv_nxt
    seg.seq = seq = near + (((seg.seq - near) & MASK32) ^ HALF32) - HALF32
    near = tcb.snd_una
    seg.ack = ack = near + (((seg.ack - near) & MASK32) ^ HALF32) - HALF32
    flags = seg.flags
    # Header prediction: in-order, nothing unusual. Skips only checks that would pass (tests/prop compares the two).
    if (
        conn.state is ESTABLISHED
        and flags & FAST_FLAGS == ACK
        and seq == tcb.rcv_nxt
        and tcb.snd_una <= ack <= tcb.snd_nxt
        and (seg.ts_val < 0 or (tcb.ts_ok and not (seg.ts_val - tcb.ts_recent) & HALF32))
        and (seg.ts_val >= 0 or not tcb.ts_ok)
        and seq + seg.length <= tcb.rcv_wup + tcb.rcv_wnd
    ):
        if tcb.ts_ok and seq <= tcb.last_ack_sent:
            tcb.ts_recent = seg.ts_val
            tcb.ts_recent_at = now
        if conn.ecn is not None:
            conn.ecn.on_segment(conn, seg)
        if not seg.length:
            conn.demux.mib.TcpExtTCPHPAcks += 1
            ack_arrives(conn, seg, now)
        elif ack != tcb.snd_una or seg.wnd << tcb.snd_wscale != tcb.snd_wnd or seg.sack or flags & ECE:
            ack_arrives(conn, seg, now)
        else:
            conn.demux.mib.TcpExtTCPHPHits += 1
            tcb.snd_wl1 = max(tcb.snd_wl1, seq)
        ext = conn.ext
        if ext is None:
            if seg.length:
                text_arrives(conn, seq, seg.payload, now)
        elif seg.length and conn.peer_fin_seq < 0 and not conn.recvq.has_holes() and ext.takes(conn, seg, now):
            text_arrives(conn, seq, seg.payload, now, ext)
        elif not ext.on_segment(conn, seg, now):
            conn.ack_due = True
        elif seg.length:
            text_arrives(conn, seq, seg.payload, now)
        return
    if conn.state is SYN_SENT:
        syn_sent_arrives(conn, seg, now)
        return
    _slow_path(conn, seg, now)


def _slow_path(conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    if not seg.flags & (ACK | RST | SYN):
        return  # fifth check, first clause; before all others, as in Linux
    if not _paws_ok(conn, seg, now):
        return
    if conn.state is SYN_RECEIVED and seg.flags & SYN and seg.seq == conn.tcb.irs and not seg.flags & RST:
        if not seg.flags & ACK:
            conn.syn_due = True  # the peer's SYN again: our SYN-ACK was lost
            return
        seg.flags &= ~SYN  # simultaneous open: its SYN-ACK, of which only the ACK is news
        seg.seq += 1
    if not _acceptable(conn, seg, now):
        return
    if seg.flags & RST:
        _reset_arrives(conn, seg, now)
        return
    if seg.flags & SYN:
        _syn_arrives(conn, seg, now)
        return
    if not seg.flags & ACK:
        return
    if not _ack_check(conn, seg, now):
        return
    if conn.ecn is not None:
        conn.ecn.on_segment(conn, seg)
    if conn.ext is not None and not conn.ext.on_segment(conn, seg, now):
        conn.ack_due = True
        return
    if seg.length or seg.flags & FIN:
        _text_and_fin(conn, seg, now)


# ---------------------------------------------------------------------- SYN-SENT, RFC 9293 §3.10.7.3


def syn_sent_arrives(conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    """The answer to our SYN, or a SYN that crossed it."""
    tcb = conn.tcb
    flags = seg.flags
    if conn.fastopen is not None and flags & ACK:
        take_fast_ack(conn, conn.fastopen, seg.ack)
    if flags & ACK and not tcb.iss < seg.ack <= tcb.snd_nxt:
        if not conn.syn_retries:
            conn.timers.arm(T.RTO, now + AGAIN_SOON)  # an old connection's FIN or RST; the next SYN may do better
        if not flags & RST:
            conn.demux.reset_for(conn, seg)
        return
    if flags & RST:
        if flags & ACK:
            if conn.ext is not None:
                conn.ext.on_reset(conn, seg, now)
            conn.demux.mib.TcpAttemptFails += 1
            conn.demux.trace("refused", conn)
            conn.fail(errno.ECONNREFUSED)
        return
    if not flags & SYN:
        return
    peer = parse_syn_options(seg.options)
    tcb.irs = seg.seq = seg.seq & MASK32
    take_syn(conn, seg, peer, now)
    if flags & ACK:
        tcb.snd_una = seg.ack
        if isinstance(conn.fastopen, ClientOpen):
            conn.demux.fastopen.learn(conn, conn.fastopen, peer, seg.ack - tcb.iss - 1)
        if conn.syn_retries == 0:
            conn.rtt.on_sample(now - conn.syn_sent_at, now)
        elif tcb.ts_ok and (elapsed := (conn.ts_now(now) - seg.ts_ecr) & MASK32) < MAX_ECHO:
            conn.rtt.on_sample(max(elapsed, 1) * MSEC, now)
        enter_established(conn, now)
        conn.ack_due = True
        if seg.length or flags & FIN:
            seg.seq += 1
            _text_and_fin(conn, seg, now)
    else:
        conn.state = SYN_RECEIVED  # simultaneous open: our SYN again, now with an ACK
        conn.syn_due = True
        conn.syn_retries = 0


def take_syn(conn: "TcpConn", seg: Segment, peer: SynOptions, now: Nanos) -> None:
    """Note what the peer's SYN says: sequence number, MSS, scale, SACK, timestamps (each only if we offered it)."""
    tcb = conn.tcb
    knobs = conn.demux.sysctl
    tcb.irs = seg.seq
    tcb.rcv_nxt = tcb.rcv_wup = tcb.last_ack_sent = seg.seq + 1
    conn.recvq.nxt = tcb.rcv_nxt
    tcb.rcv_wnd = min(conn.rcvbuf.size, 65535)
    tcb.peer_mss = max(peer.mss if peer.mss else (1220 if conn.v6 else 536), 1)
    tcb.wscale_ok = peer.wscale is not None and bool(knobs.tcp_window_scaling)
    if tcb.wscale_ok:
        tcb.snd_wscale = peer.wscale or 0
        tcb.rcv_wscale = conn.window_shift()
    tcb.sack_ok = peer.sack_ok and bool(knobs.tcp_sack)
    tcb.ts_ok = peer.ts_val is not None and bool(knobs.tcp_timestamps)
    if tcb.ts_ok and peer.ts_val is not None:
        tcb.ts_recent = peer.ts_val
        tcb.ts_recent_at = now
    tcb.snd_wnd = tcb.max_window = seg.wnd
    tcb.snd_wl1 = seg.seq
    tcb.snd_wl2 = seg.ack
    conn.sync_mss()
    ecn_on_syn(conn, seg)
    if conn.ext is not None:
        conn.ext.on_syn(conn, peer.unknown, now)


def enter_established(conn: "TcpConn", now: Nanos) -> None:
    """Both SYNs are acknowledged."""
    tcb = conn.tcb
    conn.state = ESTABLISHED
    conn.established = True
    conn.timers.stop(T.RTO)
    conn.use_cc(type(conn.cc)(tcb.mss_cache, now), now)  # now that the MSS is known
    conn.rcvbuf.start(tcb.rcv_nxt, tcb.rcv_wnd, conn.rtt.srtt, tcb.advmss, now)
    conn.counts.last_data_recv = conn.counts.last_ack_recv = now
    conn.demux.trace("established", conn)
    if conn.fin_queued:
        conn.state = FIN_WAIT_1
    conn.arm_keepalive()
    start_mtu_search(conn, now)
    conn.post(CONNECTED)


# ---------------------------------------------------------------------- the checks of §3.10.7.4


def _paws_ok(conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
    """RFC 7323 §5.3: drop and acknowledge a segment whose timestamp is older than the last one in order.

    As in Linux, one tick of age is allowed, a duplicate pure ACK that is merely late passes, and an ACK from before the
    last text is dropped without an answer.
    """
    tcb = conn.tcb
    if not tcb.ts_ok or seg.ts_val < 0 or seg.flags & RST:
        return True
    age = (tcb.ts_recent - seg.ts_val) & MASK32
    if age <= PAWS_WINDOW or age >= HALF32 or now - tcb.ts_recent_at > PAWS_IDLE:
        return True
    mib = conn.demux.mib
    if seg.flags & (SYN | FIN | ACK) == ACK and not seg.length:
        if seg.seq < tcb.rcv_nxt:
            mib.TcpExtPAWSOldAck += 1
            return False
        late = age * MSEC <= conn.rtt.rto * 6 // 5
        if seg.seq == tcb.rcv_nxt and seg.ack == tcb.snd_una and seg.wnd << tcb.snd_wscale == tcb.snd_wnd and late:
            return True
    if seg.flags & SYN:
        _syn_arrives(conn, seg, now)
    else:
        mib.TcpExtPAWSEstab += 1
        if seg.length and seg.seq < tcb.rcv_nxt:
            _dsack_old(conn, seg.seq, min(seg.seq + seg.length, tcb.rcv_nxt))
        if not _owe_invalid_ack(conn, seg, now):
            mib.TcpExtTCPACKSkippedPAWS += 1
    return False


def _acceptable(conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
    """First check: does the segment touch the receive window? On False the ACK that is owed is noted.

    As in Linux, one that ends where the window began at our last ACK is still good: its ACK counts, its text is old.
    """
    tcb = conn.tcb
    seq, flags = seg.seq, seg.flags
    end = seq + seg.length + (1 if flags & SYN else 0) + (1 if flags & FIN else 0)
    right = tcb.rcv_wup + tcb.rcv_wnd
    if tcb.rcv_wup <= end and seq <= max(right, tcb.rcv_nxt):
        return True
    if flags & RST:
        return _reset_is_exact(conn, seq)
    if flags & SYN:
        _challenge(conn, now)
    elif end <= tcb.rcv_nxt and (seg.length or flags & FIN):
        _old_text(conn, seq, end)
    else:
        if seq > right and seg.length and not tcb.rcv_wnd:
            conn.demux.mib.TcpExtTCPZeroWindowDrop += 1
        if not _owe_invalid_ack(conn, seg, now):
            conn.demux.mib.TcpExtTCPACKSkippedSeq += 1
    return False


def _owe_invalid_ack(conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
    """An ACK for a segment that was dropped; False if it is bare and tcp_invalid_ratelimit says not so soon."""
    if not seg.length and not seg.flags & FIN:
        if now - conn.invalid_ack_at < conn.demux.sysctl.tcp_invalid_ratelimit * MSEC:
            return False
        conn.invalid_ack_at = now
    conn.dup_acks_due += 1
    return True


def _challenge(conn: "TcpConn", now: Nanos) -> None:
    """A challenge ACK (RFC 5961), within the stack's budget of them."""
    if now - conn.invalid_ack_at < conn.demux.sysctl.tcp_invalid_ratelimit * MSEC:
        conn.demux.mib.TcpExtTCPACKSkippedChallenge += 1
        return
    if conn.demux.may_challenge(now):
        conn.invalid_ack_at = now
        conn.demux.mib.TcpExtTCPChallengeACK += 1
        conn.dup_acks_due += 1


def _reset_arrives(conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    """Second check, RFC 5961 §3.2: only RCV.NXT exactly kills; elsewhere in the window it is challenged."""
    if not _reset_is_exact(conn, seg.seq):
        _challenge(conn, now)
        return
    if conn.ext is not None:
        conn.ext.on_reset(conn, seg, now)
    state = conn.state
    mib = conn.demux.mib
    if state is SYN_RECEIVED:
        mib.TcpAttemptFails += 1
        mib.TcpExtEmbryonicRsts += 1
        if isinstance(conn.fastopen, ServerOpen):
            conn.fail(errno.ECONNRESET)
        elif conn.listener is not None:
            conn.demux.drop(conn)
        else:
            conn.fail(errno.ECONNREFUSED)
        return
    if state is ESTABLISHED or state is CLOSE_WAIT:
        mib.TcpEstabResets += 1
    conn.demux.trace("reset", conn)
    _die(conn)


def _die(conn: "TcpConn") -> None:
    """As after a reset: a program that has read the end of the stream learns it from its writes (EPIPE)."""
    conn.fail(errno.EPIPE if conn.state is CLOSE_WAIT else errno.ECONNRESET)


def _reset_is_exact(conn: "TcpConn", seq: int) -> bool:
    """RFC 5961 §3.2 as Linux widens it: also at the right edge of the last SACK block, and just below a FIN.

    The latter is what macOS sends when it resets after its own FIN.
    """
    tcb, sacks = conn.tcb, conn.recvq.sacks
    if seq == tcb.rcv_nxt or (seq == tcb.rcv_nxt - 1 and conn.state in AFTER_FIN):
        return True
    return tcb.sack_ok and bool(sacks) and seq == max(right for _left, right in sacks)


def _syn_arrives(conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    """Fourth check, RFC 5961 §4.2: never resets a synchronised connection, it asks."""
    if conn.ecn is not None:
        conn.ecn.on_syn_ack_again(conn, seg)
    conn.demux.mib.TcpExtTCPSYNChallenge += 1
    _challenge(conn, now)


def _ack_check(conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
    """Fifth check. False if the segment is to be dropped."""
    tcb = conn.tcb
    state = conn.state
    if state is SYN_RECEIVED:
        fast = conn.fastopen
        if fast is not None:
            take_fast_ack(conn, fast, seg.ack)
        if not tcb.snd_una < seg.ack <= tcb.snd_nxt:
            conn.demux.reset_for(conn, seg)
            return False
        listener = conn.listener if fast is None else None
        claimed = conn.passive and conn.ext is not None and conn.ext.claims(conn, seg, now)
        if conn.rst_due or (listener is not None and not claimed and not listener.admit(conn)):
            return False
        if conn.syn_retries == 0:
            conn.rtt.on_sample(now - conn.syn_sent_at, now)
        tcb.snd_una = tcb.iss + 1
        tcb.snd_wnd = seg.wnd << tcb.snd_wscale
        if conn.passive or tcb.snd_wnd > tcb.max_window:
            tcb.max_window = tcb.snd_wnd  # of the third segment, not of the SYN, whose window was not scaled
            conn.sync_mss()
        tcb.snd_wl1, tcb.snd_wl2 = seg.seq, seg.ack
        enter_established(conn, now)
        if listener is not None and claimed:
            listener.removed(conn)
            conn.listener = None
        elif listener is not None:
            listener.ready(conn)
        if conn.ecn is not None:
            conn.ecn.on_established(conn, seg)
        if fast is not None:
            fast.over()
            if tcb.snd_nxt > tcb.snd_una:
                conn.arm_rto(now)
        if seg.ack == tcb.snd_una:
            if tcb.ts_ok and seg.ts_val >= 0 and seg.seq <= tcb.last_ack_sent:
                _note_timestamp(conn, seg, now)
            return True
    if seg.ack > tcb.snd_nxt:
        _challenge(conn, now)
        return False
    acked = tcb.snd_una - tcb.iss - conn.passive
    if seg.ack < tcb.snd_una - min(tcb.max_window, acked):
        _challenge(conn, now)  # RFC 5961 §5.2; what was never sent cannot be acknowledged late
        return False
    if tcb.ts_ok and seg.ts_val >= 0 and seg.seq <= tcb.last_ack_sent:
        _note_timestamp(conn, seg, now)
    ack_arrives(conn, seg, now)
    if conn.fin_seq >= 0 and tcb.snd_una > conn.fin_seq:
        _our_fin_acked(conn, now)
        return conn.state is state or conn.state is FIN_WAIT_2
    return True


def _note_timestamp(conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    """TS.Recent, RFC 7323 §4.3: from a segment in order whose ACK is good; never back."""
    if not ts_before(seg.ts_val, conn.tcb.ts_recent):
        conn.tcb.ts_recent = seg.ts_val
        conn.tcb.ts_recent_at = now


def _our_fin_acked(conn: "TcpConn", now: Nanos) -> None:
    state = conn.state
    if state is FIN_WAIT_1:
        conn.state = FIN_WAIT_2
        if conn.orphan and conn.options.linger2 < 0:
            conn.demux.mib.TcpExtTCPAbortOnData += 1
            conn.demux.drop(conn)
        elif conn.orphan:
            conn.timers.arm(T.TIMEWAIT, now + conn.fin_timeout())
    elif state is CLOSING:
        enter_time_wait(conn, now)
    elif state is LAST_ACK:
        conn.demux.drop(conn)


def enter_time_wait(conn: "TcpConn", now: Nanos) -> None:
    """RFC 9293 §3.6.1; sixty seconds, as Linux. A light shadow takes the connection's place in the flow table."""
    conn.state = TIME_WAIT
    conn.timers.stop_all()
    conn.forget_queues()
    conn.demux.begin_time_wait(conn, now)


# ---------------------------------------------------------------------- text and FIN: seventh and eighth checks


def _text_and_fin(conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    tcb = conn.tcb
    end = seg.seq + seg.length
    receiving = conn.state in RECEIVING
    if not receiving and seg.seq >= tcb.rcv_nxt:
        return
    unread = conn.orphan or not receiving or (conn.read_closed and conn.state is not ESTABLISHED)
    if unread and (seg.length or seg.flags & FIN) and end > tcb.rcv_nxt:
        # Nobody will ever read it: RFC 9293 §3.6.1, RFC 2525 §2.17.
        conn.demux.mib.TcpExtTCPAbortOnData += 1
        conn.demux.reset_for(conn, seg)
        _die(conn)
        return
    if end + bool(seg.flags & FIN) <= tcb.rcv_nxt:
        _old_text(conn, seg.seq, end + bool(seg.flags & FIN))
        return
    if seg.flags & URG:
        on_pointer(conn, seg)
    seq, payload = seg.seq, seg.payload
    fin_at = seq + seg.length if seg.flags & FIN else -1
    if seq < tcb.rcv_nxt:
        if seg.length:
            _dsack_old(conn, seq, min(tcb.rcv_nxt, seq + seg.length))
        payload = payload[tcb.rcv_nxt - seq :]
        seq = tcb.rcv_nxt
    right = tcb.rcv_wup + tcb.rcv_wnd
    if seq + len(payload) > right:
        payload = payload[: max(right - seq, 0)]
        if fin_at > right:
            fin_at = -1
        if not payload and seg.length:
            conn.demux.mib.TcpExtTCPZeroWindowDrop += 1
            conn.dup_acks_due += 1
            return
    if fin_at >= 0 and conn.peer_fin_seq < 0:
        conn.peer_fin_seq = fin_at
        conn.recvq.cut(fin_at)
    if payload:
        text_arrives(conn, seq, payload, now)
    elif fin_at == tcb.rcv_nxt:
        _fin_arrives(conn, now)
    elif fin_at >= 0:
        conn.dup_acks_due += 1
        if conn.recvq.fin == fin_at:
            _dsack_old(conn, fin_at, fin_at + 1)
    if fin_at > tcb.rcv_nxt:
        conn.recvq.note_fin(fin_at)


def text_arrives(
    conn: "TcpConn", seq: int, payload: memoryview, now: Nanos, taker: "TcpExtension | None" = None
) -> None:
    """Text inside the window: queue it, decide how soon to acknowledge (RFC 9293 §3.8.6.3, RFC 5681 §4.2).

    With a `taker`, which wants it for itself, it is the next and nothing waits behind a hole.
    """
    tcb, recvq, counts = conn.tcb, conn.recvq, conn.counts
    size = len(payload)
    counts.last_data_recv = now
    if conn.peer_fin_seq >= 0:  # nothing can lie beyond the FIN
        payload = payload[: max(conn.peer_fin_seq - seq, 0)]
        size = len(payload)
        if not size:
            conn.dup_acks_due += 1
            return
    if seq != tcb.rcv_nxt:
        _out_of_order(conn, seq, payload)
        return
    had_holes = recvq.has_holes()
    before = tcb.rcv_nxt
    if had_holes and conn.dsack is None:
        start, end = recvq.first_held()
        _dsack_old(conn, start, min(end, seq + size))
    buf = conn.rcvbuf
    if taker is not None:
        recvq.nxt = nxt = before + size
        if nxt >= buf.rtt_seq:
            buf.on_text(nxt, nxt, tcb.rcv_wnd, tcb.advmss, now)
    else:
        recvq.append(payload)
        nxt = recvq.nxt
        buf.on_text(nxt, nxt - recvq.readable, tcb.rcv_wnd, tcb.advmss, now)
        if len(recvq.ready) > 64 and recvq.truesize() > 2 * buf.size:
            recvq.collapse()
            conn.demux.mib.TcpExtTCPRcvCollapsed += 1
    tcb.rcv_nxt = nxt
    counts.bytes_received += nxt - before
    if size > conn.rcv_mss:
        conn.rcv_mss = max(conn.rcv_mss, min(size, tcb.advmss))
    if had_holes:
        conn.ack_due = True  # RFC 5681 §4.2: at once when a hole is filled
    elif conn.quick_acks and not conn.pingpong:
        conn.quick_acks -= 1
        conn.ack_due = True
    elif nxt - tcb.rcv_wup >= 2 * conn.rcv_mss:
        conn.ack_due = True
    elif not conn.timers.pending(T.DELACK):
        conn.timers.arm(T.DELACK, now + DELACK_MIN)
    if taker is not None:
        taker.on_text(conn, payload, now)
        return
    conn.post(READABLE)
    if nxt == conn.peer_fin_seq:
        _fin_arrives(conn, now)


def _out_of_order(conn: "TcpConn", seq: int, payload: memoryview) -> None:
    recvq = conn.recvq
    mib = conn.demux.mib
    conn.quick_acks = max(conn.quick_acks, 8)
    conn.dup_acks_due += 1
    end = seq + len(payload)
    if conn.tcb.sack_ok and conn.demux.sysctl.tcp_dsack and recvq.held(seq, end):
        conn.dsack = (seq, end)
        mib.TcpExtTCPDSACKOfoSent += 1
        return
    recvq.insert(seq, payload)
    conn.counts.rcv_ooopack += 1
    mib.TcpExtTCPOFOQueue += 1
    if recvq.truesize() > 2 * conn.rcvbuf.size + 65536 and recvq.prune(2 * conn.rcvbuf.size):
        mib.TcpExtTCPOFODrop += 1


def _old_text(conn: "TcpConn", seq: int, end: int) -> None:
    """All of it came before: our ACK was lost or late."""
    conn.demux.mib.TcpExtDelayedACKLost += 1
    conn.dup_acks_due += 1
    _dsack_old(conn, seq, end)


def _dsack_old(conn: "TcpConn", seq: int, end: int) -> None:
    """Tell a SACK peer that this text came twice, RFC 2883."""
    if conn.tcb.sack_ok and conn.demux.sysctl.tcp_dsack and end > seq:
        conn.dsack = (seq, end)
        conn.demux.mib.TcpExtTCPDSACKOldSent += 1


def _fin_arrives(conn: "TcpConn", now: Nanos) -> None:
    """Eighth check: the peer will send no more."""
    tcb = conn.tcb
    if conn.fin_rcvd:
        conn.ack_due = True
        return
    conn.fin_rcvd = True
    tcb.rcv_nxt += 1
    conn.recvq.clear_holes()
    conn.dsack = None
    conn.ack_due = True
    state = conn.state
    if state is ESTABLISHED:
        conn.state = CLOSE_WAIT
    elif state is FIN_WAIT_1:
        conn.state = CLOSING
    elif state is FIN_WAIT_2:
        enter_time_wait(conn, now)
    conn.post(PEER_CLOSED | READABLE)
