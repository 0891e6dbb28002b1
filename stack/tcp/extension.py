"""The extension API: TCP options that the stack does not know, on SYN, SYN-ACK and any segment, and a say in the rest.

An extension is an object on one connection (`conn.ext`). It adds option bytes to what is sent, sees the options of what
arrives, may shorten a packet (a mapping must not be crossed), set the window, and hold back FIN. Multipath TCP is built
on this alone; docs/extensions.md shows a small one. A connection without an extension pays one comparison with None.

On an active open the extension is given to `connect`; on a passive one the listener's `extension` is called for each
SYN and returns one or None, or raises SynRefused. Option space is forty bytes: `room` is what the stack's own options
left. In segments with text the stack keeps `reserve` bytes free; SACK yields where both do not fit, as in Linux.
"""

import errno
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stack.errors import StackError
from stack.tcp.options import ON_ACK, ON_DATA, ON_SYN, ON_SYN_ACK, ExtraOption
from stack.units import Nanos
from stack.wire.tcp import ACK, SYN, Segment
from stack.wire.tcp_options import NOP, RawOption

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

MAX_SAVED = 64  # options kept for a program to read, the oldest go first


class SynRefused(StackError):
    """What a listener's `extension` raises for a SYN that deserves a RST; `options` ride on that."""

    def __init__(self, why: str, options: bytes = b"") -> None:
        super().__init__(errno.ECONNREFUSED, why)
        self.options = options


class TcpExtension:
    """Base of all extensions: every verb does what plain TCP does. Override what you need."""

    __slots__ = ()  # one with many attributes may want slots: it is asked for each packet

    fast_open = True  # a SYN's text may be given to the program before the handshake is over (RFC 7413)
    reserve = 0  # option bytes to keep free in segments with text

    def options(self, conn: "TcpConn", flags: int, room: int, seq: int, size: int, now: Nanos) -> bytes:
        """Option bytes for a segment about to leave: at most `room`, a multiple of four.

        `flags` tells SYN, SYN-ACK, RST and FIN; `size` is its text, which starts at `seq`. Called again for a
        retransmission. A super-segment carries them on each wire segment that is cut from it.
        """
        return b""

    def on_syn(self, conn: "TcpConn", options: Sequence[RawOption], now: Nanos) -> None:
        """The peer's SYN or SYN-ACK arrived with these unknown options."""

    def on_segment(self, conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
        """An acceptable segment arrived; `seg.options` are its raw options. False: its text and FIN are not taken."""
        return True

    def takes(self, conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
        """In place of `on_segment` for the usual segment: its text is the next, and nothing waits behind a hole.

        True: the extension has read the options, and wants the text for itself, by `on_text`; the connection counts it
        as received and does not queue it. False: nothing was done, and things take their course.
        """
        return False

    def on_text(self, conn: "TcpConn", text: memoryview, now: Nanos) -> None:
        """The text of which `takes` has just said True."""

    def on_reset(self, conn: "TcpConn", seg: Segment, now: Nanos) -> None:
        """A RST is about to end the connection."""

    def claims(self, conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
        """The last segment of a passive handshake: True if the connection is not for the listener's program.

        An extension that refuses it calls `conn.abort` first.
        """
        return False

    def endpoint(self, conn: "TcpConn") -> Any:
        """What the listener's program is to accept: the connection, or something with its verbs that stands on it."""
        return conn

    def on_news(self, conn: "TcpConn", bits: int) -> int:
        """Told of each event (stack/events.py) at once; what it returns goes on to the connection's owner."""
        return bits

    def on_cc(self, conn: "TcpConn") -> None:
        """The connection has a fresh congestion control."""

    def on_silence(self, conn: "TcpConn", now: Nanos) -> None:
        """A probe or retransmission time-out passed: what is in flight may never arrive."""

    def feed(self, conn: "TcpConn", now: Nanos) -> bool:
        """All text that was queued has been sent, and there may be room for more: `conn.send` it now.

        True if there is more, and only the congestion window keeps it back.
        """
        return False

    def limit(self, conn: "TcpConn", seq: int, size: int) -> int:
        """How much of `size` bytes at `seq` may go into one packet; at least one."""
        return size

    def rcv_window(self, conn: "TcpConn", free: int) -> int:
        """The window to offer, where the connection alone would offer `free`.

        Asked when text has come, and where `conn.window_stale` says that the answer has changed.
        """
        return free

    def may_close(self, conn: "TcpConn") -> bool:
        """False holds FIN back; mark the connection with its demux when that changes."""
        return True

    def on_closed(self, conn: "TcpConn") -> None:
        """The connection left the stack's tables."""


# Called with the flow key and the options of a SYN; a StackError answers it with RST.
ExtensionFactory = Callable[[bytes, Sequence[RawOption]], TcpExtension | None]


class ExtraOptions(TcpExtension):
    """What a program set and reads through a socket: option bytes of its own, RFC 6994 experiments or any kind."""

    def __init__(self, extra: Sequence[ExtraOption], save: bool) -> None:
        self.extra = list(extra)
        self.save = save
        self.saved: deque[tuple[int, RawOption]] = deque(maxlen=MAX_SAVED)
        self.reserve = self._size(ON_DATA)

    def set(self, extra: Sequence[ExtraOption], save: bool) -> None:
        """Other options from now on."""
        self.extra = list(extra)
        self.save = save
        self.reserve = self._size(ON_DATA)

    def _size(self, where: int) -> int:
        return -(-sum(2 + len(each.data) for each in self.extra if each.where & where) // 4) * 4

    def options(self, conn: "TcpConn", flags: int, room: int, seq: int, size: int, now: Nanos) -> bytes:
        """The program's options that belong on this kind of segment, in its order, as far as they fit."""
        where = _where(flags, size)
        out = bytearray()
        for each in self.extra:
            if each.where & where and len(out) + 2 + len(each.data) <= room:
                out += bytes((each.kind, 2 + len(each.data))) + each.data
        out += bytes((NOP,)) * (-len(out) % 4)
        return bytes(out[: room - room % 4])

    def on_syn(self, conn: "TcpConn", options: Sequence[RawOption], now: Nanos) -> None:
        """Keep what the peer's SYN or SYN-ACK carried."""
        if self.save:
            where = ON_SYN if conn.passive else ON_SYN_ACK
            self.saved.extend((where, each) for each in options)

    def on_segment(self, conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
        """Keep what other segments carried."""
        if self.save and seg.options:
            where = _where(seg.flags, seg.length)
            self.saved.extend((where, each) for each in seg.unknown_options())
        return True


def _where(flags: int, size: int) -> int:
    if flags & SYN:
        return ON_SYN_ACK if flags & ACK else ON_SYN
    return ON_DATA if size else ON_ACK
