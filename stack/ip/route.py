"""Where a packet leaves and which address it bears: connected prefixes, default routes, source selection.

A TUN is point to point, so a route names a link and a gateway is only remembered. Of the routes that match, those over
the link that owns the packet's source come first: what policy routing ("from A lookup A") does for a host with
several uplinks, and what each path of a multipath connection needs. Then the longest prefix, then the lowest metric.
A host has a handful of links, so a lookup is a short scan: O(routes).
"""

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from stack.errors import InvariantBroken, StackError
from stack.ip.addr import LOOPBACK4, show_addr
from stack.ip.link import Link
from stack.ip.pmtu import PmtuCache


@dataclass(slots=True, eq=False)
class Route:
    """How to reach one destination: over `link`, from `src`, in packets of at most `mtu` bytes."""

    link: Link
    src: bytes
    mtu: int


@dataclass(slots=True, eq=False)
class Entry:
    """One line of the table, as `ip route` prints it."""

    prefix: bytes
    length: int
    link: Link
    metric: int = 0
    gateway: bytes | None = None

    def covers(self, addr: bytes) -> bool:
        """True if `addr` is of this family and in this prefix."""
        return len(addr) == len(self.prefix) and common_bits(addr, self.prefix) >= self.length


def common_bits(a: bytes, b: bytes) -> int:
    """Length of the common prefix of two addresses of one family."""
    return len(a) * 8 - (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length()


def network(addr: bytes, length: int) -> bytes:
    """`addr` with the host bits cleared."""
    host = len(addr) * 8 - length
    return (int.from_bytes(addr, "big") >> host << host).to_bytes(len(addr), "big")


def is_multicast(addr: bytes) -> bool:
    """224.0.0.0/4 or ff00::/8."""
    return addr[0] & 0xF0 == 0xE0 if len(addr) == 4 else addr[0] == 0xFF


class RouteTable:
    """Own addresses, prefixes and default routes of all links; `rebuild` derives them, lookups only read."""

    def __init__(self, pmtu: PmtuCache) -> None:
        self._pmtu = pmtu
        self._links: list[Link] = []
        self._static: list[Entry] = []
        self._entries: list[Entry] = []
        self.local: dict[bytes, Link] = {}  # own unicast addresses; read by the fast path of Stack.receive
        self.broadcast: set[bytes] = {b"\xff\xff\xff\xff"}
        self.not_from: set[bytes] = set()  # sources that no packet from outside may bear: both of the above

    # --- the table

    def rebuild(self, links: Iterable[Link]) -> None:
        """Derive everything from the links' addresses; call after any change of them."""
        self._links = list(links)
        self._static = [entry for entry in self._static if entry.link in self._links]
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
        """Add a route that no address implies."""
        self._static.append(entry)
        self.rebuild(self._links)

    def remove(self, entry: Entry) -> None:
        """Take back what `add` did."""
        self._static.remove(entry)
        self.rebuild(self._links)

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

    def route(self, dst: bytes, src: bytes | None = None) -> Route:
        """The way to `dst`, from `src` if given. Raises StackError ENETUNREACH.

        A given source is taken as it is; whether it is ours was checked when the program bound it.
        """
        if self.is_local(dst):
            link = self._links[0]
            return Route(link, src or (dst if dst in self.local else LOOPBACK4), link.mtu)
        owner = self.local.get(src) if src else None
        fallback = None
        for entry in self._candidates(dst):
            link = entry.link
            if not link.up or link.loopback:
                continue
            if owner is None or owner is link or owner.loopback:
                return self._via(link, dst, src)
            fallback = fallback or link
        if fallback is not None:
            return self._via(fallback, dst, src)
        raise StackError(errno.ENETUNREACH, f"no route to {show_addr(dst)}")

    def _candidates(self, dst: bytes) -> Iterable[Entry]:
        if is_multicast(dst) or self.is_broadcast(dst):
            return (e for e in self._entries if len(e.prefix) == len(dst) and (not e.length or e.covers(dst)))
        return (entry for entry in self._entries if entry.covers(dst))

    def _via(self, link: Link, dst: bytes, src: bytes | None) -> Route:
        return Route(link, src or self.source(link, dst), self._pmtu.get(dst, link.mtu))

    def source(self, link: Link, dst: bytes) -> bytes:
        """The own address that a packet to `dst` over `link` bears. Raises StackError ENETUNREACH if there is none.

        IPv4: the first address whose prefix holds `dst`, else the link's first, else any other link's, as Linux.
        IPv6: RFC 6724 §5, rules 2 (scope), 5 (outgoing link), 6 (label), 8 (longest match).
        """
        family = len(dst)
        found = [(addr, length, one is link) for one in self._links for addr, length in one.addrs]
        found = [each for each in found if len(each[0]) == family and self.local[each[0]].loopback is False]
        if not found:
            raise StackError(errno.ENETUNREACH, f"no address to reach {show_addr(dst)} from")
        if family == 4:
            return max(found, key=lambda each: (each[2], common_bits(each[0], dst) >= each[1]))[0]
        scope = _scope6(dst)
        label = _label6(dst)

        def rank(each: tuple[bytes, int, bool]) -> tuple[int, bool, bool, int]:
            addr, length, here = each
            mine = _scope6(addr)
            fit = -mine if mine >= scope else mine - 32  # the smallest that is large enough, else the largest
            return fit, here, _label6(addr) == label, min(common_bits(addr, dst), length)

        return max(found, key=rank)[0]

    def check(self) -> None:
        """The table is what the links say."""
        for addr, link in self.local.items():
            if not any(addr == each for each, _length in link.addrs):
                raise InvariantBroken(f"{show_addr(addr)} is not on {link.name}")
        if not self._links or not self._links[0].loopback:
            raise InvariantBroken("lo is not the first link")


def _scope6(addr: bytes) -> int:
    """Scope as in a multicast address, RFC 6724 §3.1: 2 link-local, 5 site, 14 global."""
    if addr[0] == 0xFF:
        return addr[1] & 0xF
    if (addr[0] == 0xFE and addr[1] & 0xC0 == 0x80) or addr == bytes(15) + b"\x01":
        return 2
    return 5 if addr[0] == 0xFE and addr[1] & 0xC0 == 0xC0 else 14


def _label6(addr: bytes) -> int:
    """The default policy table of RFC 6724 §2.1, as far as it tells own addresses apart."""
    if addr == bytes(15) + b"\x01":
        return 0
    if addr[0] & 0xFE == 0xFC:
        return 13
    if addr[:2] == b"\x20\x02":
        return 2
    return 5 if addr[:4] == b"\x20\x01\0\0" else 1
