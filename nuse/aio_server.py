"""asyncio's Server over listeners of the stack."""

import asyncio
from collections.abc import Callable
from typing import Any

from nuse.aio_stream import StreamTransport
from nuse.driver import Driver
from nuse.names import show_for_asyncio
from stack.events import FAILED
from stack.tcp.listen import TcpListener
from stack.tcp.options import TcpOptions
from stack.tcp.ports import Binding

ACCEPTS = 64  # connections taken per event, then others have their turn


class Server(asyncio.AbstractServer):
    """Listens on one or more bound addresses and makes a protocol for each connection."""

    def __init__(
        self,
        driver: Driver,
        factory: Callable[[], asyncio.BaseProtocol],
        bindings: list[Binding],
        backlog: int,
        options: TcpOptions | None = None,
        transport: Any = None,
    ) -> None:
        """`transport` listens, with the verb of the stack's `tcp`, which it is if nobody says otherwise."""
        self._driver = driver
        self._factory = factory
        self._bindings = bindings
        self._backlog = backlog
        self._options = options
        self._transport: Any = transport or driver.stack.tcp  # type: ignore[attr-defined]
        self._acceptors: list[_Acceptor] | None = None
        self._open: set[StreamTransport] = set()
        self._idle: asyncio.Future[None] | None = None

    @property
    def addresses(self) -> list[Any]:
        """Where it listens, as getsockname() gives it; what `sockets` is for with asyncio's."""
        return [show_for_asyncio((binding.addr, binding.port)) for binding in self._bindings]

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self._bindings[0].port

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._driver.loop

    def is_serving(self) -> bool:
        return self._acceptors is not None

    async def start_serving(self) -> None:
        """Listen. Raises OSError, and has no port then."""
        if self._acceptors is not None:
            return
        self._acceptors = []
        try:
            for binding in self._bindings:
                listener = self._transport.listen(binding, self._backlog, self._options)
                self._acceptors.append(_Acceptor(self, listener))
        except OSError:
            for binding in self._bindings[len(self._acceptors) :]:
                binding.release()
            self.close()
            raise

    async def serve_forever(self) -> None:
        await self.start_serving()
        try:
            await self._driver.loop.create_future()
        finally:
            self.close()
            await self.wait_closed()

    def close(self) -> None:
        """Stop listening; connections that were accepted go on."""
        if self._acceptors is None:
            for binding in self._bindings:
                binding.release()
        else:
            for acceptor in self._acceptors:
                acceptor.listener.close()  # which releases its binding
        self._acceptors = None
        self._bindings = []
        self._driver.wake()
        self._check_idle()

    async def wait_closed(self) -> None:
        """Return when it is closed and the last of its connections has ended."""
        if self._acceptors is None and not self._open:
            return
        if self._idle is None:
            self._idle = self._driver.loop.create_future()
        await asyncio.shield(self._idle)

    def adopt(self, conn: Any) -> None:
        """Give an accepted connection a protocol and a transport."""
        protocol = self._factory()
        transport = StreamTransport(self._driver, conn, protocol, on_lost=self._forget)
        self._open.add(transport)
        transport.begin()
        if conn.error:  # reset while it waited: the text that it brought, then the reset, as a kernel socket tells it
            transport.on_events(FAILED)

    def _forget(self, transport: StreamTransport) -> None:
        self._open.discard(transport)
        self._check_idle()

    def _check_idle(self) -> None:
        if self._idle is not None and not self._idle.done() and self._acceptors is None and not self._open:
            self._idle.set_result(None)


class _Acceptor:
    """Owner of one listener."""

    def __init__(self, server: Server, listener: TcpListener) -> None:
        self.server = server
        self.listener = listener
        listener.owner = self
        self.on_events(0)

    def describe(self) -> str:
        return "asyncio server"

    def on_events(self, _mask: int) -> None:
        loop = self.server.get_loop()
        for _ in range(ACCEPTS):
            conn = self.listener.accept()
            if conn is None:
                return
            self.server.adopt(conn)
        loop.call_soon(self.on_events, 0)
