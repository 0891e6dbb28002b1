"""The only mouth of a connection: `next_packet` decides what goes out next (tcp/packet.py lays it out).

Order: RST; SYN or SYN-ACK; lost text again; new text and FIN; probes; a bare ACK. Text leaves as views, up to one 64 KB
super-segment at a time on a link with offload, which the device or the kernel cuts (IFF_VNET_HDR); on a near link that
can, larger ones still (BIG TCP).
"""

from typing import TYPE_CHECKING

from stack.ip.link import IP_MAX
from stack.tcp import timers as T
from stack.tcp.accecn import FIRST_OPTION, syn_flags
from stack.tcp.castate import NEW_FIRST, NEW_ONLY, RECOVERY, REDUCING, window
from stack.tcp.cwv import before_burst, program_is_the_limit, window_is_the_limit
from stack.tcp.defer import should_wait
from stack.tcp.ecn import Ecn
from stack.tcp.fastopen import ClientOpen, text_in_syn
from stack.tcp.fastopen import option as fastopen_option
from stack.tcp.pacing import Pacer
from stack.tcp.packet import MAX_OPTIONS, SACK_LEAST, Packet, build
from stack.tcp.plpmtud import next_probe
from stack.tcp.rate import stamp
from stack.tcp.rtt import NEAR
from stack.tcp.scoreboard import Sent
from stack.tcp.state import CLOSED, DRAINING, SYN_RECEIVED, SYN_SENT
from stack.tcp.undo import on_retransmit
from stack.units import MSEC, Nanos
from stack.wire.tcp import ACK, FIN, PSH, RST, SYN
from stack.wire.tcp_options import TS_OPTION_LEN, emit_syn_options

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

_NO_VIEWS: list[memoryview] = []
_OCTET = [memoryview(bytes(1))]

TRAIN = 1 << 19  # text that is sent at one decision at the most, in as many packets as its extension wants
CORK_MAX = 200 * MSEC
NO_PROBE, PROBE_NEW, PROBE_OLD = range(3)


def next_packet(conn: "TcpConn", now: Nanos) -> Packet | None:
    """The next packet this connection wants to send at `now`, or None when it is content."""
    if conn.rst_due:
        return _reset(conn, now)
    state = conn.state
    if state is SYN_SENT or state is SYN_RECEIVED:
        if conn.syn_due:
            return _syn(conn, now)
        if conn.fastopen is not None and state is SYN_RECEIVED and conn.passive and (packet := _fresh(conn, now)):
            return packet  # RFC 7413 §4.2.2: the server need not wait for the handshake
        return _owed_ack(conn, now)
    if state is CLOSED:
        return None
    if conn.train_end and (packet := _next_of_train(conn, now)):
        return packet
    if conn.bare_ack_due:
        conn.bare_ack_due = False
        return build(conn, _ack_seq(conn), ACK, _NO_VIEWS, 0, now)
    if conn.ecn is not None and (conn.ecn.reply or conn.ecn.owed):
        return _feedback(conn, conn.ecn, now)
    if state in DRAINING and (conn.pacer is None or _pace_allows(conn, conn.pacer, now)):
        packet = None
        if conn.tlp_due:
            packet = _probe_tail(conn, now)
        if conn.recovery.send_new == NEW_FIRST and packet is None:
            packet = _frto_new(conn, now)
        packet = packet or _retransmit(conn, now) or _fresh(conn, now)
        if packet is not None:
            return packet
        if conn.probe_due:
            conn.probe_due -= 1
            return build(conn, conn.tcb.snd_una - 1, ACK, _NO_VIEWS, 0, now)
        if conn.octet_due:
            return _octet(conn, now)
    elif conn.probe_due:
        conn.probe_due -= 1
        return build(conn, conn.tcb.snd_una - 1, ACK, _NO_VIEWS, 0, now)
    return _owed_ack(conn, now)


def _octet(conn: "TcpConn", now: Nanos) -> Packet:
    """A keepalive with one octet of garbage, RFC 9293 §3.8.4: that is answered whatever the peer's rate limits."""
    conn.octet_due = False
    conn.octet_at = conn.tcb.snd_una - 1
    return build(conn, conn.octet_at, ACK, _OCTET, 1, now)


def _feedback(conn: "TcpConn", ecn: Ecn, now: Nanos) -> Packet:
    """An ACK that ECN needs before text: the third of AccECN's handshake, or DCTCP's of what bore another mark."""
    if not ecn.owed:
        return build(conn, conn.tcb.snd_nxt, ACK, _NO_VIEWS, 0, now)
    tcb = conn.tcb
    nxt, echo = tcb.rcv_nxt, ecn.echo
    tcb.rcv_nxt, ecn.echo = ecn.owed.pop(0)
    packet = build(conn, _ack_seq(conn), ACK, _NO_VIEWS, 0, now)
    tcb.rcv_nxt, ecn.echo = nxt, echo
    conn.ack_due = True
    return packet


def _pace_allows(conn: "TcpConn", pacer: Pacer, now: Nanos) -> bool:
    """False until the next packet may leave; then the timer is set, if there is one to leave. Probes do not wait."""
    if now >= pacer.next_at or conn.tlp_due:
        return True
    if conn.sendq.end > conn.tcb.snd_nxt or conn.board.lost_out > conn.board.retrans_out:
        conn.timers.arm(T.PACE, pacer.next_at)
    elif conn.fin_queued and conn.fin_seq < 0:
        return True
    return False


def _frto_new(conn: "TcpConn", now: Nanos) -> Packet | None:
    """F-RTO, RFC 5682 §3.1 step 2.b: up to two segments of new text; if none may go, the old after all."""
    rec, tcb = conn.recovery, conn.tcb
    conn.force_push = True
    packet = _fresh(conn, now)
    if packet is None and tcb.snd_nxt > rec.high_seq:
        rec.send_new = NEW_ONLY
    elif packet is None:
        rec.send_new = 0
        rec.frto = False
    return packet


def _owed_ack(conn: "TcpConn", now: Nanos) -> Packet | None:
    if conn.dup_acks_due:
        conn.dup_acks_due -= 1
        conn.ack_due = False
        return build(conn, _ack_seq(conn), ACK, _NO_VIEWS, 0, now)
    if conn.ack_due:
        return build(conn, _ack_seq(conn), ACK, _NO_VIEWS, 0, now)
    return None


def _ack_seq(conn: "TcpConn") -> int:
    """SND.NXT, unless the peer shrank its window below that: it would find the ACK out of place and drop it."""
    tcb = conn.tcb
    end = tcb.snd_una + tcb.snd_wnd
    return tcb.snd_nxt if tcb.snd_nxt < end + (1 << tcb.rcv_wscale) or tcb.snd_nxt == end else end


def _reset(conn: "TcpConn", now: Nanos) -> Packet:
    """RST, and the connection is gone; RFC 9293 §3.10.5."""
    conn.rst_due = False
    conn.demux.mib.TcpOutRsts += 1
    seq = conn.train_at if conn.train_end else _ack_seq(conn)
    packet = build(conn, seq, RST | ACK, _NO_VIEWS, 0, now)
    conn.demux.trace("abort", conn)
    conn.demux.drop(conn)
    return packet


def _syn(conn: "TcpConn", now: Nanos) -> Packet:
    """SYN or SYN-ACK; the retransmission timer follows from how often it was sent, RFC 6298 §5.4."""
    conn.syn_due = False
    tcb, knobs = conn.tcb, conn.demux.sysctl
    passive = conn.state is SYN_RECEIVED
    offer_ts = tcb.ts_ok if passive else bool(knobs.tcp_timestamps)
    offer_sack = tcb.sack_ok if passive else bool(knobs.tcp_sack)
    scale = None
    if tcb.wscale_ok if passive else knobs.tcp_window_scaling:
        scale = conn.window_shift()
    options = emit_syn_options(
        tcb.advmss, scale, offer_sack, (conn.ts_now(now), tcb.ts_recent if passive else 0) if offer_ts else None
    )
    flags = (SYN | ACK if passive else SYN) | syn_flags(conn)
    if conn.ecn is not None and conn.ecn.accurate and conn.ext is None and not conn.syn_retries:
        options += FIRST_OPTION if knobs.tcp_ecn_option else b""
    if passive:
        options += conn.syn_extra
    if conn.ext is not None:
        options += conn.ext.options(conn, flags, MAX_OPTIONS - len(options), tcb.iss, 0, now)
    views, size = _NO_VIEWS, 0
    if isinstance(conn.fastopen, ClientOpen) and not conn.syn_retries and not passive:
        size = text_in_syn(conn, conn.fastopen)
        views = conn.sendq.views(tcb.iss + 1, size) if size else views
        conn.fastopen.sent = size = sum(map(len, views))
        if conn.fastopen.cookie != b"":
            options += fastopen_option(conn.fastopen.cookie or b"")
    if not conn.syn_sent_at:
        conn.syn_sent_at = now
    tcb.rcv_wnd = min(conn.rcvbuf.size, 65535)
    conn.timers.arm(T.RTO, now + conn.rtt.backed_off(conn.syn_retries))
    conn.ack_due = False
    conn.dup_acks_due = 0
    return build(conn, tcb.iss, flags, views, size, now, options, whole=True)


# ---------------------------------------------------------------------- text


def _max_payload(conn: "TcpConn", mss: int) -> int:
    """Largest text of one packet: a whole number of segments on a link with offload, one segment otherwise.

    BIG TCP only where a round trip is short: elsewhere such bursts are for the network to bear (as Linux, which lets
    tcp_tso_autosize grow a super-segment with the nearness of the peer).
    """
    link = conn.link
    if not link.offload or (conn.ecn is not None and conn.ecn.one_by_one()):
        return mss
    limit = link.gso_max
    if limit > IP_MAX and not 0 < conn.rtt.min_rtt < NEAR:
        limit = IP_MAX
    limit -= 120
    if conn.pacer is not None:
        limit = conn.pacer.burst(mss, limit)
    return limit - limit % mss if limit > mss else mss


def _option_room(conn: "TcpConn") -> int:
    """Option bytes that SACK and an extension take in the next segment with text; SACK yields where both do not fit."""
    ext_room = conn.ext.reserve if conn.ext is not None else 0
    blocks = len(conn.recvq.sacks) + (1 if conn.dsack else 0) if conn.tcb.sack_ok else 0
    room = MAX_OPTIONS - (TS_OPTION_LEN if conn.tcb.ts_ok else 0) - ext_room
    if not blocks or room < SACK_LEAST:
        return ext_room
    return ext_room + 4 + 8 * min(blocks, (room - 4) // 8)


def _retransmit(conn: "TcpConn", now: Nanos) -> Packet | None:
    """The lowest lost text again, as much as the window lets out: RFC 6675 §5 (4.1), never beyond the peer's window."""
    board, tcb, rec = conn.board, conn.tcb, conn.recovery
    if board.lost_out <= board.retrans_out or rec.send_new == NEW_ONLY:
        return None
    lost = board.next_lost()
    if lost is None:
        return None
    mss = tcb.mss_cache - _option_room(conn)
    room = window(conn) - conn.in_flight()
    if room < min(mss, lost.end - lost.start) and conn.in_flight():
        return None
    size = min(lost.end - lost.start, max(room - room % mss, mss), _max_payload(conn, mss))
    if conn.snd_up > lost.start:
        size = min(size, mss)
    right = tcb.snd_una + tcb.snd_wnd
    if lost.start + size > right and lost.start > tcb.snd_una:
        return None  # the window shrank; only the first segment may probe it
    if lost.start + size > right:
        size = min(size, mss)
    segs = -(-size // tcb.mss_cache)
    conn.demux.mib.TcpExtTCPFastRetrans += segs if rec.ca == RECOVERY else 0
    conn.demux.mib.TcpExtTCPSlowStartRetrans += segs if rec.ca > RECOVERY else 0
    return resend(conn, lost, lost.start + size, now)


def resend(conn: "TcpConn", sent: Sent, end: int, now: Nanos) -> Packet:
    """Send [sent.start, end) again."""
    start = sent.start
    sendq = conn.sendq
    views = _NO_VIEWS
    text_end = min(end, sendq.end)
    size = text_end - start
    flags = ACK
    if size > 0 and conn.ext is not None:
        fit = conn.ext.limit(conn, start, size)
        if fit < size:
            size, end = fit, start + fit
    if size > 0:
        views = sendq.views(start, size)
        got = sum(map(len, views))
        if got < size:
            size = got
            end = start + got
    else:
        size = 0
    if end > sendq.end:
        flags |= FIN
    if end >= sendq.end:
        flags |= PSH
    counts = conn.counts
    if conn.pacer is not None:
        conn.pacer.on_sent(size, now)
    conn.board.on_resent(sent, end, now)
    stamp(counts, sent)
    on_retransmit(conn, end - start, now)
    counts.bytes_retrans += size
    counts.bytes_sent += size
    segs = -(-size // conn.tcb.mss_cache) or 1
    counts.total_retrans += segs
    conn.demux.mib.TcpRetransSegs += segs
    if conn.recovery.ca in REDUCING:
        conn.recovery.prr_out += end - start
    if start == conn.tcb.snd_una:
        conn.arm_rto(now)  # as in Linux: the first has been given another chance
    else:
        _sent_something(conn, now)
    return build(conn, start, flags, views, size, now)


def _fresh(conn: "TcpConn", now: Nanos) -> Packet | None:
    """New text, and FIN behind the last of it."""
    tcb, sendq = conn.tcb, conn.sendq
    nxt = tcb.snd_nxt
    unsent = sendq.end - nxt
    if unsent <= 0 and conn.ext is not None:
        if conn.ext.feed(conn, now):
            window_is_the_limit(conn, now)
            return None
        unsent = sendq.end - nxt
    if unsent <= 0:
        if (flight := conn.in_flight()) + tcb.mss_cache <= conn.cc.cwnd:
            program_is_the_limit(conn, flight, now)
        if unsent == 0 and _fin_due(conn):
            if nxt < tcb.snd_una + tcb.snd_wnd:
                return _send_new(conn, nxt, 0, True, now)
            if tcb.snd_una == nxt and not conn.timers.pending(T.PERSIST):
                arm_persist(conn, now)
        return None
    mss = tcb.mss_cache
    if conn.dsack or conn.recvq.sacks:
        mss -= _option_room(conn)
    elif conn.ext is not None:
        mss -= conn.ext.reserve
    flight = conn.in_flight()
    if not flight:
        before_burst(conn, now)
    rec = conn.recovery
    room = (window(conn) if rec.ca else conn.cc.cwnd) - flight
    if room < mss and room < unsent and flight:
        window_is_the_limit(conn, now)
        return None
    usable = tcb.snd_una + tcb.snd_wnd - nxt
    if conn.mtu_search is not None and (probe := next_probe(conn, unsent, room, usable, now)):
        return _send_new(conn, nxt, probe, False, now, whole=True)
    most = largest = _max_payload(conn, mss)
    if conn.ext is not None and most > mss and conn.pacer is None and 0 < conn.rtt.min_rtt < NEAR:
        most = max(most, TRAIN - TRAIN % mss)  # decided at once, as BIG TCP's super-segments are
    limit = min(room, usable)
    if mss < limit < unsent and limit < most and flight and should_wait(conn, limit, mss, now):
        if room <= usable:
            window_is_the_limit(conn, now)
        return None
    force, conn.force_push = conn.force_push, False
    size = min(unsent, usable, max(room, mss), most)
    if conn.snd_up > nxt:
        size = min(size, mss)  # whoever cuts a super-segment would repeat the urgent pointer
    if size >= mss:
        # What the window cuts short may go as Nagle allows, after at least one full segment; what cwnd cuts, not.
        if size % mss and not force and not (size in (unsent, usable) and _may_send_partial(conn)):
            size -= size % mss
    elif size < unsent:
        # The window is what limits: send no silly little segment, but never wait for ever (RFC 9293 §3.8.6.2.1).
        if size <= 0 or not force:
            if tcb.snd_una == nxt and not conn.timers.pending(T.PERSIST):
                arm_persist(conn, now)
            return None
    elif not (force or _may_send_partial(conn)):
        if conn.options.cork and tcb.snd_una == nxt and not conn.timers.pending(T.PERSIST):
            conn.timers.arm(T.PERSIST, now + max(conn.rtt.rto, CORK_MAX))
        return None
    fin = size == unsent and size < usable and _fin_due(conn)
    return _send_new(conn, nxt, size, fin, now, mss=mss, largest=largest)


def _fin_due(conn: "TcpConn") -> bool:
    return conn.fin_queued and conn.fin_seq < 0 and (conn.ext is None or conn.ext.may_close(conn))


def _probe_tail(conn: "TcpConn", now: Nanos) -> Packet | None:
    """A tail loss probe, RFC 8985 §7.3: one segment of new text, else the last one again, whatever cwnd says."""
    fresh, conn.tlp_due = conn.tlp_due == PROBE_NEW, NO_PROBE
    tcb, board = conn.tcb, conn.board
    if fresh:
        size = min(conn.sendq.end - tcb.snd_nxt, tcb.mss_cache - _option_room(conn))
        if size <= 0:
            return None
        conn.recovery.tlp_high_seq = tcb.snd_nxt + size
        return _send_new(conn, tcb.snd_nxt, size, False, now)
    last = board.last()
    if last is None or last.sacked:
        return None
    if last.end - last.start > tcb.mss_cache:
        last = board.split_tail(last.end - tcb.mss_cache)
    return resend(conn, last, last.end, now)


def _may_send_partial(conn: "TcpConn") -> bool:
    """Nagle in Minshall's form, as Linux: a partial segment waits while an earlier partial one is unacknowledged.

    Urgent data wait for nothing, nor does what goes with them.
    """
    options = conn.options
    if conn.fin_queued or conn.snd_up > conn.tcb.snd_una:
        return True
    if options.cork:
        return False
    return options.nodelay or not conn.tcb.snd_una < conn.snd_sml <= conn.tcb.snd_nxt


def _send_new(
    conn: "TcpConn", seq: int, size: int, fin: bool, now: Nanos, whole: bool = False, mss: int = 1, largest: int = 0
) -> Packet:
    """Count `size` bytes as sent; a packet of at most `largest` begins with them, and a train of packets follows."""
    tcb, sendq, counts = conn.tcb, conn.sendq, conn.counts
    views = _NO_VIEWS
    flags = ACK
    first = size
    if size:
        if conn.ext is not None:
            first = conn.ext.limit(conn, seq, size)
            if first > largest > 0:
                first = largest
        views = sendq.views(seq, first)
        if len(views) > 1:
            first = min(first, sum(map(len, views)))
        if first < size:
            fin = False
            if largest and conn.ext is not None:
                conn.train_at, conn.train_end, conn.train_most = seq + first, seq + size, largest
            else:
                size = first
    end = seq + size
    if size and seq + first == sendq.end:
        flags |= PSH
    if size % mss:
        conn.snd_sml = end
    if conn.dup_acks_due:
        conn.dup_acks_due -= 1  # this one says it
    if fin:
        flags |= FIN
        conn.fin_seq = end
        end += 1
    if conn.pacer is not None:
        conn.pacer.on_sent(size, now)
    if tcb.snd_una == tcb.snd_nxt:  # as rate.stamp() does, without the call
        counts.delivered_at = counts.window_at = now
    sent = Sent(seq, end, now, counts.delivered, counts.delivered_at)
    sent.window_at = counts.window_at
    if counts.app_limited:
        sent.app_limited = True
    conn.board.on_sent(sent)
    tcb.snd_nxt = end
    counts.bytes_sent += size
    segs = -(-size // tcb.mss_cache) or 1
    counts.data_segs_out += segs
    counts.last_data_sent = now
    conn.demux.mib.TcpExtTCPOrigDataSent += segs
    if conn.recovery.ca in REDUCING:
        conn.recovery.prr_out += end - seq
    at = conn.timers.at
    at[T.PERSIST] = T.NEVER
    if conn.ack_due or at[T.DELACK] != T.NEVER:
        conn.pingpong = True
    _sent_something(conn, now)
    conn.tlp_stale = True
    return build(conn, seq, flags, views, first, now, fresh=size > 0, whole=whole)


def _next_of_train(conn: "TcpConn", now: Nanos) -> Packet | None:
    """The next packet of text that was decided on before. None if the peer has acknowledged it unseen."""
    sendq, end = conn.sendq, conn.train_end
    seq = max(conn.train_at, sendq.start)
    if seq >= end:
        conn.train_end = 0
        return None
    size = min(end - seq, conn.train_most)
    if conn.snd_up > seq:
        size = min(size, conn.tcb.mss_cache - _option_room(conn))  # as in _fresh: the pointer is not to be repeated
    if conn.ext is not None:
        size = conn.ext.limit(conn, seq, size)
    views = sendq.views(seq, size)
    if len(views) > 1:
        size = min(size, sum(map(len, views)))
    conn.train_at = seq + size
    flags = ACK
    if seq + size == end:
        conn.train_end = 0
        if end == sendq.end:
            flags |= PSH
    return build(conn, seq, flags, views, size, now, fresh=True)


def _sent_something(conn: "TcpConn", now: Nanos) -> None:
    """RFC 6298 §5.1: the timer runs while anything is outstanding."""
    if conn.timers.at[T.RTO] == T.NEVER:
        conn.arm_rto(now)


def arm_persist(conn: "TcpConn", now: Nanos) -> None:
    """Zero-window probes back off like the RTO, RFC 9293 §3.8.6.1."""
    conn.timers.arm(T.PERSIST, now + conn.rtt.backed_off(conn.persist_backoff))
