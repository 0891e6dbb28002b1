#!/usr/bin/env python3
# ruff: noqa: T201 - an example talks
"""Fetch a page from a server on the host with nuse's own TCP, and look at the connection. Run as root.

python3 -m http.server 8000 & python3 docs/examples/fetch.py 8000
"""

import sys

import nuse


async def main(port: int) -> None:
    async with nuse.open_stack() as net:
        host = str(net.host_addresses[0])
        reader, writer = await net.open_connection(host, port)
        writer.write(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        page = await reader.read()
        info = writer.get_extra_info("tcp_info")
        print(f"{len(page)} bytes from {host}, rtt {info['rtt']} µs, {info['segs_in']} segments in")
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    nuse.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
