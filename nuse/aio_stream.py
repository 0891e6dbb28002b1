"""asyncio transport over one TCP or MPTCP connection: what loop.create_connection's would be, on our own stack.

The owner of its connection (see driver.Owner). Protocol callbacks run inside the driver's flush, so what they write
leaves in the same turn. Semantics are asyncio's, including TCP_NODELAY on by default; differences: `get_extra_info`
has no `socket`, but `conn`, `tcp_info` and `mptcp_info` (None if the connection is TCP), and loop.start_tls() of uvloop
knows only its own transports (give `ssl=`).
"""

import asyncio
import errno
import os
from collections import deque
from dataclasses import asdict
from typing import Any

from mptcp.connection import MptcpConn
from mptcp.diag import snapshot
from nuse.driver import Driver
from nuse.names import show_for_asyncio
from stack.events import CLOSED, CONNECTED, FAILED, PEER_CLOSED, READABLE, WRITABLE
from stack.tcp.conn import TcpConn

READ_LIMIT = 256 << 10  # bytes of one data_received
READS = 8  # data_received calls of one event, then others have their turn
SEND_PIECE = 256 << 10  # larger writes are handed to the connection in pieces
HIGH_WATER = 64 << 10


def os_error(code: int) -> OSError:
    """The exception for an errno of the stack: ConnectionResetError and so on."""
    return OSError(code, os.strerror(code))


class StreamTransport(asyncio.Transport):
    """A connection as a bidirectional asyncio transport."""

    def __init__(
        self,
        driver: Driver,
        conn: TcpConn | MptcpConn,
        protocol: asyncio.BaseProtocol,
        *,
        connected: asyncio.Future[None] | None = None,
        on_lost: Any = None,
    ) -> None:
        """`connected` is resolved when the handshake is done; None: it is done, call `begin` soon."""
        super().__init__()
        self.conn = conn
        self._driver = driver
        self._loop = driver.loop
        self._connected = connected
        self._on_lost = on_lost
        self._pending: deque[bytes | memoryview] = deque()  # written by the program, not yet given to the connection
        self._pending_bytes = 0
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._write_paused = self._read_paused = False
        self._eof_written = self._eof_received = False
        self._closing = self._lost = self._begun = False
        self._failure: OSError | None = None  # the connection is dead, but what it brought is not all read
        self._over = False  # it ended well, and the same holds
        self._names = (show_for_asyncio(conn.local), show_for_asyncio(conn.remote))
        self.set_protocol(protocol)
        conn.set_option("nodelay", True)
        conn.owner = self

    def begin(self) -> None:
        """The connection is there: tell the protocol, then give it what has arrived."""
        self._begun = True
        self._names = (show_for_asyncio(self.conn.local), show_for_asyncio(self.conn.remote))
        self._call(self._protocol.connection_made, self)
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)
        self._read()

    def describe(self) -> str:
        """For `owner` in the debug socket."""
        return f"{type(self._protocol).__name__} pid {os.getpid()}"

    # --- events of the stack

    def on_events(self, mask: int) -> None:
        """Called by the driver."""
        if mask & CONNECTED and not self._begun:
            self.begin()
        if self._lost:
            return
        if mask & (READABLE | PEER_CLOSED) and self._begun:
            self._read()
        if mask & WRITABLE:
            self._write_some()
        if mask & FAILED:
            self._failure = os_error(self.conn.error or errno.ECONNRESET)
            if self._begun:
                self._read()
            else:
                self._connection_failed(self._failure)
        elif mask & CLOSED:
            self._over = True
            if self._begun:
                self._read()
            else:
                self._lose(None)

    def _connection_failed(self, exc: OSError) -> None:
        if self._connected is not None and not self._connected.done():
            self._connected.set_exception(exc)
            self._lost = True
            self._discard()
        else:
            self._lose(exc)

    # --- reading

    def _read(self) -> None:
        """Hand arrived data to the protocol until it pauses; then the end of the stream."""
        conn = self.conn
        if not self._begun:
            return
        for _ in range(READS):
            if self._read_paused or self._closing or not conn.readable:
                break
            if self._buffered is None:
                views = conn.views(READ_LIMIT)
                data = b"".join(views)
                conn.consume(len(data))
                self._call(self._data_received, data)
            else:
                self._call(self._fill_buffer, self._buffered)
        else:
            self._loop.call_soon(self._read_again)
            return
        if self._failure is not None:
            if self._closing or not conn.readable:  # what came before the reset is the program's, as in the kernel
                self._connection_failed(self._failure)
        elif conn.peer_closed and not conn.readable and not self._read_paused and not self._closing:
            self._receive_eof()
        all_told = not conn.readable and (self._eof_received or not conn.peer_closed)
        if self._over and (self._closing or all_told):
            self._lose(None)

    def _fill_buffer(self, protocol: asyncio.BufferedProtocol) -> None:
        """As _read, for a protocol that has its own buffer."""
        target = memoryview(protocol.get_buffer(min(self.conn.readable, READ_LIMIT))).cast("B")
        if not target:
            raise RuntimeError("get_buffer() returned an empty buffer")
        used = 0
        for view in self.conn.views(len(target)):
            target[used : used + len(view)] = view
            used += len(view)
        self.conn.consume(used)
        protocol.buffer_updated(used)

    def _read_again(self) -> None:
        if not self._lost:
            self._read()
            self._driver.wake()

    def _receive_eof(self) -> None:
        if self._eof_received:
            return
        self._eof_received = True
        keep_open = self._call(self._protocol.eof_received)
        if not keep_open:
            self.close()

    def pause_reading(self) -> None:
        self._read_paused = True

    def resume_reading(self) -> None:
        if self._read_paused and not self._closing:
            self._read_paused = False
            self._loop.call_soon(self._read_again)

    def is_reading(self) -> bool:
        return not self._read_paused and not self._closing

    # --- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._closing or self._lost or self._over:
            return
        if not isinstance(data, bytes):
            data = bytes(data)  # the connection keeps it, and the caller may change it
        self._pending_bytes += len(data)
        if len(data) <= SEND_PIECE:
            self._pending.append(data)
        else:
            whole = memoryview(data)
            self._pending.extend(whole[at : at + SEND_PIECE] for at in range(0, len(data), SEND_PIECE))
        self._write_some()
        if self._pending_bytes > self._high and not self._write_paused:
            self._write_paused = True
            self._call(self._protocol.pause_writing)
        self._driver.wake()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _write_some(self) -> None:
        """Give the connection what it has room for, and what follows the last byte."""
        conn, pending = self.conn, self._pending
        if self._failure is not None:
            self._connection_failed(self._failure)
            return
        while pending and conn.send_space > 0:
            piece = pending.popleft()
            self._pending_bytes -= len(piece)
            conn.send(piece)
        if not pending and self._eof_written:
            conn.shutdown()
        if self._write_paused and self._pending_bytes <= self._low:
            self._write_paused = False
            self._call(self._protocol.resume_writing)
        if not pending and self._closing:
            self._finish(None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._eof_written or self._closing or self._lost:
            return
        self._eof_written = True
        self._write_some()
        self._driver.wake()

    def get_write_buffer_size(self) -> int:
        return self._pending_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    # --- ending

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Stop reading; once all is handed over, FIN. Unread data makes it a reset, as in the kernel."""
        if self._closing or self._lost:
            return
        self._closing = True
        if not self._pending:
            self._finish(None)
        self._driver.wake()

    def abort(self) -> None:
        """Reset the connection now."""
        if self._lost:
            return
        self._closing = True
        self._pending.clear()
        self.conn.abort()
        self._lose(None)
        self._driver.wake()

    def _force_close(self, exc: BaseException | None) -> None:
        """What asyncio's TLS layer calls on a fatal error; the name is asyncio's."""
        self.conn.abort()
        self._lose(exc)
        self._driver.wake()

    def _finish(self, exc: OSError | None) -> None:
        self.conn.close()
        self._lose(exc)

    def _lose(self, exc: BaseException | None) -> None:
        """The end: connection_lost at the loop's next turn, as asyncio does, never from within another callback."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._loop.call_soon(self._tell_lost, exc)

    def _tell_lost(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._discard()

    def _discard(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0
        self.conn.owner = None
        self.conn.close()
        if self._on_lost is not None:
            self._on_lost(self)
        self._driver.wake()

    def _call(self, callback: Any, *args: Any) -> Any:
        """A protocol's callback; its exception ends this connection and no other, as asyncio does."""
        try:
            return callback(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 - asyncio's rule: whatever a protocol throws goes to the handler
            context = {
                "message": f"protocol.{getattr(callback, '__name__', 'callback')}() failed",
                "exception": exc,
                "transport": self,
                "protocol": self._protocol,
            }
            self._loop.call_exception_handler(context)
            self._force_close(exc)
            return None

    # --- about it

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol
        self._buffered = protocol if isinstance(protocol, asyncio.BufferedProtocol) else None
        self._data_received: Any = getattr(protocol, "data_received", None)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sockname":
            return self._names[0]
        if name == "peername":
            return self._names[1]
        if name == "conn":
            return self.conn
        if name == "tcp_info":
            return asdict(self.conn.info(self._driver.now()))
        if name == "mptcp_info" and isinstance(self.conn, MptcpConn) and not self.conn.fallback:
            return asdict(snapshot(self.conn.host, self.conn, self._driver.now()))
        return default
