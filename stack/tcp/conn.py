"""The connection: a TCB, organs, and the verbs of the program that owns it.

A verb enqueues and marks; it never builds a packet. Whatever changes a connection marks it dirty with its demux, and
`Stack.poll_transmit` then asks tcp/output.py what is to be sent. Input is in tcp/input.py and tcp/ack.py, loss recovery
in tcp/recovery.py, what a deadline does in tcp/timeouts.py; they are functions over this object.
"""

import errno
from typing import TYPE_CHECKING, Any

from stack.errors import StackError
from stack.events import CLOSED as EV_CLOSED
from stack.events import FAILED, WRITABLE
from stack.ip.link import IP_MAX, Link
from stack.seq import MASK32
from stack.tcp.castate import Recovery, window
from stack.tcp.cc import make_congestion_control
from stack.tcp.cc.base import CongestionControl, RateSample
from stack.tcp.defer import should_wait
from stack.tcp.ecn import Ecn, on_new_cc
from stack.tcp.extension import ExtraOptions, TcpExtension
from stack.tcp.fastopen import ClientOpen, ServerOpen
from stack.tcp.info import TcpInfo
from stack.tcp.offer import advertised_mss, window_shift
from stack.tcp.options import OptionValue, TcpOptions, check_option
from stack.tcp.pacing import Pacer
from stack.tcp.plpmtud import MtuSearch
from stack.tcp.rcvbuf import ReceiveBuffer
from stack.tcp.recvq import RecvQueue
from stack.tcp.rtt import NEAR, Rtt
from stack.tcp.scoreboard import Scoreboard
from stack.tcp.sendq import SendQueue
from stack.tcp.snapshot import make_info
from stack.tcp.state import (
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    State,
)
from stack.tcp.tcb import Tcb
from stack.tcp.timers import KEEPALIVE, RTO, TIMEWAIT, Timers
from stack.tcp.urgent import Urgent, limit_at_mark, readable_now, take
from stack.units import MSEC, SEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.demux import TcpDemux
    from stack.tcp.listen import TcpListener
    from stack.tcp.ports import Binding

SockAddr = tuple[bytes, int]
MIN_SNDBUF = 131072
NEAR_SNDBUF = 2 << 20
NO_FIN = -1
FIN_TIMEOUT_MAX = 120  # seconds


class Counts:
    """What a connection has done, for tcp_info."""

    __slots__ = (
        "app_limited",
        "bytes_acked",
        "bytes_received",
        "bytes_retrans",
        "bytes_sent",
        "cwnd_checked_at",
        "cwnd_used",
        "data_segs_in",
        "data_segs_out",
        "delivered",
        "delivered_at",
        "delivery_rate",
        "dsack_dups",
        "last_ack_recv",
        "last_data_recv",
        "last_data_sent",
        "rate_app_limited",
        "rcv_ooopack",
        "segs_in",
        "segs_out",
        "total_retrans",
        "total_rto",
        "total_rto_recoveries",
        "total_rto_time",
        "window_at",
    )

    def __init__(self, now: Nanos) -> None:
        self.bytes_acked = self.bytes_received = self.bytes_retrans = self.bytes_sent = 0
        self.data_segs_in = self.data_segs_out = self.segs_in = self.segs_out = 0
        self.delivered = 0  # bytes, sacked or acked
        self.delivered_at = now
        self.window_at = now  # when the text left whose delivery was at delivered_at
        self.delivery_rate = 0  # bytes a second, of the last sample
        self.rate_app_limited = False
        self.app_limited = 0  # samples are, until this much is delivered; 0: not
        self.cwnd_used = 0  # most in flight of late, where the program was the limit
        self.cwnd_checked_at: Nanos = 0
        self.dsack_dups = self.rcv_ooopack = self.total_retrans = 0
        self.total_rto = 0  # time-outs …
        self.total_rto_recoveries = 0  # … in so many rows …
        self.total_rto_time: Nanos = 0  # … and from the first of each row to the ACK that ended it
        self.last_ack_recv = self.last_data_recv = self.last_data_sent = now


class TcpConn:
    """One connection. Attributes without an underscore may be read by anybody and written by stack.tcp only."""

    __slots__ = (
        "ack_due",
        "bare_ack_due",
        "binding",
        "board",
        "cc",
        "cc_listens",
        "counts",
        "cwnd_limited",
        "delack_at",
        "demux",
        "dirty",
        "dsack",
        "dup_acks_due",
        "ecn",
        "ecn_asked",
        "error",
        "established",
        "events",
        "ext",
        "fastopen",
        "fin_queued",
        "fin_rcvd",
        "fin_seq",
        "flow_label",
        "force_push",
        "hdr",
        "id",
        "invalid_ack_at",
        "ip_base",
        "ip_frag",
        "ip_id",
        "keepalive_sent",
        "key",
        "link",
        "listener",
        "local",
        "mtu",
        "mtu_search",
        "octet_at",
        "octet_due",
        "options",
        "orphan",
        "owner",
        "pacer",
        "passive",
        "peer_fin_seq",
        "persist_backoff",
        "pingpong",
        "probe_due",
        "probes_out",
        "pseudo_sum",
        "quick_acks",
        "rcv_mss",
        "rcvbuf",
        "read_closed",
        "recovery",
        "recvq",
        "remote",
        "route_advmss",
        "rst_due",
        "rtt",
        "sample",
        "saved_syn",
        "sendq",
        "snd_sml",
        "snd_stalled",
        "snd_up",
        "soft_error",
        "state",
        "syn_due",
        "syn_extra",
        "syn_retries",
        "syn_sent_at",
        "tcb",
        "timers",
        "tlp_due",
        "tlp_stale",
        "tos",
        "train_at",
        "train_end",
        "train_most",
        "ttl",
        "urgent",
        "v6",
        "window_stale",
    )

    def __init__(
        self,
        demux: "TcpDemux",
        ident: int,
        local: SockAddr,
        remote: SockAddr,
        link: Link,
        mtu: int,
        options: TcpOptions,
        now: Nanos,
        advmss: int = 0,
    ) -> None:
        knobs = demux.sysctl
        self.demux = demux
        self.id = ident
        self.owner: Any = None
        self.events = 0
        self.error = 0
        self.local = local
        self.remote = remote
        self.v6 = len(remote[0]) == 16
        self.key = flow_key(remote, local)
        self.link = link
        self.mtu = mtu
        self.route_advmss = advmss  # what the route says our SYN shall advertise; 0: nothing
        self.mtu_search: MtuSearch | None = None
        self.options = options
        self.listener: TcpListener | None = None
        self.binding: Binding | None = None
        self.state: State = CLOSED
        self.established = False
        self.passive = False  # opened by the peer's SYN
        self.ecn: Ecn | None = None
        self.ecn_asked = 0  # flags of our SYN that ask for ECN
        self.ext: TcpExtension | None = None
        self.fastopen: ClientOpen | ServerOpen | None = None
        self.syn_extra = b""  # of our SYN-ACK: a Fast Open cookie
        if options.extra or options.save_options:
            self.ext = ExtraOptions(options.extra, options.save_options)
        self.tcb = Tcb()
        self.tcb.advmss = self.adv_mss()
        self.sendq = SendQueue(0)
        self.recvq = RecvQueue(0)
        self.board = Scoreboard()
        self.recovery = Recovery(knobs.tcp_reordering)
        self.rtt = Rtt(knobs.tcp_rto_min_us, knobs.tcp_rto_max_ms, knobs.tcp_min_rtt_wlen)
        self.timers = Timers()
        self.rcvbuf = ReceiveBuffer(
            options.rcvbuf or knobs.tcp_rmem[1], max(knobs.tcp_rmem[2], options.rcvbuf), not options.rcvbuf
        )
        name = options.congestion or knobs.tcp_congestion_control
        self.sample: RateSample | None = None
        self.saved_syn = b""  # with options.save_syn: the headers of the peer's SYN
        self.pacer: Pacer | None = None
        self.cc_listens = False  # somebody wants to hear of every ACK: sample, pacer, or marks
        self.cc: CongestionControl = make_congestion_control(name, self.tcb.advmss, now)
        self.counts = Counts(now)
        # what output has to do
        self.dirty = False
        self.syn_due = False
        self.ack_due = False
        self.bare_ack_due = False  # an extension has to say what only fits where no text is
        self.dup_acks_due = 0
        self.rst_due = False
        self.probe_due = 0  # a bare segment one below snd_una is wanted: keepalive or zero-window probe
        self.octet_due = False  # the same with an octet of garbage, so that an answer is certain
        self.octet_at = -1  # where the last such was
        self.dsack: tuple[int, int] | None = None
        self.fin_queued = False
        self.fin_seq = NO_FIN
        self.fin_rcvd = False
        self.peer_fin_seq = -1  # where the peer's FIN lies, once seen
        # acknowledging
        self.quick_acks = 16
        self.pingpong = False
        self.rcv_mss = 536
        self.delack_at = 0
        self.invalid_ack_at: Nanos = -(1 << 60)  # never yet
        # sending
        self.snd_up = -1  # one past the last urgent byte
        self.urgent: Urgent | None = None
        self.snd_sml = -1  # end of the last segment sent below the MSS (Minshall's Nagle)
        self.train_at = self.train_end = 0  # text that counts as sent, and leaves in the next packets; 0: none
        self.train_most = 0  # bytes of it in a packet
        self.snd_stalled = False  # the send queue was full: WRITABLE is owed
        self.cwnd_limited = False
        self.persist_backoff = 0
        self.probes_out = 0  # zero-window probes since the peer was last heard
        self.tlp_due = 0
        self.soft_error = 0  # errno of the last ICMP error about an established connection
        self.keepalive_sent = 0
        self.syn_retries = 0
        self.syn_sent_at: Nanos = 0
        self.ip_id = self.id & 0xFFFF
        # the program's end
        self.orphan = False
        self.read_closed = False
        # for tcp/output.py
        self.force_push = False  # the persist or cork timer ran out: a partial segment may go
        self.flow_label = (
            demux.isn.port_offset(self.key) & 0xFFFFF if self.v6 and demux.sysctl.auto_flowlabels & 1 else 0
        )
        self.hdr = bytearray(10 + 40 + 8 + 60)  # virtio, IPv6, jumbo payload, TCP
        self.pseudo_sum = 0
        self.ip_base = 0  # 0: to be computed
        self.ip_frag = 0
        self.ttl = 0
        self.tos = 0
        self.window_stale = True  # the program took text, or the buffer changed, since the window was computed
        self.tlp_stale = False  # text was sent or acknowledged since the probe timer was set

    # ------------------------------------------------------------------ the program's verbs: writing

    @property
    def send_space(self) -> int:
        """Bytes that may still be queued; may go below zero by one chunk."""
        room = self.sndbuf() - len(self.sendq)
        if self.options.notsent_lowat:  # TCP_NOTSENT_LOWAT
            room = min(room, (self.options.notsent_lowat & 0xFFFF_FFFF) - self.unsent)
        if room <= 0:
            self.snd_stalled = True
        return room

    @property
    def send_queued(self) -> int:
        """Bytes not yet acknowledged, sent or not (SIOCOUTQ)."""
        return len(self.sendq)

    @property
    def unsent(self) -> int:
        """Bytes of the send queue that were never sent (SIOCOUTQNSD)."""
        return max(self.sendq.end - max(self.tcb.snd_nxt, self.sendq.start), 0)

    def sndbuf(self) -> int:
        """The send buffer: fixed by SO_SNDBUF, else twice the congestion window within tcp_wmem.

        Where a round trip takes less than a millisecond more than NEAR_SNDBUF is never in use, and only drives the
        text out of the processor's cache between the program's write and ours: half the throughput of the shim.
        """
        if self.options.sndbuf:
            return self.options.sndbuf
        _least, first, most = self.demux.sysctl.tcp_wmem
        if 0 < self.rtt.min_rtt < NEAR and most > NEAR_SNDBUF:
            most = NEAR_SNDBUF
        return min(most, max(first, MIN_SNDBUF, 2 * self.cc.cwnd))

    def send(self, data: bytes | memoryview, more: bool = False, urgent: bool = False) -> None:
        """Queue `data`, which must never change afterwards; `more` holds back a partial segment (MSG_MORE).

        `urgent` marks the last byte of it (MSG_OOB, RFC 9293 §3.8.5).

        Raises StackError EPIPE after shutdown or once the connection is gone, ENOTCONN before it was begun.
        """
        if self.fin_queued or self.state in _NO_MORE_SENDING:
            raise StackError(errno.EPIPE, "the sending direction is closed")
        if data:
            self.sendq.append(data)
            if urgent:
                self.snd_up = self.sendq.end
            if self.waits_for_text:
                self.begin()
            elif not more:
                self.demux.mark(self)

    @property
    def waits_for_text(self) -> bool:
        """Its SYN leaves with the first text (TCP_FASTOPEN_CONNECT)."""
        return self.fastopen is not None and self.fastopen.deferred

    def begin(self) -> None:
        """The text for the SYN is there: it may leave."""
        if self.fastopen is not None and self.fastopen.deferred:
            self.fastopen.deferred = False
            self.syn_due = True
        self.demux.mark(self)

    def shutdown(self) -> None:
        """No more will be sent: FIN follows what is queued (half-close). Raises StackError ENOTCONN."""
        if self.state is CLOSED or self.state is SYN_SENT:
            raise StackError(errno.ENOTCONN, "not connected")
        self._queue_fin()

    def _queue_fin(self) -> None:
        if self.fin_queued:
            return
        self.fin_queued = True
        if self.state is ESTABLISHED:
            self.state = FIN_WAIT_1
        elif self.state is CLOSE_WAIT:
            self.state = LAST_ACK
        self.demux.mark(self)

    # ------------------------------------------------------------------ the program's verbs: reading

    @property
    def readable(self) -> int:
        """Bytes in order, ready to take; a byte out of band is not among them."""
        return self.recvq.readable if self.urgent is None else readable_now(self, self.urgent)

    def read_seq(self) -> int:
        """Sequence number of the next byte that the program reads."""
        return self.recvq.nxt - self.recvq.readable

    def recv_urgent(self, peek: bool = False) -> bytes:
        """The urgent byte. Raises StackError EINVAL if there is none, EAGAIN if it has not arrived yet."""
        return take(self, peek)

    def at_mark(self) -> bool:
        """True if the next byte to read is where the urgent one was or is (SIOCATMARK)."""
        return self.urgent is not None and self.read_seq() == self.urgent.seq

    @property
    def peer_closed(self) -> bool:
        """True once the peer's FIN arrived and all text before it is in the queue."""
        return self.fin_rcvd

    def views(self, limit: int) -> list[memoryview]:
        """In-order text, at most `limit` bytes; it stays queued until `consume`."""
        if self.urgent is not None:
            limit = limit_at_mark(self, self.urgent, limit)
        return self.recvq.views(limit)

    def consume(self, count: int) -> None:
        """The program took `count` bytes; tells the peer when that opens the window by enough (RFC 9293 §3.8.6.2.2)."""
        self.recvq.consume(count)
        self.window_stale = True
        tcb = self.tcb
        left = tcb.rcv_wup + tcb.rcv_wnd - tcb.rcv_nxt
        fresh = min(self.rcvbuf.size - self.recvq.readable, 65535 << tcb.rcv_wscale)
        if fresh >= 2 * left and fresh - left >= min(self.rcvbuf.size // 2, tcb.advmss) and not self.fin_rcvd:
            self.ack_due = True
            self.demux.mark(self)

    def drain(self) -> list[memoryview]:
        """All in-order text at once; the peer is told no window by it. For an extension that queues it elsewhere."""
        views = list(self.recvq.ready)
        self.recvq.ready.clear()
        self.recvq.readable = 0
        self.window_stale = True
        return views

    def shutdown_read(self) -> None:
        """The program will read no more. As in Linux, text still queues; after our FIN it is answered with RST."""
        self.read_closed = True

    # ------------------------------------------------------------------ the program's verbs: ending

    def close(self) -> None:
        """The program is gone. FIN after what is queued; RST instead if it left text unread (RFC 2525 §2.17)."""
        if self.orphan:
            return
        self.orphan = True
        self.owner = None
        mib = self.demux.mib
        if self.state in (CLOSED, TIME_WAIT, SYN_SENT):
            self.demux.drop(self)
        elif self.recvq.readable:
            mib.TcpExtTCPAbortOnClose += 1
            self.abort()
        elif self.options.linger == 0:
            mib.TcpExtTCPAbortOnData += 1
            self.abort()
        elif self.state is FIN_WAIT_2 and self.options.linger2 < 0:
            mib.TcpExtTCPAbortOnLinger += 1
            self.abort()
        elif not self.demux.orphaned(self):
            mib.TcpExtTCPAbortOnMemory += 1
            self.abort()
        else:
            self._queue_fin()
            if self.state is FIN_WAIT_2:
                self.timers.arm(TIMEWAIT, self.demux.clock + self.fin_timeout())
            self.demux.mark(self)

    def abort(self) -> None:
        """RST now; what is queued is lost."""
        if self.state in (CLOSED, TIME_WAIT, SYN_SENT):
            self.demux.drop(self)
            return
        self.sendq.clear()
        self.board.clear()
        self.rst_due = True
        self.timers.stop_all()
        self.demux.mark(self)

    def fin_timeout(self) -> Nanos:
        """How long an orphan waits for the peer's FIN."""
        own = min(self.options.linger2, FIN_TIMEOUT_MAX)
        return (own if own > 0 else self.demux.sysctl.tcp_fin_timeout) * SEC

    # ------------------------------------------------------------------ options and view

    def set_option(self, name: str, value: OptionValue) -> None:
        """Set one of TcpOptions, with its effect. Raises StackError EINVAL, ENOENT or ENOPROTOOPT."""
        check_option(name, value)
        if name == "congestion":
            self._change_cc(str(value))
        setattr(self.options, name, value)
        if name == "rcvbuf":
            self.rcvbuf.auto = False
            self.rcvbuf.size = min(max(self.options.rcvbuf, 2304), self.rcvbuf.limit)
            self.window_stale = True
        elif name == "maxseg":
            self.sync_mss()
        elif name in ("keepalive", "keepidle"):
            self.arm_keepalive()
        elif name in ("extra", "save_options"):
            self._set_extra()
        elif name in ("tos", "ttl"):
            self.ip_base = 0
        elif name == "max_pacing_rate":
            self.set_pacer()
        elif name == "quickack":
            self.pingpong = not value
        elif name in ("nodelay", "cork") and self.sendq.end == self.tcb.snd_nxt:
            return  # no text waits
        self.demux.mark(self)

    def _change_cc(self, name: str) -> None:
        """Raises StackError ENOENT, EPERM: TCP_CONGESTION. The window stays."""
        cc = make_congestion_control(name, self.tcb.mss_cache, self.demux.clock)
        if name not in self.demux.sysctl.tcp_allowed_congestion_control.split():
            raise StackError(errno.EPERM, f"{name} is not in tcp_allowed_congestion_control")
        cc.cwnd, cc.ssthresh = self.cc.cwnd, self.cc.ssthresh
        self.use_cc(cc, self.demux.clock)

    def use_cc(self, cc: CongestionControl, now: Nanos) -> None:
        """Go on with a fresh congestion control."""
        self.cc = cc
        cc.abe = bool(self.demux.sysctl.tcp_abe)
        cc.start(self.rtt.srtt, now)
        self.sample = RateSample() if cc.wants_samples else None
        if self.ecn is not None:
            self.ecn = on_new_cc(self.ecn, cc.needs_ecn)
        self.set_pacer()
        if self.ext is not None:
            self.ext.on_cc(self)

    def set_pacer(self) -> None:
        """Pace if the congestion control or SO_MAX_PACING_RATE asks for it."""
        knobs, limit = self.demux.sysctl, self.options.max_pacing_rate
        pacer = None
        if self.cc.wants_pacing or limit:
            pacer = Pacer(limit, knobs.tcp_pacing_ss_ratio, knobs.tcp_pacing_ca_ratio, knobs.tcp_min_tso_segs)
            if self.cc.pacing_rate:
                pacer.set_rate(self.cc.pacing_rate)
        self.pacer = pacer
        self.cc_listens = pacer is not None or self.sample is not None or self.cc.needs_ecn

    def _set_extra(self) -> None:
        """Raises StackError EOPNOTSUPP where another extension, Multipath TCP say, has the option space."""
        options = self.options
        if self.ext is None:
            self.ext = ExtraOptions(options.extra, options.save_options)
        elif isinstance(self.ext, ExtraOptions):
            self.ext.set(options.extra, options.save_options)
        else:
            raise StackError(errno.EOPNOTSUPP, "another extension has this connection's options")

    def info(self, now: Nanos) -> TcpInfo:
        """The connection as struct tcp_info shows it."""
        return make_info(self, now)

    # ------------------------------------------------------------------ used by the other files of stack.tcp

    def set_iss(self, iss: int, ts_offset: int) -> None:
        """Start the sequence space; the SYN takes `iss` itself."""
        tcb = self.tcb
        tcb.iss = tcb.snd_una = iss
        tcb.snd_nxt = iss + 1
        tcb.ts_offset = ts_offset
        self.sendq = SendQueue(iss + 1)

    def adv_mss(self) -> int:
        """The MSS we tell the peer."""
        return advertised_mss(self.mtu, self.route_advmss, self.v6, self.options)

    def window_shift(self) -> int:
        """The scale that lets the largest receive buffer be advertised."""
        return window_shift(self.rcvbuf.limit)

    def sync_mss(self) -> None:
        """Recompute the MSS from path MTU, the peer's MSS and the options every segment carries."""
        tcb = self.tcb
        mss = min(tcb.peer_mss, self.mtu - (60 if self.v6 else 40))
        if self.mtu_search is not None:
            mss = min(mss, self.mtu_search.low - (60 if self.v6 else 40))
        if self.options.maxseg:
            mss = min(mss, self.options.maxseg)
        mss = max(mss, self.demux.sysctl.tcp_min_snd_mss) - (12 if tcb.ts_ok else 0)
        # Two segments to a small window, so that the peer's ACKs keep coming: Linux's tcp_bound_to_half_wnd.
        most = tcb.max_window >> 1 if tcb.max_window > 536 else tcb.max_window
        if most and mss > most:
            mss = max(most, 48)
        tcb.mss_cache = mss
        if mss != self.cc.mss:
            self.cc.on_mss(mss)

    def ts_now(self, now: Nanos) -> int:
        """Our timestamp clock: milliseconds plus a secret offset (RFC 7323 §5.4)."""
        return (now // MSEC + self.tcb.ts_offset) & MASK32

    def in_flight(self) -> int:
        """RFC 6675's pipe, in bytes."""
        tcb, board = self.tcb, self.board
        out = tcb.snd_nxt - tcb.snd_una - board.sacked_out - board.lost_out + board.retrans_out
        return max(out - self.recovery.reno_sacked, 0)

    def room(self) -> int:
        """Bytes beyond what is queued that congestion control and the peer's window would let out now; may be < 0.

        0 as well where it is better to let the window grow a little first (stack/tcp/defer.py).
        """
        tcb = self.tcb
        cwnd = window(self) if self.recovery.ca else self.cc.cwnd
        flight = self.in_flight()
        unsent = self.sendq.end - tcb.snd_nxt
        room = min(cwnd - flight, tcb.snd_una + tcb.snd_wnd - tcb.snd_nxt) - unsent
        mss = tcb.mss_cache
        if mss < room < IP_MAX and flight and self.link.offload and should_wait(self, room, mss, self.demux.clock):
            return 0
        return room

    def in_flight_at(self, seq: int) -> bool:
        """True if a segment with this wire sequence number may be on its way to the peer, RFC 5927 §4.1."""
        tcb = self.tcb
        return (seq - tcb.snd_una) & MASK32 <= tcb.snd_nxt - tcb.snd_una

    def post(self, bits: int) -> None:
        """Tell the owner, unless it has gone."""
        if self.ext is not None:
            bits = self.ext.on_news(self, bits)
        if bits and not self.orphan:
            self.demux.post_event(self, bits)

    def room_made(self) -> None:
        """Text was acknowledged: WRITABLE if a third of the buffer is free again after it was full."""
        lowat = self.options.notsent_lowat & 0xFFFF_FFFF
        if lowat and self.snd_stalled and self.unsent >= lowat:
            return
        if self.snd_stalled and 3 * len(self.sendq) < 2 * self.sndbuf():
            self.snd_stalled = False
            self.post(WRITABLE)

    def arm_rto(self, now: Nanos) -> None:
        """Start the retransmission timer afresh; a user timeout (RFC 5482) may end the wait sooner."""
        deadline = now + self.rtt.backed_off(self.recovery.backoff)
        limit = self.options.user_timeout_ms
        if limit:
            head = self.board.first()
            if head is not None:
                deadline = min(deadline, max(head.first_sent_at + limit * MSEC, now + MSEC))
        self.timers.arm(RTO, deadline)

    def arm_keepalive(self) -> None:
        """(Re)start the keepalive clock from the last sign of life."""
        if self.options.keepalive and self.established and self.state is not TIME_WAIT:
            idle = self.options.keepidle or self.demux.sysctl.tcp_keepalive_time
            self.timers.arm(KEEPALIVE, max(self.counts.last_ack_recv, self.counts.last_data_recv) + idle * SEC)
        else:
            self.timers.stop(KEEPALIVE)

    def fail(self, err: int) -> None:
        """The connection is dead with errno `err`; nothing is sent."""
        self.error = self.error or err
        self.sendq.clear()
        self.board.clear()
        self.post(FAILED)
        self.demux.drop(self)

    def abort_with(self, err: int) -> None:
        """RST, and the owner hears why."""
        self.error = self.error or err
        self.post(FAILED)
        self.abort()

    def forget_queues(self) -> None:
        """Free what a connection in TIME-WAIT or CLOSED does not need; unread text stays for the program."""
        self.sendq.clear()
        self.board.clear()
        if self.orphan:
            self.recvq.clear()

    def closed(self) -> None:
        """Called by the demux when the connection has left its tables."""
        self.state = CLOSED
        self.timers.stop_all()
        self.timers.conn = None
        self.forget_queues()
        if self.ext is not None:
            self.ext.on_closed(self)
        self.post(EV_CLOSED)

    def check(self) -> None:
        """Raise InvariantBroken if parts contradict one another."""
        self.tcb.check()
        self.sendq.check()
        self.recvq.check()
        self.board.check()


_NO_MORE_SENDING = frozenset((CLOSED, FIN_WAIT_1, FIN_WAIT_2, TIME_WAIT, LAST_ACK, State.CLOSING))
_HANDSHAKE = frozenset((SYN_SENT, SYN_RECEIVED))


def flow_key(remote: SockAddr, local: SockAddr) -> bytes:
    """The demux key, laid out as addresses and ports lie in a received packet."""
    return remote[0] + local[0] + remote[1].to_bytes(2, "big") + local[1].to_bytes(2, "big")
