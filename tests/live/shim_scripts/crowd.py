"""An asyncio server and hundreds of asyncio clients at once: non-blocking everything, both directions, half-closes."""

import asyncio
import os

from prelude import LOCAL, name, show


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def exchange(port):
    reader, writer = await asyncio.open_connection(LOCAL, port)
    data = os.urandom(100_000)

    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    got = await reader.read(-1)
    await sending
    writer.close()
    await writer.wait_closed()
    return got == data


async def main():
    server = await asyncio.start_server(echo, LOCAL, 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    show("at once", (await asyncio.gather(*(exchange(port) for _ in range(200)))).count(True))
    show("one by one", [await exchange(port) for _ in range(50)].count(True))
    refused = await asyncio.gather(*(asyncio.open_connection(LOCAL, 1) for _ in range(20)), return_exceptions=True)
    show("refused", {name(error.errno) for error in refused})
    server.close()


asyncio.run(main())
