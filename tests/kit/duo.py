"""Two whole stacks with their drivers and asyncio APIs in one loop, joined back to back."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from mptcp.host import MptcpHost
from nuse.aio import Network
from nuse.device import pair
from nuse.driver import Driver
from nuse.impair import parse_impair
from nuse.impair_device import impair
from nuse.loop import monotonic_ns, run
from stack.host import Stack

A4, B4 = "10.64.0.1", "10.64.0.2"
A6, B6 = "fd64::1", "fd64::2"
MPTCP = False


def network(number: int, device: object, mtu: int = 1500, offload: bool = True, mptcp: bool = False) -> Network:
    """A stack with the addresses 10.64.0.N/24 and fd64::N/64 on `device`; with `mptcp` every connection is MPTCP's."""
    stack = Stack(secret=os.urandom(32), now=monotonic_ns())
    addrs = [(bytes([10, 64, 0, number]), 24), (b"\xfd\x64" + bytes(13) + bytes([number]), 64)]
    link = stack.add_link("tun0", addrs=addrs, mtu=mtu, offload=offload)
    driver = Driver(stack)
    driver.attach(link, device)  # type: ignore[arg-type]
    return Network(driver, mptcp=MptcpHost(stack), upgrade=mptcp)


async def hang_up(*nets: Network) -> None:
    """Reset what is still connected, and let the programs' tasks see it."""
    for net in nets:
        for meta in list(net.mptcp or ()):
            meta.abort()
        for conn in net.stack.tcp.conns():
            conn.abort()
        net.driver.wake()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=1)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that gives back what it gets."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def until(fact: Callable[[], object]) -> None:
    """Let the loop run until it is so; 20 s at most."""
    async with asyncio.timeout(20):
        while not fact():
            await asyncio.sleep(0.001)


def duo(
    scene: Callable[[Network, Network], Awaitable[None]],
    *,
    words: str = "",
    offload: bool = True,
    mptcp: bool | None = None,
) -> None:
    """Run a scene with two networks; `words` impair the link between them. Nothing may have gone wrong unseen.

    `mptcp` None: as MPTCP says, which a test module may set.
    """
    upgrade = MPTCP if mptcp is None else mptcp

    async def main() -> None:
        a, b = (network(i + 1, device, offload=offload, mptcp=upgrade) for i, device in enumerate(pair()))
        if words:
            impair(b.driver, b.stack.links["tun0"], parse_impair(words))
        try:
            await scene(a, b)
            assert (a.driver.faults, b.driver.faults) == (0, 0)
            a.stack.check()
            b.stack.check()
        finally:
            await hang_up(a, b)
            a.driver.close()
            b.driver.close()

    run(main())
