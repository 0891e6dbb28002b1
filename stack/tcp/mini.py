"""What a flow without a connection is to the rest of the stack: a half-open request, or the shadow of TIME-WAIT.

Linux has request_sock and timewait_sock for the same reason: neither has buffers, congestion control or a program, and
there may be a hundred thousand of them. They live in the same flow table as connections and answer to the same names
where `ss` and the tests ask.
"""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from stack.ip.link import Link
from stack.seq import HALF32, MASK32
from stack.tcp.info import TcpInfo
from stack.tcp.state import State
from stack.tcp.timers import NEVER
from stack.units import MSEC, Nanos
from stack.wire.tcp import Segment
from stack.wire.tcp_options import TS_OPTION, TS_PREFIX_INT

if TYPE_CHECKING:
    from stack.tcp.demux import TcpDemux

SockAddr = tuple[bytes, int]
_BLANKS = {str(int): 0, str(str): ""}


class MiniFlow:
    """An entry of the flow table that is not a TcpConn."""

    __slots__ = ("deadline", "demux", "id", "invalid_ack_at", "key", "link")

    state: State
    owner: Any = None
    listener: Any = None
    ext: Any = None
    timer = "on"  # as ss calls it
    error = 0
    readable = 0
    send_queued = 0
    established = False

    def __init__(self, demux: "TcpDemux", ident: int, key: bytes, link: Link) -> None:
        self.demux = demux
        self.id = ident
        self.key = key
        self.link = link
        self.deadline: Nanos = NEVER
        self.invalid_ack_at: Nanos = -(1 << 60)

    @property
    def remote(self) -> SockAddr:
        """The peer's address and port."""
        key = self.key
        return key[: (len(key) - 4) // 2], int.from_bytes(key[-4:-2], "big")

    @property
    def local(self) -> SockAddr:
        """Ours."""
        key = self.key
        return key[(len(key) - 4) // 2 : -4], int.from_bytes(key[-2:], "big")

    def abort(self) -> None:
        """RST now, and forget it."""
        raise NotImplementedError

    def in_flight_at(self, seq: int) -> bool:
        """True if a segment with this wire sequence number may be on its way to the peer, for ICMP (RFC 5927 §4.1)."""
        raise NotImplementedError

    def may_ack(self, seg: Segment, now: Nanos) -> bool:
        """False if an ACK of an unacceptable segment without text would come too soon, tcp_invalid_ratelimit."""
        if seg.length:
            return True
        if now - self.invalid_ack_at < self.demux.sysctl.tcp_invalid_ratelimit * MSEC:
            return False
        self.invalid_ack_at = now
        return True

    def info(self, now: Nanos) -> TcpInfo:
        """struct tcp_info with little in it."""
        blanks: dict[str, Any] = {f.name: _BLANKS.get(str(f.type), []) for f in fields(TcpInfo)}
        blanks["state"] = self.state.name
        if self.deadline != NEVER:
            blanks["timer"] = self.timer
            blanks["timer_ms"] = max(self.deadline - now, 0) // MSEC
        return TcpInfo(**blanks)

    def check(self) -> None:
        """Nothing to contradict."""


def signed(delta: int) -> int:
    """A difference of wire sequence numbers, −2³¹..2³¹−1."""
    return ((delta & MASK32) ^ HALF32) - HALF32


def timestamps(now: Nanos, offset: int, ecr: int) -> bytes:
    """The option as every segment carries it."""
    return TS_OPTION.pack(TS_PREFIX_INT, (now // MSEC + offset) & MASK32, ecr)
