"""Passive open: from a SYN for a listener to a connection in its accept queue, as Linux's tcp_conn_request does it.

A SYN costs a Request (tcp/request.py), or nothing but a cookie once the listener holds more requests than its backlog
(tcp_syncookies 1; with 2 always; with 0 it is dropped). A TcpConn is made when the handshake completes. Only where
an extension has a say in the SYN-ACK, or Fast Open takes text off the SYN, there is one in SYN-RECEIVED at once.

SYN-ACKs go out again by a timer each; where a backlog fills with old requests, these get fewer tries, so that half of
it stays free for young ones (reqsk_timer_handler).
"""

from typing import TYPE_CHECKING

from stack.errors import StackError
from stack.ip.link import Link
from stack.ip.route import Route
from stack.tcp import cookies
from stack.tcp.accecn import FIRST_OPTION, synack_flags
from stack.tcp.cc import CONGESTION_CONTROLS
from stack.tcp.conn import TcpConn
from stack.tcp.extension import SynRefused
from stack.tcp.fastopen import ServerOpen, give_cookie
from stack.tcp.fastopen import option as fastopen_option
from stack.tcp.input import segment_arrives, take_syn, text_arrives
from stack.tcp.lazyheap import LazyHeap
from stack.tcp.request import Request
from stack.tcp.state import SYN_RECEIVED
from stack.tcp.timers import NEVER
from stack.units import SEC, Nanos
from stack.wire.tcp import ACE, CWR, ECE, FIN, RST, SYN, Segment
from stack.wire.tcp_options import SynOptions, parse_syn_options

if TYPE_CHECKING:
    from stack.tcp.demux import TcpDemux
    from stack.tcp.extension import TcpExtension
    from stack.tcp.listen import TcpListener

COOKIES_WHEN_FULL, COOKIES_ALWAYS = 1, 2  # net.ipv4.tcp_syncookies
ECN_SETUP = ECE | CWR


class PassiveOpens:
    """All half-open connections of one stack."""

    __slots__ = ("_demux", "_heap", "_jar")

    def __init__(self, demux: "TcpDemux", secret: bytes) -> None:
        self._demux = demux
        self._jar = cookies.CookieJar(secret)
        self._heap: LazyHeap[Request] = LazyHeap()

    # ------------------------------------------------------------------ SYN

    def syn_arrives(
        self,
        listener: "TcpListener",
        key: bytes,
        seg: Segment,
        link: Link,
        now: Nanos,
        iss: int = 0,
        head: bytes = b"",
    ) -> None:
        """RFC 9293 §3.10.7.2, third: remember it, or not, and answer.

        A SYN that follows a connection in TIME-WAIT comes with the ISS to use. It is from somebody real: no cookie.
        The connection goes over the link that the SYN came from: of several the one that its sender chose. `head` is
        its IP and TCP headers, for who saves them (TCP_SAVE_SYN); a cookie forgets those too.
        """
        demux = self._demux
        cookie = False
        if not iss and (listener.backlog_full() or demux.sysctl.tcp_syncookies == COOKIES_ALWAYS):
            if not demux.sysctl.tcp_syncookies:
                demux.mib.TcpExtTCPReqQFullDrop += 1
                self._drop(listener)
                return
            demux.mib.TcpExtTCPReqQFullDoCookies += 1
            cookie = True
        if listener.full():
            demux.mib.TcpExtListenOverflows += 1
            self._drop(listener)
            return
        if not cookie and not iss and not self._room(listener):
            self._drop(listener)
            return
        size = (len(key) - 4) // 2
        try:
            route = demux.route_over(link, key[:size], key[size:-4])
        except StackError:
            return
        peer = parse_syn_options(seg.options)
        if cookie:
            self._answer_with_cookie(listener, key, seg, peer, route, now)
            return
        fast, offer = self._fast(listener, key, seg, peer)
        try:
            extension = listener.extension(key, peer.unknown) if listener.extension is not None else None
        except SynRefused as refusal:
            demux.reset_for_key(key, seg, route.link, refusal.options)
            return
        if fast and (extension is None or extension.fast_open):
            conn = self._open_in_full(listener, key, seg, peer, route, extension, iss, now)
            self._open_fast(listener, conn, seg, now)
        elif extension is not None or listener.options.extra or listener.options.save_options:
            conn = self._open_in_full(listener, key, seg, peer, route, extension, iss, now)
            if offer:
                give_cookie(conn, offer)
        else:
            self._remember(listener, key, seg, peer, route, iss, offer, now)
        half = self._demux.flows.get(key) if listener.options.save_syn else None
        if isinstance(half, TcpConn | Request):
            half.saved_syn = head

    def _fast(self, listener: "TcpListener", key: bytes, seg: Segment, peer: SynOptions) -> tuple[bool, bytes]:
        if not peer.unknown and not seg.length:
            return False, b""
        return self._demux.fastopen.judge(listener, key, seg, peer)

    def _open_fast(self, listener: "TcpListener", conn: TcpConn, seg: Segment, now: Nanos) -> None:
        """RFC 7413 §4.2.2: to the program with it, and with the text of its SYN."""
        listener.removed(conn)
        conn.fastopen = ServerOpen(listener)
        conn.established = True
        tcb = conn.tcb
        conn.rcvbuf.start(tcb.rcv_nxt, tcb.rcv_wnd, 0, tcb.advmss, now)
        if seg.length:
            text_arrives(conn, tcb.rcv_nxt, seg.payload[: tcb.rcv_wnd], now)
        listener.ready(conn)

    def _drop(self, listener: "TcpListener") -> None:
        self._demux.mib.TcpExtListenDrops += 1

    def _room(self, listener: "TcpListener") -> bool:
        """Without cookies the last quarter of tcp_max_syn_backlog is kept for peers known to be alive: nobody here."""
        knobs = self._demux.sysctl
        most = knobs.tcp_max_syn_backlog
        return bool(knobs.tcp_syncookies) or most - len(listener.half_open) >= most >> 2

    def _request(
        self,
        listener: "TcpListener",
        key: bytes,
        seg: Segment,
        peer: SynOptions,
        route: Route,
        *,
        ecn: bool,
        accurate: bool = False,
    ) -> Request:
        """What both sides can do."""
        demux = self._demux
        knobs = demux.sysctl
        peer.unknown = []
        peer.sack_ok = peer.sack_ok and bool(knobs.tcp_sack)
        if not knobs.tcp_window_scaling:
            peer.wscale = None
        if not knobs.tcp_timestamps:
            peer.ts_val = None
        req = Request(demux, key, listener, route.link, route.mtu, seg, peer, route.advmss)
        needs = CONGESTION_CONTROLS[listener.options.congestion or knobs.tcp_congestion_control].needs_ecn
        answer = synack_flags(seg, knobs.tcp_ecn, needs, accurate) if ecn else 0
        req.flags |= answer
        if not answer:
            req.syn_flags &= ~ACE
        elif answer != ECE and knobs.tcp_ecn_option:
            req.first_extra = FIRST_OPTION
        return req

    def _remember(
        self,
        listener: "TcpListener",
        key: bytes,
        seg: Segment,
        peer: SynOptions,
        route: Route,
        iss: int,
        offer: bytes,
        now: Nanos,
    ) -> None:
        demux = self._demux
        req = self._request(listener, key, seg, peer, route, ecn=True, accurate=True)
        req.id = demux.next_id()
        fresh, req.ts_offset = demux.isn.iss_and_ts_offset(key, now)
        req.iss = iss or fresh
        req.extra = fastopen_option(offer) if offer else b""
        demux.flows[key] = req
        listener.added(req)
        req.emit(now)
        req.deadline = now + req.timeout()
        self._heap.push(req)

    def _answer_with_cookie(
        self, listener: "TcpListener", key: bytes, seg: Segment, peer: SynOptions, route: Route, now: Nanos
    ) -> None:
        demux = self._demux
        if peer.ts_val is None or not demux.sysctl.tcp_timestamps:
            peer.wscale = None
            peer.sack_ok = False
        req = self._request(listener, key, seg, peer, route, ecn=peer.ts_val is not None)
        mss = peer.mss or (536 if len(key) == 12 else 1220)
        req.iss, _mss = self._jar.make(key, req.irs, mss, now)
        _iss, req.ts_offset = demux.isn.iss_and_ts_offset(key, now)
        listener.cookie_at = now
        demux.mib.TcpExtSyncookiesSent += 1
        req.emit(cookies.stamp(now, peer.wscale, peer.sack_ok, bool(req.flags & ECE)))

    def _open_in_full(
        self,
        listener: "TcpListener",
        key: bytes,
        seg: Segment,
        peer: SynOptions,
        route: Route,
        extension: "TcpExtension | None",
        iss: int,
        now: Nanos,
    ) -> TcpConn:
        """A TcpConn in SYN-RECEIVED, whose own output sends the SYN-ACK."""
        demux = self._demux
        size = (len(key) - 4) // 2
        remote = (key[:size], int.from_bytes(key[-4:-2], "big"))
        local = (key[size:-4], int.from_bytes(key[-2:], "big"))
        options = listener.options.copy()
        conn = TcpConn(demux, demux.next_id(), local, remote, route.link, route.mtu, options, now, route.advmss)
        conn.listener = listener
        conn.binding = listener.binding.share()
        conn.passive = True
        conn.ext = extension or conn.ext
        fresh, ts_offset = demux.isn.iss_and_ts_offset(key, now)
        conn.set_iss(iss or fresh, ts_offset)
        demux.flows[key] = conn
        take_syn(conn, seg, peer, now)
        conn.state = SYN_RECEIVED
        conn.syn_due = True
        listener.added(conn)
        demux.mib.TcpPassiveOpens += 1
        demux.trace("opened", conn)
        demux.mark(conn)
        return conn

    # ------------------------------------------------------------------ the ACK

    def segment_arrives(self, req: Request, seg: Segment, now: Nanos) -> None:
        """One segment for a request; the handshake may be complete, but is there room?"""
        if not req.on_segment(seg, now):
            return
        demux, listener = self._demux, req.listener
        mib = demux.mib
        if not seg.length and not seg.flags & FIN and req.retrans < defer_limit(listener.options.defer_accept):
            mib.TcpExtTCPDeferAcceptDrop += 1
            req.acked = True
        elif not listener.full():
            req.forget()
            self._complete(req, seg, now)
        else:
            mib.TcpExtListenOverflows += 1
            mib.TcpExtListenDrops += 1
            req.acked = True
            if demux.sysctl.tcp_abort_on_overflow:
                mib.TcpExtEmbryonicRsts += 1
                demux.reset_for_key(req.key, seg, req.link)
                req.forget()

    def ack_arrives(self, listener: "TcpListener", key: bytes, seg: Segment, link: Link, now: Nanos) -> bool:
        """An ACK that belongs to nothing: it may bring back a cookie. False if it is to be answered with RST."""
        demux = self._demux
        mib, knobs = demux.mib, demux.sysctl
        if seg.flags & (SYN | RST) or not knobs.tcp_syncookies or now - listener.cookie_at >= cookies.VALID:
            return False
        mss = self._jar.read(key, seg.seq - 1, seg.ack - 1, now)
        if not mss:
            mib.TcpExtSyncookiesFailed += 1
            return False
        mib.TcpExtSyncookiesRecv += 1
        peer = SynOptions(mss=mss)
        _iss, offset = demux.isn.iss_and_ts_offset(key, now)
        syn_flags = SYN
        if seg.ts_val >= 0 and knobs.tcp_timestamps:
            peer.ts_val = seg.ts_val
            peer.wscale, peer.sack_ok, ecn = cookies.read_stamp(seg.ts_ecr - offset)
            syn_flags |= ECN_SETUP if ecn else 0
        size = (len(key) - 4) // 2
        try:
            route = demux.route_over(link, key[:size], key[size:-4])
        except StackError:
            return True
        syn = Segment(seg.seq - 1, 0, syn_flags, seg.wnd, 0, seg.payload[:0], 0, -1, 0, None, b"")
        req = self._request(listener, key, syn, peer, route, ecn=True)
        req.id = demux.next_id()
        req.iss, req.ts_offset = seg.ack - 1, offset
        req.retrans = 1  # no round-trip sample: when the SYN-ACK left is forgotten
        if listener.full():
            mib.TcpExtListenOverflows += 1
            mib.TcpExtListenDrops += 1
        else:
            self._complete(req, seg, now)
        return True

    def _complete(self, req: Request, seg: Segment, now: Nanos) -> None:
        """The request becomes a connection, which takes the segment that completed it."""
        demux, listener = self._demux, req.listener
        options = listener.options.copy()
        conn = TcpConn(demux, req.id, req.local, req.remote, req.link, req.mtu, options, now, req.route_advmss)
        conn.saved_syn = req.saved_syn
        conn.key = req.key  # the very object that is in the table
        conn.listener = listener
        conn.binding = listener.binding.share()
        conn.passive = True
        conn.set_iss(req.iss & 0xFFFF_FFFF, req.ts_offset)
        syn = Segment(req.irs, 0, req.syn_flags, req.wnd, 0, seg.payload[:0], 0, -1, 0, None, b"", req.syn_ecn)
        take_syn(conn, syn, req.peer, req.sent_at)
        conn.tcb.ts_recent = req.ts_recent
        conn.state = SYN_RECEIVED
        conn.syn_sent_at = req.sent_at
        conn.syn_retries = req.retrans
        demux.flows[req.key] = conn
        demux.mib.TcpPassiveOpens += 1
        demux.trace("opened", conn)
        segment_arrives(conn, seg, now)

    # ------------------------------------------------------------------ time

    def poll_timeout(self) -> Nanos | None:
        """The next SYN-ACK to be sent again."""
        return self._heap.earliest()

    def handle_timeout(self, now: Nanos) -> None:
        """Send SYN-ACKs again, give up on old requests."""
        for req in self._heap.due(now):
            self._times_out(req, now)
            if req.deadline != NEVER:
                self._heap.push(req)

    def _times_out(self, req: Request, now: Nanos) -> None:
        listener, mib = req.listener, self._demux.mib
        tries = self._tries(listener)
        defer = defer_limit(listener.options.defer_accept)
        expired = req.retrans >= tries and (not defer or not req.acked or req.retrans >= defer)
        # While text is awaited there is no need to ask; the last time-out before the end gives the peer another chance.
        resend = not defer or not req.acked or req.retrans >= defer - 1
        if expired:
            req.forget()
            return
        mib.TcpExtTCPTimeouts += 1
        if resend:
            mib.TcpRetransSegs += 1
            mib.TcpExtTCPSynRetrans += 1
            req.emit(now)
        if not req.retrans:
            listener.young -= 1
        req.retrans += 1
        req.deadline = now + req.timeout()

    def _tries(self, listener: "TcpListener") -> int:
        """How often a SYN-ACK is sent again: fewer times while old requests crowd the backlog."""
        tries = listener.options.syncnt or self._demux.sysctl.tcp_synack_retries
        held = len(listener.half_open)
        if held << 1 > max(8, listener.backlog):
            young = listener.young << 1
            while tries > 2 and held >= young:
                tries -= 1
                young <<= 1
        return tries


def defer_limit(seconds: int) -> int:
    """TCP_DEFER_ACCEPT in time-outs of the SYN-ACK instead of seconds, as Linux keeps it."""
    if seconds <= 0:
        return 0
    count, timeout, period = 1, SEC, SEC
    while seconds * SEC > period and count < 255:
        count += 1
        timeout = min(timeout << 1, 120 * SEC)
        period += timeout
    return count
