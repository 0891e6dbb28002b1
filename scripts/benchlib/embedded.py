"""The tightest embedded server: a Stack and a Driver, no asyncio transports. Runs as a process of its own.

    python -m benchlib.embedded DEVICE ADDR PORT [--no-offload] [--mptcp] [--no-big-tcp] [--cpu N] [--mtu N]

The three ports of `peer serve`: PORT swallows, PORT+1 gushes, PORT+2 echoes. SIGUSR1 prints counters.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys

from mptcp.host import MptcpHost
from nuse.driver import Driver
from nuse.loop import monotonic_ns, run
from nuse.tun import Tun
from stack import Stack
from stack.events import FAILED, PEER_CLOSED
from stack.ip.link import IP_MAX
from stack.mib import mib_items
from stack.tcp.conn import TcpConn

CHUNK = bytes(256 << 10)
ALL = 1 << 30


class Sink:
    """Swallows."""

    def __init__(self, conn: TcpConn) -> None:
        self.conn = conn

    def on_events(self, mask: int) -> None:
        conn = self.conn
        if mask & FAILED:
            conn.close()
            return
        conn.consume(conn.readable)
        if conn.peer_closed:
            conn.close()


class Source(Sink):
    """Gushes until the other end goes away."""

    def on_events(self, mask: int) -> None:
        conn = self.conn
        if mask & (FAILED | PEER_CLOSED):
            conn.abort()
            conn.close()
            return
        while conn.send_space > 0:
            conn.send(CHUNK)


class Echo(Sink):
    """Says it again."""

    def on_events(self, mask: int) -> None:
        conn = self.conn
        if mask & FAILED:
            conn.close()
            return
        for view in conn.views(ALL):
            conn.send(bytes(view))
        conn.consume(conn.readable)
        if conn.peer_closed:
            conn.close()


class Acceptor:
    """Owner of a listener."""

    def __init__(self, stack: Stack, mptcp: MptcpHost | None, addr: bytes, port: int, kind: type[Sink]) -> None:
        self.kind = kind
        self.listener = (mptcp or stack.tcp).listen(stack.tcp.bind(addr, port), 128)
        self.listener.owner = self

    def on_events(self, _mask: int) -> None:
        while (conn := self.listener.accept()) is not None:
            conn.set_option("nodelay", True)
            conn.owner = self.kind(conn)
            conn.owner.on_events(0)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("device")
    parser.add_argument("addr")
    parser.add_argument("port", type=int)
    parser.add_argument("--no-offload", action="store_true")
    parser.add_argument("--mptcp", action="store_true")
    parser.add_argument("--no-big-tcp", action="store_true")
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--mtu", type=int, default=1500)
    return parser.parse_args(argv)


async def main(args: argparse.Namespace) -> None:
    """Serve until killed."""
    own = bytes(map(int, args.addr.split(".")))
    host = f"{args.addr.rpartition('.')[0]}.1/24"
    tun = Tun(args.device, offload=not args.no_offload)
    for words in (f"addr add {host} dev {tun.name}", f"link set {tun.name} mtu {args.mtu} up"):
        subprocess.run(["ip", *words.split()], check=True)
    stack = Stack(secret=os.urandom(32), now=monotonic_ns())
    if args.no_big_tcp:
        tun.gso_max = IP_MAX
    link = stack.add_link(tun.name, addrs=[(own, 24)], mtu=args.mtu, offload=tun.offload)
    driver = Driver(stack)
    driver.attach(link, tun)
    mptcp = MptcpHost(stack) if args.mptcp else None
    for offset, kind in enumerate((Sink, Source, Echo)):
        Acceptor(stack, mptcp, own, args.port + offset, kind)

    def show() -> None:
        counters = {name: value for name, value in mib_items(stack.mib) if value}
        if mptcp is not None:
            counters |= {name: value for name, value in mib_items(mptcp.mib) if value}
        print(counters, link.stats, file=sys.stderr)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, show)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    options = parse(sys.argv[1:])
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    run(main(options))
