"""The debug socket: one request a line, one line of JSON back; for its owner only (mode 0600).

It must answer while the stack is saturated and must never hurt it: lines, clients and queues are bounded, a long answer
is made in slices between which the driver works, and a reader that does not read is dropped.
"""

import asyncio
import contextlib
import errno
import json
import logging
import os
import select
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mptcp.host import MptcpHost
from nuse.debugrpc import DebugError, DebugMethods, Request, StreamWanted, parse_request
from nuse.driver import Driver
from nuse.eventlog import EventLog

MAX_LINE = 65536
MAX_CLIENTS = 32
MAX_PATH = 107  # bytes of sun_path, without its final zero
SLICE = 32  # rows encoded at a stretch: about 1 ms
STALL_S = 20.0  # a client that takes nothing for so long is dropped
PROBE_S = 5.0  # how often a silent stream looks whether its reader is still there
log = logging.getLogger("nuse.debug")


class DebugServer:
    """Serves one stack. Install `log.record` as Stack.tracer happens here."""

    def __init__(
        self,
        driver: Driver,
        path: Path | str,
        *,
        name: str = "",
        mptcp: MptcpHost | None = None,
        programs: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self.driver = driver
        self.path = Path(path)
        self.log = EventLog()
        self.methods = DebugMethods(driver, self.log, name, mptcp, programs)
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError with a message if the path is in use or unusable."""
        sock = _bind(self.path)
        try:
            self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=MAX_LINE)
        except BaseException:
            sock.close()
            raise
        self.methods.stack.tracer = self.log.record

    async def stop(self) -> None:
        """Close all clients and remove the file."""
        if self._server is None:
            return
        self.methods.stack.tracer = None
        self._server.close()
        self._server = None
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        client = Client(self.methods, reader, writer)
        if len(self._clients) >= MAX_CLIENTS:
            writer.write(encode_error(None, DebugError(0, f"more than {MAX_CLIENTS} clients; try later")))
            writer.close()
            return
        self._clients.add(task)
        try:
            await client.run()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()
        except Exception:
            log.exception("a request on the debug socket failed; closing its connection")
        finally:
            self._clients.discard(task)
            writer.close()


def _bind(path: Path) -> socket.socket:
    """A listening socket at `path`, replacing what a dead server left there."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, f"debug socket path is longer than {MAX_PATH} bytes: {path}")
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EEXIST, f"{path} is there and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(errno.EADDRINUSE, f"{path} is in use by a running stack")
        path.unlink()
    sock = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o177)
    try:
        sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock


class Client:
    """One connection to the debug socket; its requests are answered in turn."""

    def __init__(self, methods: DebugMethods, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.methods = methods
        self.reader = reader
        self.writer = writer

    async def run(self) -> None:
        """Serve until the client is done."""
        while True:
            try:
                line = (await self.reader.readline()).decode(errors="replace").strip()
            except ValueError:
                await self._send(encode_error(None, DebugError(-32700, f"a line is at most {MAX_LINE} bytes")))
                return
            if line:
                await self._answer(line)
            elif self.reader.at_eof():
                return

    async def _answer(self, line: str) -> None:
        request: Request | None = None
        try:
            request = parse_request(line, self.methods.table)
            result = self.methods.call(request.method, request.args)
        except DebugError as exc:
            if request is None or not request.silent:
                await self._send(encode_error(request or _salvage(line), exc))
            return
        if isinstance(result, StreamWanted):
            await self._send(encode(request, {"subscribed": "events"}))
            await self._stream(request)
        elif isinstance(result, Iterator):
            await self._send_rows(request, result)
        elif not request.silent:
            await self._send(encode(request, result))

    async def _send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(STALL_S):
            await self.writer.drain()

    async def _send_rows(self, request: Request, rows: Iterator[Any]) -> None:
        """One array on one line, without holding up the driver or holding it in memory."""
        head, _, tail = encode(request, []).rpartition(b"[]")
        await self._send(head + b"[")
        parts: list[str] = []
        first = True
        for row in rows:
            parts.append(("" if first else ",") + json.dumps(row, separators=(",", ":")))
            first = False
            if len(parts) >= SLICE:
                await self._send("".join(parts).encode())
                parts.clear()
                await asyncio.sleep(0)
        await self._send("".join(parts).encode() + b"]" + tail)

    async def _stream(self, request: Request) -> None:
        """Events until the reader goes away; a half-closed one (`echo … | socat`) is still a reader."""
        subscription = self.methods.log.subscribe()
        try:
            while not self._reader_gone():
                try:
                    async with asyncio.timeout(PROBE_S):
                        events = await subscription.take()
                except TimeoutError:
                    continue
                wrap = _notification if request.rpc else _plain
                await self._send(b"".join(wrap(event) for event in events))
        finally:
            subscription.close()

    def _reader_gone(self) -> bool:
        if self.writer.is_closing():
            return True
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), 0)
        return bool(poll.poll(0))


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


_plain: Callable[[Any], bytes] = _dump


def _notification(event: Any) -> bytes:
    return _dump({"jsonrpc": "2.0", "method": "event", "params": event})


def encode(request: Request, result: Any) -> bytes:
    """The answer line; `result` comes last in both forms."""
    if request.rpc:
        return _dump({"jsonrpc": "2.0", "id": request.ident, "result": result})
    return _dump({"ok": True, "result": result})


def encode_error(request: Request | None, exc: DebugError) -> bytes:
    """The answer line of a refusal."""
    if request is not None and request.rpc:
        return _dump({"jsonrpc": "2.0", "id": request.ident, "error": {"code": exc.code, "message": str(exc)}})
    return _dump({"ok": False, "error": str(exc)})


def _salvage(line: str) -> Request | None:
    """For the answer to a call that could not be understood: was it JSON-RPC, and which id?"""
    if not line.startswith("{"):
        return None
    ident: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        ident = json.loads(line).get("id")
    return Request("", [], True, ident)
