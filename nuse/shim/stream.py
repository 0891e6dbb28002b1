"""A program's TCP socket: its life from socket() to close(), between a carrier and a TcpConn or TcpListener.

    FRESH ── listen ──▶ LISTENING
      │  ◀─ blocking connect failed ─┐
      └─ connect ──▶ CONNECTING ─────┴─ established ──▶ CONNECTED ── reset, time-out ──▶ DEAD (our end is closed)
                          └──────────────── non-blocking connect failed ────────────────▶

The program's close shows as HUP on our end, except in DEAD and SHUT (both directions ended while the program keeps the
socket): HUP had to be spent there on something else. Nothing but a record of names is left to free by then.
"""

import contextlib
import errno
import socket
from collections import deque
from typing import Any

from mptcp.connection import MptcpConn
from mptcp.sockopt import MptcpOptions
from nuse.shim import carrier
from nuse.shim.hub import Hub
from nuse.shim.origin import origin
from nuse.shim.placed import PlacedSocket
from nuse.shim.pump import Pump
from nuse.shim.sock import SockAddr
from stack.errors import StackError
from stack.events import ACCEPTABLE, CLOSED, CONNECTED, FAILED, PEER_CLOSED, READABLE, URGENT, WRITABLE
from stack.tcp.options import OptionValue, TcpOptions, check_option
from stack.tcp.state import SYN_SENT

FRESH, LISTENING, CONNECTING, ESTABLISHED, SHUT, DEAD = range(6)
SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2
AFTER_SHUTDOWN = 60.0  # seconds that a connection lives on after SHUT_RDWR, when the program's close is no longer seen
_OVER = ("CLOSED", "TIME_WAIT", "SYN_SENT")


class StreamSocket(PlacedSocket):
    """See the module. The syscall layer calls the verbs; the stack calls `on_events`; the pump reports the ends."""

    __slots__ = (
        "conn",
        "connect_told",
        "fin_waits",
        "listener",
        "mptcp",
        "options",
        "phase",
        "pump",
        "returned",
        "shut_both",
        "shut_write",
        "tokens",
    )

    def __init__(self, hub: Hub, v6: bool, proto: int, end: socket.socket, name: str) -> None:
        super().__init__(hub, v6, proto, end, name)
        self.phase = FRESH
        self.conn: Any = None
        self.listener: Any = None
        self.pump: Pump | None = None
        self.options = MptcpOptions()
        self.mptcp = False  # it connects and listens with MPTCP: asked for it, or was upgraded
        self.connect_told = False  # a connect() has returned 0 for this connection
        self.shut_write = False  # the program did SHUT_WR
        self.shut_both = False  # it did SHUT_RDWR, or both
        self.fin_waits = False  # for the end of the handshake
        self.tokens = 0  # bytes in the carrier, one for each connection to accept
        self.returned: deque[Any] = deque()  # accepted from the stack, but no program took them
        hub.add(self)
        hub.poller.watch(end.fileno(), 0, self._on_idle)

    # ------------------------------------------------------------------ verbs of the syscall layer

    def bind(self, addr: SockAddr, *, reuseaddr: bool, reuseport: bool, v6only: bool) -> None:
        """Take a port. Raises StackError: EINVAL if bound, EADDRINUSE, EADDRNOTAVAIL."""
        if self.binding is not None or self.phase not in (FRESH, DEAD) or self._is_alive():
            raise StackError(errno.EINVAL, "already bound")
        self.take_port(addr, reuseaddr=reuseaddr, reuseport=reuseport, v6only=v6only)

    def listen(self, backlog: int, theirs: socket.socket | None) -> None:
        """Begin to listen, or change the backlog."""
        if self.phase == LISTENING:
            self.listener.set_backlog(backlog)
            return
        if self.phase != FRESH:
            raise StackError(errno.EINVAL, "listen on a connected socket")
        if self.binding.refs > 1 and not self.binding.reuseaddr:  # connections of a listener that was here before
            raise StackError(errno.EADDRINUSE, f"port {self.binding.port} has connections")
        self.listener = self.held_by(self._transport.listen, backlog, self.options)
        self.listener.owner = self
        self.phase = LISTENING
        if theirs is not None:
            carrier.block(theirs)

    def connect(self, remote: SockAddr, theirs: socket.socket | None, data: bytes = b"") -> None:
        """Begin to connect, with `data` in the SYN if it may be (Fast Open); the result comes as an event."""
        source = None if self.binding is not None else origin(self, self.bound_addr, remote)
        how = {"local_addr": source, "options": self.options, "data": data}
        self.conn = self.held_by(
            lambda binding: self._transport.connect(remote, self.hub.now(), binding=binding, **how)
        )
        self.conn.owner = self
        self.options = self.conn.options
        self.connect_told = False
        self.phase = CONNECTING
        if theirs is not None:
            carrier.block(theirs)
        self.hub.wake()

    @property
    def _transport(self) -> Any:
        """Who connects and listens: the MPTCP host or the table of TCP connections, with the same verbs."""
        return self.hub.mptcp if self.mptcp and self.hub.mptcp is not None else self.hub.stack.tcp

    @property
    def meta(self) -> MptcpConn | None:
        """Its MPTCP connection, if it has one that did not fall back to TCP."""
        return self.conn if isinstance(self.conn, MptcpConn) and not self.conn.fallback else None

    @property
    def speaks_mptcp(self) -> bool:
        """TCP_IS_MPTCP: it did not fall back to TCP, so far."""
        return self.mptcp and not (isinstance(self.conn, MptcpConn) and self.conn.fallback)

    @property
    def tcp(self) -> Any:
        """Its TCP connection; with MPTCP that of the first subflow. None without one."""
        return self.conn.first.conn if isinstance(self.conn, MptcpConn) and self.conn.first is not None else self.conn

    def adopt(self, conn: Any) -> None:
        """Become the socket of an accepted connection; the program must already have it."""
        self.connect_told = True
        conn.owner = self
        self.conn = conn
        self.options = conn.options
        self._join()
        if conn.error or conn.state.name == "CLOSED":
            self._fail()

    def shutdown(self, how: int) -> bool:
        """What shutdown() means here; True if the kernel is to do it to the carrier as well."""
        if self.phase in (LISTENING, CONNECTING):
            if self.phase == CONNECTING or how != SHUT_WR:
                self._stop()
            return False
        if self.remote_address() is None and not self._opens_fast:
            raise StackError(errno.ENOTCONN, "not connected")
        assert self.pump is not None
        self.connect_told = True
        if how != SHUT_WR:
            self.pump.discard = True
        self.shut_write = self.shut_write or how != SHUT_RD
        self.shut_both = self.shut_both or (self.shut_write and self.pump.discard)  # in one call or in two
        return True

    @property
    def _opens_fast(self) -> bool:
        """TCP_FASTOPEN_CONNECT: it counts as connected, and its SYN or the answer to that is on its way."""
        return self.phase == ESTABLISHED and self.conn.state is SYN_SENT

    def set_option(self, name: str, value: OptionValue) -> None:
        """A TcpOptions field, now and for children. Raises StackError EINVAL."""
        check_option(name, value)
        if self.conn is not None and self.phase != DEAD:
            self.conn.set_option(name, value)
        else:
            setattr(self.options, name, value)

    def take_saved_syn(self) -> bytes:
        """The headers of the peer's SYN, once (TCP_SAVED_SYN)."""
        conn = self.tcp
        if conn is None:
            return b""
        saved: bytes = conn.saved_syn
        conn.saved_syn = b""
        return saved

    def reset_option(self, name: str) -> None:
        """Back to the sysctl's value, for new connections; an existing one keeps what it has."""
        setattr(self.options, name, TcpOptions.__dataclass_fields__[name].default)

    # ------------------------------------------------------------------ accept

    @property
    def queued(self) -> int:
        """Connections to accept."""
        return len(self.returned) + int(self.listener.queued)

    def take(self) -> Any:
        """The next connection to accept, or None."""
        if self.returned:
            return self.returned.popleft()
        return self.listener.accept()

    def put_back(self, conn: Any) -> None:
        """The program that accepted it was interrupted."""
        if self.phase == LISTENING:
            self.returned.appendleft(conn)
            self.announce()
        else:
            conn.abort()

    def announce(self) -> None:
        """Serve blocked accepts, then make the carrier readable, with one new edge for what is new."""
        while self.waiting and self.queued:
            self.waiting[0].serve()
        fresh = self.queued - self.tokens
        if fresh > 0:
            with contextlib.suppress(OSError):
                self.tokens += self.end.send(b"\1" * fresh)

    def settle(self, theirs: socket.socket) -> None:
        """Take the tokens of accepted connections back out of the carrier; `theirs` is a copy of the program's end."""
        spent = self.tokens - self.queued
        if spent > 0:
            with contextlib.suppress(OSError):
                theirs.recv(spent, socket.MSG_DONTWAIT)
            self.tokens -= spent

    # ------------------------------------------------------------------ events of the stack

    def on_events(self, mask: int) -> None:
        """News of the connection or the listener."""
        if self.phase == ESTABLISHED:
            self._on_stream_events(mask)
        elif self.phase == CONNECTING:
            if mask & CONNECTED:
                self._establish()
                self._on_stream_events(mask)
            elif mask & (FAILED | CLOSED):
                self._connect_failed(self.conn.error or errno.ECONNABORTED)
        elif self.phase == LISTENING and mask & ACCEPTABLE:
            self.announce()
        elif self.phase == SHUT and mask & (PEER_CLOSED | FAILED | CLOSED):
            self._finish_shut()

    def _on_stream_events(self, mask: int) -> None:
        pump = self.pump
        assert pump is not None
        if mask & CONNECTED and self.fin_waits and not self._opens_fast:
            self.program_half_closed()
        if mask & (READABLE | PEER_CLOSED | URGENT):
            pump.to_program()
        if mask & WRITABLE and self.phase == ESTABLISHED:
            pump.from_program()
        if mask & FAILED and self.phase == ESTABLISHED:
            self._fail()

    def _establish(self) -> None:
        theirs = self.copy()
        carrier.unblock(self.end, theirs)
        if theirs is not None:
            theirs.close()
        self._join()
        for waiting in list(self.waiting):
            if waiting.finish(waiting.success):
                self.connect_told = True

    def _join(self) -> None:
        self.phase = ESTABLISHED
        self.hub.poller.forget(self.end.fileno())
        self.pump = Pump(self.end, self.conn, self.hub.poller, self, self.hub.wake)
        self.pump.start()

    def _connect_failed(self, error: int) -> None:
        """A blocked caller gets the errno and may try again; else the carrier and SO_ERROR show the failure."""
        whole = self.conn.local
        self.drop_port(whole[1])
        self.conn.owner = None
        self.conn = None
        told = [waiting.finish(-error) for waiting in list(self.waiting)]
        if any(told):
            self._unblock_fresh()
        else:
            if self.stale_name is not None:
                self.stale_name = whole
            self._break(error)

    def _unblock_fresh(self) -> None:
        self.phase = FRESH
        theirs = self.copy()
        carrier.unblock(self.end, theirs)
        if theirs is not None:
            if self.tokens:
                with contextlib.suppress(OSError):
                    theirs.recv(self.tokens, socket.MSG_DONTWAIT)
            theirs.close()
        self.tokens = 0

    def _fail(self) -> None:
        assert self.pump is not None
        if self.pump.hung_up:  # the program is gone too
            self._end(True)
        elif self.pump.fail():  # the program must not wait for ever until it may write, though it does not read
            theirs = self.copy()
            carrier.refuse_writes(self.end, theirs)
            if theirs is not None:
                theirs.close()

    def _break(self, error: int) -> None:
        """Show a reset: close our end with something unread in it."""
        self.error = error
        self.phase = DEAD
        if not carrier.unread(self.end):
            theirs = self.copy()
            if theirs is not None:
                carrier.spoil(theirs)
                theirs.close()
        self.carrier_has_error = carrier.unread(self.end) > 0
        self._leave()

    def _leave(self) -> None:
        """Close our end, but keep the record while the program may ask."""
        assert self.phase in (SHUT, DEAD)
        if self.pump is not None:
            self.pump.detach()
        self.forget_end()
        self.hub.retire(self)

    # ------------------------------------------------------------------ reports of the pump and the poller

    def program_half_closed(self) -> None:
        """The program did SHUT_WR."""
        self.fin_waits = self._opens_fast
        with contextlib.suppress(StackError):
            self.conn.shutdown()
        self.hub.wake()

    def program_closed(self, unread: bool) -> None:
        """The program closed the socket; or each direction has been shut by somebody, which looks just the same."""
        assert self.pump is not None
        if unread or not (self.shut_both or (self.shut_write and self.pump.fin_passed)):
            self._end(unread)
            return
        self.phase = SHUT
        if self.conn.peer_closed:
            self._finish_shut()
        else:
            self.conn.shutdown_read()
            self.program_half_closed()
            self.hub.loop.call_later(AFTER_SHUTDOWN, self._finish_shut, self.conn)
        self._leave()

    def _finish_shut(self, conn: Any = None) -> None:
        """After SHUT_RDWR: nothing is left to do for this connection but what TCP does by itself.

        `conn` is the one that it was about when it was put off: the socket may have gone on without it.
        """
        if conn is not None and (conn is not self.conn or self.phase != SHUT):
            return
        self.conn.owner = None
        self.conn.close()
        self.hub.wake()

    def all_delivered(self) -> None:
        """The connection died, and the program's carrier holds all that came before."""
        error = self.conn.error or errno.ECONNRESET
        self.conn.owner = None
        if self.pump is not None and self.pump.fin_passed:
            self._end_written(error)
        else:
            self._break(error)

    def _end_written(self, error: int) -> None:
        """A reset after the peer's FIN: reads go on to give the rest and the end of the stream, only writes fail."""
        self.error = error
        self.phase = DEAD
        with contextlib.suppress(OSError):
            while self.end.recv(carrier.SNDBUF):
                pass
        self._leave()

    def _on_idle(self, _bits: int) -> None:
        """HUP before there was a connection: closed."""
        if self.phase == LISTENING:
            self._close_listener()
        self._end(False)

    def _end(self, unread: bool) -> None:
        """Nobody in the program has this socket any more."""
        if self.phase in (SHUT, DEAD):
            return
        self.phase = DEAD
        for waiting in list(self.waiting):  # died with it, or another thread closed it under them
            waiting.finish(-errno.ECONNABORTED)
        if self.conn is not None:
            self.conn.owner = None
            if unread:
                self.conn.abort()
            else:
                self.conn.close()
        if self.pump is not None:
            self.pump.detach()
        self.release_port()
        self.hub.remove(self)
        self.forget_end()
        self.hub.wake()

    def _stop(self) -> None:
        """Stop listening or connecting, and be a fresh socket again."""
        if self.phase == LISTENING:
            self._close_listener()
        else:
            self.conn.owner = None
            self.conn.close()
            self.conn = None
            for waiting in list(self.waiting):
                waiting.finish(-errno.ECONNABORTED)
        self._unblock_fresh()
        self.hub.wake()

    def _close_listener(self) -> None:
        self.listener.owner = None
        self.listener.close()
        self.listener = None
        self.drop_port(self.binding.port)
        for conn in self.returned:
            conn.abort()
        self.returned.clear()
        for waiting in list(self.waiting):
            waiting.finish(-errno.EINVAL)

    # ------------------------------------------------------------------ names and ends

    @property
    def named(self) -> bool:
        """It has an address, and not only the name of one given back."""
        return self._is_alive() or self.binding is not None

    def _is_alive(self) -> bool:
        return self.conn is not None and self.conn.state.name not in ("CLOSED", "TIME_WAIT")

    def local_address(self) -> SockAddr | None:
        """getsockname."""
        if self.conn is not None:
            local: SockAddr = self.conn.local
            return local
        return self.bound_name()

    def remote_address(self) -> SockAddr | None:
        """getpeername; None unless the handshake is done and the connection alive."""
        if self.phase not in (ESTABLISHED, SHUT) or self.conn.state.name in _OVER:
            return None
        remote: SockAddr = self.conn.remote
        return remote

    def disconnect(self) -> None:
        """connect(AF_UNSPEC): drop the connection. The caller then `renew`s the carrier."""
        if self.phase == LISTENING:
            self._stop()
        if self.conn is not None:
            self.drop_port(self.conn.local[1])
            self.conn.owner = None
            self.conn.abort()
            self.hub.wake()
        if self.phase not in (SHUT, DEAD):
            if self.pump is not None:
                self.pump.detach()
            self.forget_end()

    def renew(self, end: socket.socket, name: str) -> None:
        """Take a new carrier, which already stands in the program in place of the old one: as good as new."""
        self.hub.remove(self)
        self.end, self.name = end, name
        self.phase = FRESH
        if self.conn is not None:
            self.drop_port(self.conn.local[1])
        if self.stale_name is not None and self.bound_addr is not None:
            self.stale_name = self.bound_addr, self.stale_name[1]
        self.conn = self.pump = None
        self.shut_write = self.shut_both = False
        self.error = self.tokens = 0
        self.hub.add(self)
        self.hub.poller.watch(end.fileno(), 0, self._on_idle)

    def leave(self) -> None:
        """The program has a socket of the kernel in its place."""
        self._end(False)

    def kill(self) -> None:
        """The stack goes away."""
        for waiting in list(self.waiting):
            waiting.finish(-errno.ENETDOWN if self.phase == LISTENING else -errno.ECONNRESET)
        if self.phase == LISTENING:
            self._stop()
        if self.phase in (SHUT, DEAD):
            return
        if self.conn is not None:
            self.conn.owner = None
            self.conn.abort()
        self._break(errno.ECONNRESET)
