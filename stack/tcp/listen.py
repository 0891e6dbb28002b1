"""Listeners: the half-open connections of a port, and those waiting to be accepted."""

from collections import deque
from typing import TYPE_CHECKING, Any

from stack.events import ACCEPTABLE
from stack.tcp.extension import ExtensionFactory
from stack.tcp.options import TcpOptions
from stack.tcp.ports import Binding
from stack.tcp.request import Request
from stack.tcp.state import LISTEN, State
from stack.units import Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn
    from stack.tcp.demux import TcpDemux

NO_COOKIE: Nanos = -(1 << 60)


class TcpListener:
    """A socket in LISTEN. `backlog` bounds the accept queue as in Linux: it may hold backlog + 1."""

    __slots__ = (
        "backlog",
        "binding",
        "closed",
        "cookie_at",
        "demux",
        "events",
        "extension",
        "fast_pending",
        "half_open",
        "id",
        "options",
        "owner",
        "queue",
        "young",
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
        self.half_open: set[TcpConn | Request] = set()
        self.fast_pending = 0  # accepted on their SYN (Fast Open), handshake not complete
        self.young = 0  # of them, those whose SYN-ACK was sent once
        self.cookie_at: Nanos = NO_COOKIE  # when the last SYN cookie was sent
        self.queue: deque[Any] = deque()  # TcpConns, or what an extension makes of them
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

    def accept(self) -> Any:
        """The oldest established connection (a TcpConn, or what its extension made of it), or None."""
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
        for half in list(self.half_open):
            if isinstance(half, Request):
                half.forget()
            else:
                self.demux.drop(half)
        for conn in self.queue:
            conn.listener = None
            conn.orphan = True
            conn.abort()
        self.queue.clear()

    def full(self) -> bool:
        """True if the accept queue holds more than the backlog."""
        return len(self.queue) > self.backlog

    def backlog_full(self) -> bool:
        """True if it holds more half-open connections than that."""
        return len(self.half_open) > self.backlog

    # ------------------------------------------------------------------ used by input and demux

    def admit(self, conn: "TcpConn") -> bool:
        """May this half-open connection complete? Not while the accept queue is full; the peer will try again."""
        if self.full():
            self.demux.mib.TcpExtListenOverflows += 1
            self.demux.mib.TcpExtListenDrops += 1
            return False
        return True

    def added(self, half: "TcpConn | Request") -> None:
        """A SYN was taken."""
        self.half_open.add(half)
        self.young += 1

    def removed(self, half: "TcpConn | Request") -> None:
        """The handshake completed, or never will."""
        if half in self.half_open:
            self.half_open.discard(half)
            retries = half.retrans if isinstance(half, Request) else half.syn_retries
            if not retries:
                self.young -= 1

    def ready(self, conn: "TcpConn") -> None:
        """The handshake completed, or need not (Fast Open)."""
        self.removed(conn)
        endpoint = conn if conn.ext is None else conn.ext.endpoint(conn)
        if endpoint is not conn:
            conn.listener = None
            endpoint.listener = self
        self.queue.append(endpoint)
        self.demux.post_event(self, ACCEPTABLE)

    def forget(self, conn: "TcpConn") -> None:
        """The connection died. If it waits to be accepted, it goes on waiting: its program is to see the error."""
        self.removed(conn)
