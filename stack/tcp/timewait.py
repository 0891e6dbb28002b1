"""TIME-WAIT without the connection: what RFC 9293 §3.6.1 needs for sixty seconds, in some five hundred bytes.

As Linux's timewait_sock: a bare ACK or a repeated FIN starts the minute afresh, what is out of place is acknowledged at
a limited rate, a reset ends it unless tcp_rfc1337 says otherwise (RFC 1337 §3, fix F1), and a SYN beyond everything
seen, by sequence number or by timestamp (RFC 6191), opens the next connection on the same four numbers, with an ISS
beyond everything that the old one sent.
"""

from typing import TYPE_CHECKING

from stack.ip.link import Link
from stack.seq import MASK32
from stack.tcp.mini import MiniFlow, signed, timestamps
from stack.tcp.state import TIME_WAIT
from stack.tcp.tcb import Tcb
from stack.tcp.timers import NEVER
from stack.units import MSEC, SEC, Nanos
from stack.wire.tcp import ACK, FIN, RST, SYN, Segment

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn
    from stack.tcp.demux import TcpDemux
    from stack.tcp.ports import Binding

LENGTH = 60 * SEC
PAWS_IDLE = 24 * 86400 * SEC
PAWS_WINDOW = 1
ISS_STEP = 65535 + 2
REUSE_ALWAYS, REUSE_LOOPBACK = 1, 2  # net.ipv4.tcp_tw_reuse


class TimeWait(MiniFlow):
    """What is left of one connection. Numbers are wire values; `ts_recent` is −1 without timestamps."""

    __slots__ = ("binding", "conn", "rcv_nxt", "snd_nxt", "tos", "ts_offset", "ts_recent", "ts_recent_at", "ttl", "wnd")

    state = TIME_WAIT
    timer = "timewait"

    def __init__(self, demux: "TcpDemux", ident: int, key: bytes, link: Link, tcb: Tcb, now: Nanos) -> None:
        super().__init__(demux, ident, key, link)
        self.rcv_nxt = tcb.rcv_nxt & MASK32
        self.snd_nxt = tcb.snd_nxt & MASK32
        self.wnd = max(tcb.rcv_wup + tcb.rcv_wnd - tcb.rcv_nxt, 0) >> tcb.rcv_wscale
        self.ts_recent = tcb.ts_recent if tcb.ts_ok else -1
        self.ts_recent_at = tcb.ts_recent_at
        self.ts_offset = tcb.ts_offset if tcb.ts_ok else 0
        self.tos = self.ttl = 0
        self.deadline = now + LENGTH
        self.binding: Binding | None = None  # the port stays held
        self.conn: TcpConn | None = None  # to tell of the end, if a program or an extension still has it

    @property
    def next_iss(self) -> int:
        """For the next connection on these four numbers, never 0."""
        return (self.snd_nxt + ISS_STEP) & MASK32 or 1

    def on_segment(self, seg: Segment, now: Nanos) -> bool:
        """One segment for the old connection; True if it is a SYN that may open a new one."""
        flags = seg.flags
        old_ts = self._too_old(seg, now)
        ahead = signed(seg.seq - self.rcv_nxt)
        empty = not seg.length and not flags & (SYN | FIN)
        if not old_ts and not ahead and (empty or flags & RST):
            if not flags & RST:
                self.deadline = now + LENGTH
            elif not self.demux.sysctl.tcp_rfc1337:
                self.demux.end_time_wait(self)
            if seg.ts_val >= 0 and self.ts_recent >= 0:
                self.ts_recent = seg.ts_val
                self.ts_recent_at = now
            return False
        if flags & (SYN | RST | ACK) == SYN and not old_ts and (ahead > 0 or self._newer(seg)):
            return True
        if old_ts:
            self.demux.mib.TcpExtPAWSTimewait += 1
        if not flags & RST:
            if old_ts or flags & ACK:
                self.deadline = now + LENGTH
            self.owe_ack(seg, now)
        return False

    def owe_ack(self, seg: Segment, now: Nanos) -> None:
        """Say again where we are, not too often."""
        if self.may_ack(seg, now):
            self.acknowledge(now)
        else:
            self.demux.mib.TcpExtTCPACKSkippedTimeWait += 1

    def acknowledge(self, now: Nanos) -> None:
        """The last ACK, once more."""
        options = timestamps(now, self.ts_offset, self.ts_recent) if self.ts_recent >= 0 else b""
        wnd, ttl, tos = self.wnd, self.ttl, self.tos
        self.demux.emit_bare(
            self.key, self.snd_nxt, self.rcv_nxt, ACK, self.link, wnd=wnd, options=options, ttl=ttl, tos=tos
        )

    def _too_old(self, seg: Segment, now: Nanos) -> bool:
        """RFC 7323 §5.3."""
        if self.ts_recent < 0 or seg.ts_val < 0 or now - self.ts_recent_at > PAWS_IDLE:
            return False
        if seg.flags & RST and now - self.ts_recent_at > SEC:
            return False
        return signed(self.ts_recent - seg.ts_val) > PAWS_WINDOW

    def _newer(self, seg: Segment) -> bool:
        return self.ts_recent >= 0 and seg.ts_val >= 0 and signed(self.ts_recent - seg.ts_val) < 0

    def reusable(self, now: Nanos, *, bound: bool) -> bool:
        """May connect() take these four numbers again? RFC 6191: with timestamps, a second later (tcp_tw_reuse).

        At once if the program has bound the port itself: it means this one (as Linux's tcp_twsk_unique without `twp`).
        """
        knobs = self.demux.sysctl
        if self.ts_recent < 0 or bound:
            return self.ts_recent >= 0
        if not knobs.tcp_tw_reuse:
            return False
        if knobs.tcp_tw_reuse == REUSE_LOOPBACK and not self.link.loopback:
            return False
        delay: Nanos = knobs.tcp_tw_reuse_delay * MSEC
        return now - self.ts_recent_at > delay

    def in_flight_at(self, seq: int) -> bool:
        """Nothing is."""
        return False

    def abort(self) -> None:
        """Forget it: there is nobody to tell."""
        if self.deadline != NEVER:
            self.demux.end_time_wait(self)
