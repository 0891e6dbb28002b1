#!/usr/bin/env python3
# ruff: noqa: T201 - an example talks
"""Two stacks in one process with a bad network between them: no root, no device, and the same losses each time."""

import asyncio
import os

from nuse import Network, run
from nuse.device import pair
from nuse.driver import Driver
from nuse.impair import parse_impair
from nuse.impair_device import impair, impairment
from nuse.loop import monotonic_ns
from stack import Stack


def network(address: bytes, device: object, words: str = "") -> Network:
    stack = Stack(secret=os.urandom(32), now=monotonic_ns())
    link = stack.add_link("net0", addrs=[(address, 24)])
    driver = Driver(stack)
    driver.attach(link, device)  # type: ignore[arg-type]
    if words:
        impair(driver, link, parse_impair(words))
    return Network(driver)


async def main() -> None:
    left, right = pair()
    client = network(bytes([10, 0, 0, 1]), left, "delay 10ms rate 50mbit loss 1% seed 7")
    server = network(bytes([10, 0, 0, 2]), right)

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(4_000_000))
        writer.close()

    await server.start_server(send, "10.0.0.2", 80)
    begun = asyncio.get_running_loop().time()
    reader, writer = await client.open_connection("10.0.0.2", 80)
    size = len(await reader.read())
    seconds = asyncio.get_running_loop().time() - begun
    print(f"{size} bytes in {seconds:.2f} s, {size * 8 / seconds / 1e6:.1f} Mbit/s of 50")
    print("the network:", impairment(client.driver, client.stack.links["net0"])["ingress"])
    writer.close()
    for net in (client, server):
        net.driver.close()


if __name__ == "__main__":
    run(main())
