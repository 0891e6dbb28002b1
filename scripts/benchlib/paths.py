"""Two shaped paths between PEER and whoever serves, for what Multipath TCP is about.

    PEER ═══ veth pa, pb: token bucket each way ═══ ROUTER ─── veth ─── SERVER       the kernel serves
                                                    ROUTER ─── tun ──── this stack   … or we do, behind the same links

PEER opens the second subflow from its second address, as a kernel endpoint says; it goes over the second link by its
source. A path dies without a word when ROUTER begins to drop all that crosses it.
"""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchlib.arena import Arena, BenchError, remove_namespace
from benchlib.variants import serve_embedded, serve_kernel

LINKS = ("a", "b")
BURST = "64kb"
QUEUE = "40ms"


class Paths(Arena):
    """An Arena with the two paths in it; `mbit` each."""

    def __init__(self, mbit: int) -> None:
        super().__init__()
        self.mbit = mbit
        self.router_ns = self.peer_ns.replace("-peer", "-router")

    def __enter__(self) -> "Paths":
        super().__enter__()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *what: object) -> None:
        super().__exit__(*what)
        remove_namespace(self.router_ns)

    def _build(self) -> None:
        peer, router, server = self.peer_ns, self.router_ns, self.server_ns
        self.host(f"netns add {router}")
        self.host(f"-n {router} link set lo up")
        for number, name in enumerate(LINKS, 1):
            self.host(f"-n {peer} link add p{name} type veth peer name r{name} netns {router}")
            for space, device, host in ((peer, f"p{name}", 1), (router, f"r{name}", 2)):
                self.host(f"-n {space} addr add 10.97.{number}.{host}/24 dev {device}")
                self.host(f"-n {space} link set {device} up")
                shape = f"tbf rate {self.mbit}mbit burst {BURST} latency {QUEUE}"
                self.run(space, ["tc", "qdisc", "add", "dev", device, "root", *shape.split()])
            self.host(f"-n {peer} route add default via 10.97.{number}.2 dev p{name} table {100 + number}")
            self.host(f"-n {peer} rule add from 10.97.{number}.1 lookup {100 + number}")
        self.host(f"-n {peer} route add default via 10.97.1.2 dev pa")
        self.host(f"-n {router} link add rs type veth peer name sr netns {server}")
        for space, device, host in ((router, "rs", 1), (server, "sr", 2)):
            self.host(f"-n {space} addr add 10.98.0.{host}/24 dev {device}")
            self.host(f"-n {space} link set {device} up")
        self.host(f"-n {server} route add default via 10.98.0.1")
        self.run(router, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        for space in (peer, server):
            self.run(space, ["ip", "mptcp", "limits", "set", "subflow", "2"])
        rules = "add table inet cut; add chain inet cut f { type filter hook forward priority 0; }"
        self.run(router, ["nft", rules])

    def host(self, words: str) -> None:
        """ip(8)."""
        done = subprocess.run(["ip", *words.split()], check=False, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"ip {words}: {done.stderr.strip()}")

    def second_path(self, how: str) -> None:
        """PEER opens a second subflow (`subflow`, `subflow backup`), or none (empty)."""
        self.run(self.peer_ns, ["ip", "mptcp", "endpoint", "flush"])
        if how:
            self.run(self.peer_ns, ["ip", "mptcp", "endpoint", "add", "10.97.2.1", "dev", "pb", *how.split()])

    def cut(self) -> None:
        """The first path loses everything from now on."""
        for way in ("iifname", "oifname"):
            self.run(self.router_ns, ["nft", f"add rule inet cut f {way} ra drop"])

    def mend(self) -> None:
        """No longer."""
        self.run(self.router_ns, ["nft", "flush chain inet cut f"])

    @contextmanager
    def kernel(self) -> Iterator[str]:
        """The kernel serves, MPTCP to who asks for it."""
        with serve_kernel(self, self.server_ns, "10.98.0.2", mptcp=True):
            yield "10.98.0.2"

    @contextmanager
    def embedded(self) -> Iterator[str]:
        """This stack serves."""
        with serve_embedded(self, self.router_ns, "benchtun0", "10.64.0.2", mptcp=True):
            yield "10.64.0.2"

    def measure_stall(self, addr: str, seconds: float) -> dict[str, Any]:
        """The longest time without text while the first path dies half-way."""
        cutter = threading.Timer(seconds / 2, self.cut)
        cutter.start()
        try:
            return self.measure("recv", addr, seconds, mptcp=True)
        finally:
            cutter.join()
            self.mend()
