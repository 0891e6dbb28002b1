"""The stack for asyncio programs: the functions of asyncio's loop and streams, over our own TCP and UDP.

    async with nuse.open_stack() as net:
        reader, writer = await net.open_connection("10.64.0.1", 80)

`Network` has them as methods over a Driver. Arguments and results are asyncio's where they make sense here.
"""

import asyncio
import errno
import ipaddress
import os
import ssl as ssl_module
from asyncio import sslproto
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from mptcp.host import MptcpHost
from nuse.aio_datagram import DatagramTransport
from nuse.aio_server import Server
from nuse.aio_stream import StreamTransport
from nuse.config import Config, set_sysctl
from nuse.driver import Driver
from nuse.linkspec import parse_link_spec
from nuse.names import any_of, resolve
from stack.host import Stack
from stack.tcp.options import TcpOptions

P = TypeVar("P", bound=asyncio.BaseProtocol)
ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

STREAM_LIMIT = 64 << 10  # asyncio's


class Network:
    """One running stack, seen from programs in its own process."""

    def __init__(
        self,
        driver: Driver,
        host_addresses: Iterable[Address] = (),
        mptcp: MptcpHost | None = None,
        *,
        upgrade: bool = False,
    ) -> None:
        self.driver = driver
        self.mptcp = mptcp
        self._upgrade = upgrade  # connections that do not say get MPTCP
        self.loop = driver.loop
        self.host_addresses = list(host_addresses)  # of the host's side of our links, where its servers can be reached

    @property
    def stack(self) -> Stack:
        """The stack itself, for what this API does not have."""
        stack: Any = self.driver.stack
        assert isinstance(stack, Stack)
        return stack

    @property
    def addresses(self) -> list[Address]:
        """The stack's own addresses, those of lo left out."""
        links = [link for link in self.stack.links.values() if not link.loopback]
        return [ipaddress.ip_address(addr) for link in links for addr, _length in link.addrs]

    def transport(self, mptcp: bool | None = None) -> Any:
        """Who connects and listens: with MPTCP, without, or as configured. Raises OSError EPROTONOSUPPORT."""
        if mptcp is None:
            mptcp = self.mptcp is not None and (self._upgrade or bool(self.mptcp.sysctl.mptcp_upgrade))
        if mptcp and self.mptcp is None:
            raise OSError(errno.EPROTONOSUPPORT, "this stack has no MPTCP")
        return self.mptcp if mptcp else self.stack.tcp

    # --- TCP, as a client

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | Literal[True] | None = None,
        server_hostname: str | None = None,
        local_addr: tuple[str, int] | None = None,
        options: TcpOptions | None = None,
        mptcp: bool | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Connect; each address of `host` is tried in turn. Raises OSError as asyncio does.

        `mptcp` True or False: with or without Multipath TCP; None: as nuse.mptcp_upgrade says.
        """
        opener = self.transport(mptcp)
        failures: list[OSError] = []
        for addr in resolve(host):
            try:
                if ssl:
                    name = server_hostname if server_hostname is not None else host
                    return await self._connect_tls(
                        protocol_factory(), addr, port, ssl, name, local_addr, options, opener
                    )
                protocol = protocol_factory()
                return await self._connect(protocol, addr, port, local_addr, options, opener), protocol
            except OSError as exc:
                failures.append(exc)
        if len(failures) > 1:
            raise OSError("Multiple exceptions: " + ", ".join(map(str, failures))) from failures[-1]
        raise failures[0]

    async def _connect(
        self,
        protocol: asyncio.BaseProtocol,
        addr: bytes,
        port: int,
        local_addr: tuple[str, int] | None,
        options: TcpOptions | None,
        opener: Any,
    ) -> StreamTransport:
        now = self.driver.now()
        binding = None
        if local_addr is not None:
            local = resolve(local_addr[0])[0] if local_addr[0] else any_of(addr)
            binding = self.stack.tcp.bind(local, local_addr[1])
        try:
            conn = opener.connect((addr, port), now, binding=binding, options=options)
        except OSError:
            if binding is not None:
                binding.release()
            raise
        connected: asyncio.Future[None] = self.loop.create_future()
        transport = StreamTransport(self.driver, conn, protocol, connected=connected)
        self.driver.wake()
        try:
            await connected
        except asyncio.CancelledError:
            transport.abort()
            raise
        return transport

    async def _connect_tls(
        self,
        protocol: P,
        addr: bytes,
        port: int,
        context: ssl_module.SSLContext | Literal[True],
        server_hostname: str,
        local_addr: tuple[str, int] | None,
        options: TcpOptions | None,
        opener: Any,
    ) -> tuple[asyncio.Transport, P]:
        if context is True:
            context = ssl_module.create_default_context()
        handshake: asyncio.Future[None] = self.loop.create_future()
        tls = _tls_protocol(self.loop, protocol, context, handshake, server_hostname=server_hostname)
        transport = await self._connect(tls, addr, port, local_addr, options, opener)
        try:
            await handshake
        except BaseException:
            transport.abort()
            raise
        return tls._get_app_transport(), protocol

    async def open_connection(
        self, host: str, port: int, *, limit: int = STREAM_LIMIT, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, with streams; keyword arguments as create_connection."""
        reader = asyncio.StreamReader(limit=limit, loop=self.loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self.loop)
        transport, _ = await self.create_connection(lambda: protocol, host, port, **kwargs)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self.loop)

    # --- TCP, as a server

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int = 0,
        *,
        backlog: int = 100,
        ssl: ssl_module.SSLContext | None = None,
        reuse_port: bool = False,
        start_serving: bool = True,
        options: TcpOptions | None = None,
        mptcp: bool | None = None,
    ) -> Server:
        """Listen on the addresses of `host`; without one on all, IPv4 and IPv6. Raises OSError.

        `mptcp` as in create_connection; peers without it are served all the same.
        """
        transport = self.transport(mptcp)
        factory = protocol_factory
        if ssl is not None:
            context = ssl

            def factory() -> asyncio.BaseProtocol:
                tls: asyncio.BaseProtocol = _tls_protocol(
                    self.loop, protocol_factory(), context, None, server_side=True
                )
                return tls

        bindings = []
        try:
            for addr in resolve(host):
                bindings.append(self.stack.tcp.bind(addr, port, reuseaddr=True, reuseport=reuse_port))
                port = bindings[0].port
        except OSError:
            for binding in bindings:
                binding.release()
            raise
        server = Server(self.driver, factory, bindings, backlog, options, transport)
        if start_serving:
            await server.start_serving()
        return server

    async def start_server(
        self,
        client_connected_cb: ClientConnected,
        host: str | None = None,
        port: int = 0,
        *,
        limit: int = STREAM_LIMIT,
        **kwargs: Any,
    ) -> Server:
        """Listen, with streams; the callback gets (reader, writer) and may be a coroutine function."""

        def factory() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(limit=limit, loop=self.loop)
            return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=self.loop)

        return await self.create_server(factory, host, port, **kwargs)

    # --- UDP

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], P],
        local_addr: tuple[str, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
    ) -> tuple[DatagramTransport, P]:
        """A UDP socket; IPv6 also takes IPv4 unless bound. Raises OSError."""
        if local_addr is None and remote_addr is None:
            raise ValueError("unexpected address family: give local_addr or remote_addr")
        local = remote = None
        if remote_addr is not None:
            remote = (resolve(remote_addr[0])[0], remote_addr[1])
        if local_addr is not None:
            wanted = any_of(remote[0]) if remote is not None else None
            local = (resolve(local_addr[0])[0] if local_addr[0] or wanted is None else wanted, local_addr[1])
        example = local or remote
        if example is None or (local and remote and len(local[0]) != len(remote[0])):
            raise OSError(errno.EAFNOSUPPORT, "local and remote address differ in family")
        endpoint = self.stack.udp.open(len(example[0]) == 16)
        try:
            if local is not None:
                endpoint.bind(*local)
            if remote is not None:
                endpoint.connect(remote)
        except OSError:
            endpoint.close()
            raise
        protocol = protocol_factory()
        transport = DatagramTransport(self.driver, endpoint, protocol)
        return transport, protocol


def _tls_protocol(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    context: ssl_module.SSLContext,
    waiter: asyncio.Future[None] | None,
    **kwargs: Any,
) -> Any:
    """asyncio's own TLS layer between our transport and the program's protocol."""
    factory: Any = sslproto.SSLProtocol
    return factory(loop, protocol, context, waiter, **kwargs)


@asynccontextmanager
async def open_stack(
    config: Config | None = None,
    *,
    name: str | None = None,
    links: Iterable[str] = (),
    sysctl: dict[str, str] | None = None,
    offload: bool = True,
    impair: Iterable[str] = (),
) -> AsyncIterator[Network]:
    """A stack of this process's own, with its TUN devices; everything is removed at the end.

    `links` are link SPECs as `nuse run --link` takes them; without any, the first free addresses are chosen. Needs root
    or CAP_NET_ADMIN. Raises ConfigError, Refused or TunError, each with one line that says what to do.
    """
    from nuse.runtime import Runtime

    if config is None:
        config = Config(name=name or f"py{os.getpid()}", netns=False, offload=offload, impair=list(impair))
        config.links = [parse_link_spec(spec) for spec in links]
        for knob, value in (sysctl or {}).items():
            set_sysctl(config, knob, value)
    config.check()
    runtime = Runtime(config)
    await runtime.start()
    try:
        assert runtime.driver is not None
        hosts = [host.ip for spec in runtime.hostnet.links for host in spec.host]
        yield Network(runtime.driver, hosts, runtime.mptcp, upgrade=config.mptcp == "on")
    finally:
        await runtime.stop()


# --- the same as functions, for `import nuse`


async def open_connection(
    host: str, port: int, *, stack: Network, **kwargs: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """asyncio.open_connection over `stack`."""
    return await stack.open_connection(host, port, **kwargs)


async def start_server(
    client_connected_cb: ClientConnected, host: str | None = None, port: int = 0, *, stack: Network, **kwargs: Any
) -> Server:
    """asyncio.start_server over `stack`."""
    return await stack.start_server(client_connected_cb, host, port, **kwargs)


async def create_connection(
    protocol_factory: Callable[[], P], host: str, port: int, *, stack: Network, **kwargs: Any
) -> tuple[asyncio.Transport, P]:
    """loop.create_connection over `stack`."""
    return await stack.create_connection(protocol_factory, host, port, **kwargs)


async def create_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str | None = None,
    port: int = 0,
    *,
    stack: Network,
    **kwargs: Any,
) -> Server:
    """loop.create_server over `stack`."""
    return await stack.create_server(protocol_factory, host, port, **kwargs)
