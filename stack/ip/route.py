"""Where a packet leaves: connected prefixes, default routes, and those that somebody added, as in `ip route`.

A TUN is point to point, so a route names a link and a gateway is only remembered. Of the routes that match, those over
the link that owns the packet's source come first: what policy routing ("from A lookup A") does for a host with
several uplinks, and what each path of a multipath connection needs. Then the longest prefix, then the lowest metric.
A host has a handful of links, so a lookup is a short scan: O(routes).
"""

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from stack.errors import InvariantBroken, StackError
from stack.ip.addr import LOOPBACK4, common_bits, is_multicast, show_addr
from stack.ip.link import Link
from stack.ip.pmtu import PmtuCache
from stack.ip.source import choose


@dataclass(slots=True, eq=False)
class Route:
    """How to reach one destination: over `link`, from `src`, in packets of at most `mtu` bytes."""

    link: Link
    src: bytes
    mtu: int
    many: bool = False  # to a group or to all
    looped: bool = False  # … and to those on this host too
    advmss: int = 0  # the MSS to tell TCP peers; 0: what follows from `mtu`


@dataclass(slots=True, eq=False)
class Entry:
    """One line of the table, as `ip route` prints it."""

    prefix: bytes
    length: int
    link: Link
    metric: int = 0
    gateway: bytes | None = None
    kind: str = "unicast"  # or one of REFUSALS
    mtu: int = 0  # of this route, 0 for the link's
    advmss: int = 0  # `ip route … advmss N`: the MSS that TCP's SYNs over it advertise; 0: what follows from the MTU
    src: bytes | None = None  # preferred source, an own address

    def covers(self, addr: bytes) -> bool:
        """True if `addr` is of this family and in this prefix."""
        return len(addr) == len(self.prefix) and common_bits(addr, self.prefix) >= self.length


MAX_ADVMSS = 65535 - 40

# Route types that lead nowhere, and the errno that says so (Linux's fib_props).
REFUSALS = {
    "blackhole": errno.EINVAL,
    "unreachable": errno.EHOSTUNREACH,
    "prohibit": errno.EACCES,
    "throw": errno.ENETUNREACH,  # go on in the next table: there is none
}


def network(addr: bytes, length: int) -> bytes:
    """`addr` with the host bits cleared."""
    host = len(addr) * 8 - length
    return (int.from_bytes(addr, "big") >> host << host).to_bytes(len(addr), "big")


class RouteTable:
    """Own addresses, prefixes and default routes of all links; `rebuild` derives them, lookups only read."""

    def __init__(self, pmtu: PmtuCache) -> None:
        self._pmtu = pmtu
        self._links: list[Link] = []
        self.version = 0  # grows with every change, so that lookups can be remembered
        self._static: list[Entry] = []
        self._entries: list[Entry] = []
        self.local: dict[bytes, Link] = {}  # own unicast addresses; read by the fast path of Stack.receive
        self.broadcast: set[bytes] = {b"\xff\xff\xff\xff"}
        self.not_from: set[bytes] = set()  # sources that no packet from outside may bear: both of the above

    # --- the table

    def rebuild(self, links: Iterable[Link]) -> None:
        """Derive everything from the links' addresses; call after any change of them."""
        self._links = list(links)
        self.version += 1
        own = {addr for link in self._links for addr, _length in link.addrs}
        self._static = [e for e in self._static if e.link in self._links and (e.src is None or e.src in own)]
        self.local.clear()  # in place: the fast path holds on to these tables
        self.local.update((addr, link) for link in self._links for addr, _length in link.addrs)
        self.broadcast = {b"\xff\xff\xff\xff"}
        found = list(self._static)
        for link in self._links:
            for addr, length in link.addrs:
                found.append(Entry(network(addr, length), length, link))
                if len(addr) == 4 and length < 31 and not link.loopback:
                    host = (1 << 32 - length) - 1
                    self.broadcast.add((int.from_bytes(addr, "big") | host).to_bytes(4, "big"))
        self.not_from.clear()
        self.not_from.update(self.broadcast, self.local)
        found.sort(key=lambda entry: (-entry.length, entry.metric))
        self._entries = found

    def add(self, entry: Entry) -> None:
        """Add a route that no address implies. Raises EEXIST, EINVAL."""
        if entry.kind != "unicast" and entry.kind not in REFUSALS:
            raise StackError(errno.EINVAL, f"no route type {entry.kind!r}")
        if len(entry.prefix) not in (4, 16) or network(entry.prefix, entry.length) != entry.prefix:
            raise StackError(errno.EINVAL, f"no prefix: {show_addr(entry.prefix)}/{entry.length}")
        if entry.mtu and not 68 <= entry.mtu <= 65535:
            raise StackError(errno.EINVAL, f"route MTU {entry.mtu}")
        if entry.advmss and not 48 <= entry.advmss <= MAX_ADVMSS:
            raise StackError(errno.EINVAL, f"route advmss {entry.advmss}")
        if any(
            (one.prefix, one.length, one.metric, one.link) == (entry.prefix, entry.length, entry.metric, entry.link)
            for one in self._static
        ):
            raise StackError(errno.EEXIST, f"{show_addr(entry.prefix)}/{entry.length} metric {entry.metric} exists")
        self._static.append(entry)
        self.rebuild(self._links)

    def remove(self, entry: Entry) -> None:
        """Take back what `add` did."""
        self._static.remove(entry)
        self.rebuild(self._links)

    def delete(
        self, prefix: bytes, length: int, *, metric: int | None = None, link: Link | None = None, kind: str = ""
    ) -> Entry:
        """Remove the first added route that fits, as `ip route del` does. Raises ESRCH."""
        for one in sorted(self._static, key=lambda entry: entry.metric):
            if (one.prefix, one.length) != (prefix, length) or (metric is not None and one.metric != metric):
                continue
            if (link is None or one.link is link) and kind in ("", one.kind):
                self.remove(one)
                return one
        raise StackError(errno.ESRCH, f"no route to {show_addr(prefix)}/{length}")

    def entries(self) -> list[Entry]:
        """All routes, in the order in which they are tried."""
        return list(self._entries)

    # --- lookups

    def is_local(self, addr: bytes) -> bool:
        """True for an own unicast address; all of 127.0.0.0/8 is ours, as in Linux."""
        return addr in self.local or (len(addr) == 4 and addr[0] == 127)

    def is_broadcast(self, addr: bytes) -> bool:
        """True for 255.255.255.255 and the last address of an own subnet."""
        return addr in self.broadcast

    def loopback(self) -> Link:
        """The link `lo`."""
        return self._links[0]

    def route(self, dst: bytes, src: bytes | None = None, link: Link | None = None) -> Route:
        """The way to `dst`, from `src` and over `link` if given.

        Raises StackError ENETUNREACH, or what a route of another kind says. A given source is taken as it is; whether
        it is ours was checked when the program bound it. A given link without a route to `dst` is taken to lead there,
        as in Linux.
        """
        if self.is_local(dst):
            lo = self._links[0]
            return Route(lo, src or (dst if dst in self.local else LOOPBACK4), lo.mtu)
        owner = self.local.get(src) if src else None
        fallback = None
        for entry in self._candidates(dst):
            over = entry.link
            if entry.kind != "unicast":
                if fallback is not None:
                    break
                raise StackError(REFUSALS[entry.kind], f"{entry.kind} route to {show_addr(dst)}")
            if not over.up or over.loopback or (link is not None and over is not link):
                continue
            if owner is None or owner is over or owner.loopback:
                return self._via(over, dst, src or entry.src, entry)
            fallback = fallback or entry
        if fallback is not None:
            return self._via(fallback.link, dst, src or fallback.src, fallback)
        if link is not None and link.up:
            return self._via(link, dst, src, None)
        raise StackError(errno.ENETUNREACH, f"no route to {show_addr(dst)}")

    def _candidates(self, dst: bytes) -> Iterable[Entry]:
        if is_multicast(dst) or self.is_broadcast(dst):
            return (e for e in self._entries if len(e.prefix) == len(dst) and (not e.length or e.covers(dst)))
        return (entry for entry in self._entries if entry.covers(dst))

    def _via(self, link: Link, dst: bytes, src: bytes | None, entry: Entry | None) -> Route:
        mtu, advmss = (entry.mtu, entry.advmss) if entry is not None else (0, 0)
        mtu = min(mtu, link.mtu) if mtu else link.mtu
        return Route(link, src or self.source(link, dst), self._pmtu.get(dst, mtu), advmss=advmss)

    def source(self, link: Link, dst: bytes) -> bytes:
        """The own address that a packet to `dst` over `link` bears. Raises StackError ENETUNREACH if there is none."""
        return choose(self._links, link, dst)

    def check(self) -> None:
        """The table is what the links say."""
        for addr, link in self.local.items():
            if not any(addr == each for each, _length in link.addrs):
                raise InvariantBroken(f"{show_addr(addr)} is not on {link.name}")
        if not self._links or not self._links[0].loopback:
            raise InvariantBroken("lo is not the first link")
