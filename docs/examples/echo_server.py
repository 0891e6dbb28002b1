#!/usr/bin/env python3
# ruff: noqa: T201 - an example talks
"""An echo server on nuse's own TCP, with Protocols; the host reaches it at the stack's address. Run as root.

python3 docs/examples/echo_server.py    # prints the address; then: nc ADDRESS 7777
"""

import asyncio
import contextlib

import nuse


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        print("from", transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def main() -> None:
    async with nuse.open_stack() as net:
        server = await net.create_server(Echo, None, 7777)
        print("listening on", ", ".join(map(str, net.addresses)), "port", server.port)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        nuse.run(main())
