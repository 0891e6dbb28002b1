"""asyncio's datagram transport over a UDP endpoint of the stack."""

import asyncio
from typing import Any

from nuse.aio_stream import os_error
from nuse.driver import Driver
from nuse.names import resolve, show_for_asyncio
from stack.udp import UdpEndpoint

DATAGRAMS = 64  # received per event, then others have their turn


class DatagramTransport(asyncio.DatagramTransport):
    """A UDP socket. Sending never waits: what the link cannot take is lost, as UDP is."""

    def __init__(self, driver: Driver, endpoint: UdpEndpoint, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.endpoint = endpoint
        self._driver = driver
        self._protocol: Any = protocol
        self._closing = False
        endpoint.owner = self
        driver.loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._protocol.connection_made(self)
        self._receive()

    def describe(self) -> str:
        return type(self._protocol).__name__

    def on_events(self, _mask: int) -> None:
        """Called by the driver."""
        if self._closing:
            return
        code = self.endpoint.take_error()
        if code:
            self._protocol.error_received(os_error(code))
        self._receive()

    def _receive(self) -> None:
        for _ in range(DATAGRAMS):
            datagram = None if self._closing else self.endpoint.recv()
            if datagram is None:
                return
            peer = show_for_asyncio((datagram.addr, datagram.port))
            self._protocol.datagram_received(bytes(datagram.data), peer)
        self._driver.loop.call_soon(self._receive)

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send; errors go to `error_received`, as with asyncio."""
        if self._closing:
            return
        dest = None if addr is None else (resolve(addr[0])[0], addr[1])
        try:
            self.endpoint.sendto(bytes(data), dest, self._driver.now())
        except OSError as exc:
            self._protocol.error_received(exc)
        self._driver.wake()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.endpoint.close()
            self._driver.loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sockname":
            return show_for_asyncio(self.endpoint.local)
        if name == "peername":
            return show_for_asyncio(self.endpoint.remote)
        return default
