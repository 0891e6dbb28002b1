"""What happens when a connection's deadline passes: one function per timer."""

import errno
from typing import TYPE_CHECKING

from stack.tcp import timers as T
from stack.tcp.castate import NO_MARK, RECOVERY
from stack.tcp.output import PROBE_NEW, PROBE_OLD, arm_persist
from stack.tcp.plpmtud import on_timeout as mtu_black_hole
from stack.tcp.rack import detect
from stack.tcp.recovery import after_timer, on_rto, on_smaller_mss
from stack.tcp.state import SYN_RECEIVED, SYN_SENT
from stack.units import MSEC, SEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

ORPHAN_RETRIES = 8  # what tcp_orphan_retries = 0 means


def deadlines_pass(conn: "TcpConn", now: Nanos) -> None:
    """Run every timer of the connection that is due."""
    at = conn.timers.at
    for kind, deadline in enumerate(at):
        if deadline <= now and at[kind] <= now:
            at[kind] = T.NEVER
            _ACTIONS[kind](conn, now)
            at = conn.timers.at  # stop_all makes a new table
    conn.demux.mark(conn)


def _rto(conn: "TcpConn", now: Nanos) -> None:
    """RFC 6298 §5.4–5.7; in the handshake, the SYN again."""
    state = conn.state
    knobs, mib = conn.demux.sysctl, conn.demux.mib
    if state is SYN_SENT or state is SYN_RECEIVED:
        limit = knobs.tcp_synack_retries if state is SYN_RECEIVED else conn.options.syncnt or knobs.tcp_syn_retries
        if conn.fastopen is not None:
            conn.demux.fastopen.on_timeout(conn, conn.syn_retries, conn.syn_retries >= limit, now)
        if conn.syn_retries >= limit or _user_timeout(conn, conn.syn_sent_at, now):
            mib.TcpAttemptFails += 1
            mib.TcpExtTCPAbortOnTimeout += 1 if state is SYN_SENT else 0
            if conn.listener is not None and conn.fastopen is None:
                conn.demux.drop(conn)
            else:
                conn.demux.trace("timeout", conn)
                conn.fail(conn.soft_error or errno.ETIMEDOUT)
            return
        if conn.listener is not None and not conn.syn_retries and conn.fastopen is None:
            conn.listener.young -= 1
        conn.syn_retries += 1
        conn.syn_due = True
        mib.TcpExtTCPSynRetrans += 1
        mib.TcpRetransSegs += 1
        mib.TcpExtTCPTimeouts += 1
        return
    if conn.tcb.snd_una == conn.tcb.snd_nxt:
        return
    limit = (knobs.tcp_orphan_retries or ORPHAN_RETRIES) if conn.orphan else knobs.tcp_retries2
    head = conn.board.first()
    if _timed_out(conn, limit, now) or (head is not None and _user_timeout(conn, head.first_sent_at, now)):
        _give_up(conn)
        return
    if conn.fastopen is not None:
        conn.demux.fastopen.on_timeout(conn, conn.recovery.backoff, False, now)
    on_rto(conn, now)
    if conn.ext is not None:
        conn.ext.on_silence(conn, now)
    if knobs.tcp_mtu_probing and _timed_out(conn, knobs.tcp_retries1, now) and mtu_black_hole(conn, now):
        on_smaller_mss(conn, now)
    conn.arm_rto(now)


def _timed_out(conn: "TcpConn", limit: int, now: Nanos) -> bool:
    """R2 of RFC 9293 §3.8.3 in Linux's reading: as long as `limit` doublings from the least RTO would have taken.

    retransmits_timed_out(): so a path with a long RTO is not given up later than one with a short one.
    """
    rec = conn.recovery
    if not rec.retransmits:
        return False
    least, most = conn.rtt.rto_min, conn.rtt.rto_max
    doublings = max((most // least).bit_length() - 1, 0)
    if limit <= doublings:
        patience = ((2 << limit) - 1) * least
    else:
        patience = ((2 << doublings) - 1) * least + (limit - doublings) * most
    return now - rec.retry_since >= patience


def _user_timeout(conn: "TcpConn", since: Nanos, now: Nanos) -> bool:
    limit = conn.options.user_timeout_ms
    return bool(limit) and now - since >= limit * MSEC


def _give_up(conn: "TcpConn") -> None:
    """RFC 9293 §3.8.3: R2 reached."""
    conn.demux.mib.TcpExtTCPAbortOnTimeout += 1
    conn.demux.trace("timeout", conn)
    conn.fail(conn.soft_error or errno.ETIMEDOUT)


def _reorder(conn: "TcpConn", now: Nanos) -> None:
    """RFC 8985 §6.2 step 5: what was on the edge is late now."""
    flight = conn.in_flight()
    conn.recovery.marked = 0
    detect(conn, now)
    if conn.recovery.marked:
        after_timer(conn, flight, now)


def _tlp(conn: "TcpConn", now: Nanos) -> None:
    """RFC 8985 §7.3: send something, so that an ACK shows what is missing. New text if any may go, else the last."""
    rec, tcb = conn.recovery, conn.tcb
    if rec.ca >= RECOVERY or tcb.snd_una == tcb.snd_nxt:
        return
    unsent = conn.sendq.end - tcb.snd_nxt
    rec.tlp_high_seq = tcb.snd_nxt
    rec.tlp_resent = False
    conn.demux.mib.TcpExtTCPLossProbes += 1
    if conn.ext is not None:
        conn.ext.on_silence(conn, now)
    conn.arm_rto(now)
    room = tcb.snd_una + tcb.snd_wnd - tcb.snd_nxt
    if unsent > 0 and room >= min(unsent, tcb.mss_cache):
        conn.tlp_due = PROBE_NEW
        return
    if conn.board.last() is not None:
        rec.tlp_resent = True
        conn.tlp_due = PROBE_OLD
    else:
        rec.tlp_high_seq = NO_MARK


def _delack(conn: "TcpConn", now: Nanos) -> None:
    """The other half of RFC 9293 §3.8.6.3: no ACK is held back for longer."""
    conn.demux.mib.TcpExtDelayedACKs += 1
    conn.pingpong = False
    conn.ack_due = True


def _persist(conn: "TcpConn", now: Nanos) -> None:
    """RFC 9293 §3.8.6.1: ask about a closed window, send what a silly one lets through; also the cork's time limit.

    A peer that answers keeps the connection for as long as it likes (MUST-37); only silence counts.
    """
    tcb, knobs = conn.tcb, conn.demux.sysctl
    if tcb.snd_una != tcb.snd_nxt or (conn.sendq.end <= tcb.snd_nxt and (not conn.fin_queued or conn.fin_seq >= 0)):
        return
    if tcb.snd_una + tcb.snd_wnd > tcb.snd_nxt:
        conn.force_push = True
        return
    limit = (knobs.tcp_orphan_retries or ORPHAN_RETRIES) if conn.orphan else knobs.tcp_retries2
    heard = max(conn.counts.last_ack_recv, conn.counts.last_data_sent)
    if conn.probes_out >= limit or (conn.probes_out and _user_timeout(conn, heard, now)):
        _give_up(conn)
        return
    conn.persist_backoff += 1
    conn.probes_out += 1
    conn.probe_due += 1
    arm_persist(conn, now)


def _keepalive(conn: "TcpConn", now: Nanos) -> None:
    """RFC 9293 §3.8.4: probe an idle peer, give up after keepcnt silent ones."""
    options, knobs = conn.options, conn.demux.sysctl
    if not options.keepalive:
        return
    idle = (options.keepidle or knobs.tcp_keepalive_time) * SEC
    last = max(conn.counts.last_ack_recv, conn.counts.last_data_recv)
    if conn.tcb.snd_una != conn.tcb.snd_nxt or conn.sendq.end > conn.tcb.snd_nxt:
        conn.timers.arm(T.KEEPALIVE, now + idle)  # outstanding text probes the peer by itself
        return
    if now - last < idle:
        conn.keepalive_sent = 0
        conn.timers.arm(T.KEEPALIVE, last + idle)
        return
    count = options.keepcnt or knobs.tcp_keepalive_probes
    if (conn.keepalive_sent >= count and not options.user_timeout_ms) or _user_timeout(conn, last, now):
        conn.abort_with(errno.ETIMEDOUT)
        return
    conn.keepalive_sent += 1
    conn.probe_due += 1
    conn.demux.mib.TcpExtTCPKeepAlive += 1
    conn.timers.arm(T.KEEPALIVE, now + (options.keepintvl or knobs.tcp_keepalive_intvl) * SEC)


def _timewait(conn: "TcpConn", now: Nanos) -> None:
    """2 MSL are over, or an orphan waited long enough for a FIN."""
    conn.demux.drop(conn)


def _pace(conn: "TcpConn", now: Nanos) -> None:
    """The next packet may leave; deadlines_pass has marked the connection."""


_ACTIONS = (_reorder, _tlp, _rto, _delack, _persist, _keepalive, _timewait, _pace)
