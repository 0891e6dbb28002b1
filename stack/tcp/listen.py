"""Listeners: the half-open connections of a port, and those waiting to be accepted."""

from collections import deque
from typing import TYPE_CHECKING, Any

from stack.events import ACCEPTABLE
from stack.tcp.extension import ExtensionFactory
from stack.tcp.options import TcpOptions
from stack.tcp.ports import Binding
from stack.tcp.state import LISTEN, State

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn
    from stack.tcp.demux import TcpDemux


class TcpListener:
    """A socket in LISTEN. `backlog` bounds the accept queue as in Linux: it may hold backlog + 1."""

    __slots__ = (
        "backlog",
        "binding",
        "closed",
        "demux",
        "events",
        "extension",
        "half_open",
        "id",
        "options",
        "owner",
        "queue",
    )

    def __init__(self, demux: "TcpDemux", ident: int, binding: Binding, backlog: int, options: TcpOptions) -> None:
        self.demux = demux
        self.id = ident
        self.binding = binding
        self.backlog = 0
        self.options = options
        self.extension: ExtensionFactory | None = None  # asked for an extension on each SYN
        self.owner: Any = None
        self.events = 0
        self.half_open: set[TcpConn] = set()
        self.queue: deque[TcpConn] = deque()
        self.closed = False
        self.set_backlog(backlog)

    @property
    def local(self) -> tuple[bytes, int]:
        """(address, port); the address is all zero for any."""
        return self.binding.addr, self.binding.port

    @property
    def state(self) -> State:
        """Always LISTEN."""
        return LISTEN

    @property
    def queued(self) -> int:
        """Connections ready to accept."""
        return len(self.queue)

    def set_backlog(self, backlog: int) -> None:
        """listen() again: a new bound, capped by somaxconn; negative means as much as allowed."""
        most = self.demux.sysctl.somaxconn
        self.backlog = most if backlog < 0 else min(backlog, most)

    def accept(self) -> "TcpConn | None":
        """The oldest established connection, or None."""
        if not self.queue:
            return None
        conn = self.queue.popleft()
        conn.listener = None
        return conn

    def close(self) -> None:
        """Stop listening; what nobody accepted is reset, as Linux does."""
        if self.closed:
            return
        self.closed = True
        self.owner = None
        self.demux.unlisten(self)
        for conn in [*self.half_open, *self.queue]:
            conn.listener = None
            conn.orphan = True
            conn.abort()
        self.half_open.clear()
        self.queue.clear()

    def full(self) -> bool:
        """True if the accept queue holds more than the backlog."""
        return len(self.queue) > self.backlog

    # ------------------------------------------------------------------ used by input and demux

    def admit(self, conn: "TcpConn") -> bool:
        """May this half-open connection complete? Not while the accept queue is full; the peer will try again."""
        if self.full():
            self.demux.mib.TcpExtListenOverflows += 1
            self.demux.mib.TcpExtListenDrops += 1
            return False
        return True

    def ready(self, conn: "TcpConn") -> None:
        """The handshake completed."""
        self.half_open.discard(conn)
        self.queue.append(conn)
        self.demux.post_event(self, ACCEPTABLE)

    def forget(self, conn: "TcpConn") -> None:
        """The connection died before it was accepted."""
        self.half_open.discard(conn)
        if conn in self.queue:
            self.queue.remove(conn)
