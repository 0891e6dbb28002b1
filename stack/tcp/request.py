"""A half-open connection of a listener: what the SYN said and what our SYN-ACK answered, nothing more.

It becomes a TcpConn when the handshake completes, and until then costs half a kilobyte. The checks are those of
RFC 9293 §3.10.7.4 for SYN-RECEIVED with the answers of RFC 5961, as far as a segment can matter here.
"""

from typing import TYPE_CHECKING

from stack.errors import InvariantBroken
from stack.ip.link import Link
from stack.seq import MASK32, ts_before
from stack.tcp.mini import MiniFlow, signed, timestamps
from stack.tcp.offer import advertised_mss, window_shift
from stack.tcp.state import SYN_RECEIVED
from stack.tcp.timers import NEVER
from stack.units import SEC, Nanos
from stack.wire.tcp import ACK, FIN, RST, SYN, Segment
from stack.wire.tcp_options import SynOptions, emit_syn_options

if TYPE_CHECKING:
    from stack.tcp.demux import TcpDemux
    from stack.tcp.listen import TcpListener

TIMEOUT_INIT = SEC  # RFC 6298 §2.1, Linux's TCP_TIMEOUT_INIT


class Request(MiniFlow):
    """Linux's request_sock. Numbers are wire values."""

    __slots__ = (
        "acked",
        "advmss",
        "extra",
        "first_extra",
        "flags",
        "irs",
        "iss",
        "listener",
        "mtu",
        "peer",
        "rcv_wnd",
        "rcv_wscale",
        "retrans",
        "route_advmss",
        "saved_syn",
        "sent_at",
        "syn_ecn",
        "syn_flags",
        "tos",
        "ts_offset",
        "ts_recent",
        "ttl",
        "wnd",
    )

    state = SYN_RECEIVED

    def __init__(
        self,
        demux: "TcpDemux",
        key: bytes,
        listener: "TcpListener",
        link: Link,
        mtu: int,
        seg: Segment,
        peer: SynOptions,
        advmss: int = 0,
    ) -> None:
        super().__init__(demux, 0, key, link)
        knobs, options = demux.sysctl, listener.options
        self.listener = listener
        self.mtu = mtu
        self.route_advmss = advmss
        self.peer = peer
        self.irs = seg.seq & MASK32
        self.wnd = seg.wnd
        self.syn_flags = seg.flags
        self.syn_ecn = seg.ecn
        self.ts_recent = peer.ts_val or 0
        self.iss = self.ts_offset = 0
        self.flags = SYN | ACK  # of the SYN-ACK, with what ECN adds
        self.saved_syn = b""
        self.extra = b""  # options behind the usual ones
        self.first_extra = b""  # … of the first SYN-ACK only, if there are no others: RFC 9768 §3.2.3.2.2
        self.retrans = 0  # time-outs so far
        self.acked = False  # the peer completed the handshake, but we could not or did not want to
        self.sent_at: Nanos = 0
        self.tos = options.tos & ~3
        self.ttl = options.ttl or knobs.ip_default_ttl
        self.advmss = advertised_mss(mtu, advmss, len(key) > 12, options)
        self.rcv_wnd = min(options.rcvbuf or knobs.tcp_rmem[1], 65535)
        self.rcv_wscale = window_shift(max(knobs.tcp_rmem[2], options.rcvbuf)) if peer.wscale is not None else 0

    def emit(self, now: Nanos) -> None:
        """Put a SYN-ACK into the outbox."""
        peer = self.peer
        scale = self.rcv_wscale if peer.wscale is not None else None
        ts = (timestamp(now, self.ts_offset), self.ts_recent) if peer.ts_val is not None else None
        options = emit_syn_options(self.advmss, scale, peer.sack_ok, ts)
        if not self.sent_at:
            self.sent_at = now
            options += self.extra or self.first_extra
        else:
            options += self.extra
        self._send(self.iss, self.flags, self.rcv_wnd, options)

    def emit_ack(self, now: Nanos) -> None:
        """Put a bare ACK into the outbox."""
        options = timestamps(now, self.ts_offset, self.ts_recent) if self.peer.ts_val is not None else b""
        self._send(self.iss + 1, ACK, self.rcv_wnd >> self.rcv_wscale, options)

    def _send(self, seq: int, flags: int, wnd: int, options: bytes) -> None:
        self.demux.emit_bare(
            self.key, seq, self.irs + 1, flags, self.link, wnd=wnd, options=options, ttl=self.ttl, tos=self.tos
        )

    def timeout(self) -> Nanos:
        """From one SYN-ACK to the next, doubling."""
        return min(TIMEOUT_INIT << min(self.retrans, 24), self.demux.sysctl.tcp_rto_max_ms * 1_000_000)

    def in_flight_at(self, seq: int) -> bool:
        """The SYN-ACK is."""
        return seq == self.iss

    def abort(self) -> None:
        """RST, and forget it."""
        self.demux.emit_bare(self.key, self.iss + 1, self.irs + 1, RST | ACK, self.link)
        self.demux.mib.TcpOutRsts += 1
        self.forget()

    def forget(self) -> None:
        """Out of the tables, silently."""
        self.deadline = NEVER
        if self.demux.flows.get(self.key) is self:
            del self.demux.flows[self.key]
        self.listener.removed(self)

    # ------------------------------------------------------------------ arriving segments

    def on_segment(self, seg: Segment, now: Nanos) -> bool:
        """One segment for this flow; True if it completes the handshake.

        In Linux's order (tcp_check_req): a wrong ACK is reset wherever the segment lies, then PAWS and the window, then
        RST and SYN. A SYN in the window ends it (RFC 9293 §3.10.7.4, fourth, passive); RFC 5961 spares it from a RST
        that is not exact, where Linux does not.
        """
        flags = seg.flags
        ahead = signed(seg.seq - self.irs - 1)  # seq − RCV.NXT
        old = self._is_old(seg)
        if ahead == -1 and flags & (SYN | RST | ACK) == SYN and not old:
            self._syn_again(now)
            return False
        if flags & ACK and (seg.ack - self.iss) & MASK32 != 1:
            if not flags & RST:
                self.demux.reset_for_key(self.key, seg, self.link)
            return False
        end = ahead + seg.length + (1 if flags & SYN else 0) + (1 if flags & FIN else 0)
        if old or not (ahead == 0 or (end > 0 and ahead < self.rcv_wnd) or ahead == end == self.rcv_wnd):
            if old:
                self.demux.mib.TcpExtPAWSEstab += 1
            if not flags & RST:
                self._owe_ack(seg, now)
            return False
        if flags & RST:
            self._reset_arrives(ahead, seg, now)
            return False
        if flags & SYN and ahead != -1:
            self.demux.reset_for_key(self.key, seg, self.link)
            self._dies()
            return False
        if flags & ACK and self.peer.ts_val is not None and seg.ts_val >= 0 and ahead <= 0:
            self.ts_recent = seg.ts_val
        return bool(flags & ACK)

    def _is_old(self, seg: Segment) -> bool:
        """RFC 7323 §5.3; unlike later, a RST has to pass as well."""
        return self.peer.ts_val is not None and seg.ts_val >= 0 and ts_before(seg.ts_val, self.ts_recent)

    def _syn_again(self, now: Nanos) -> None:
        """Our SYN-ACK was lost, or is late; the clock starts anew."""
        self.emit(now)
        self.deadline = max(self.deadline, now + self.timeout())

    def _reset_arrives(self, ahead: int, seg: Segment, now: Nanos) -> None:
        """RFC 5961 §3.2: only RCV.NXT exactly kills."""
        if ahead:
            self._challenge(seg, now)
            return
        self._dies()

    def _dies(self) -> None:
        self.demux.mib.TcpAttemptFails += 1
        self.demux.mib.TcpExtEmbryonicRsts += 1
        self.forget()

    def _challenge(self, seg: Segment, now: Nanos) -> None:
        seg.length = 0  # text makes no difference to the rate
        if not self.may_ack(seg, now):
            self.demux.mib.TcpExtTCPACKSkippedSynRecv += 1
        elif self.demux.may_challenge(now):
            self.demux.mib.TcpExtTCPChallengeACK += 1
            self.emit_ack(now)

    def _owe_ack(self, seg: Segment, now: Nanos) -> None:
        if self.may_ack(seg, now):
            self.emit_ack(now)
        else:
            self.demux.mib.TcpExtTCPACKSkippedSynRecv += 1

    def check(self) -> None:
        """Raise InvariantBroken if the listener does not know it."""
        if self.listener is None or self not in self.listener.half_open:
            raise InvariantBroken("a request without a listener")


def timestamp(now: Nanos, offset: int) -> int:
    """Our timestamp clock: milliseconds plus a secret offset (RFC 7323 §5.4)."""
    return (now // 1_000_000 + offset) & MASK32
