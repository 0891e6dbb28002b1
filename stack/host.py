"""Stack: one host. Packets, time and program verbs go in; packets, a deadline and events come out.

Owns the links, the tables and the counters, and nothing that knows a file descriptor or a clock. The driver's loop is
`receive` for each packet, `handle_timeout` when due, `poll_event` until None, `poll_transmit` until None, then sleep
until `poll_timeout()`. Input never emits: whatever a packet makes us send comes out of `poll_transmit`.

A packet is a 10-byte virtio_net_hdr and an IP packet, in both directions, on every link. Traffic to an own address
leaves through `lo` and comes back inside `poll_transmit`; the driver never sees it.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any, Protocol

from stack.checksum import ones_sum
from stack.config import Sysctl
from stack.echo import EchoTable
from stack.entropy import Entropy
from stack.errors import InvariantBroken, Malformed, StackError
from stack.ip import input as ip_input
from stack.ip.addr import LOOPBACK4, LOOPBACK6, show_addr
from stack.ip.icmp import Icmp
from stack.ip.link import Link
from stack.ip.multicast import Multicast
from stack.ip.pmtu import PmtuCache
from stack.ip.reasm import Reassembler
from stack.ip.route import Entry, Route, RouteTable
from stack.mib import Mib
from stack.raw import RawTable
from stack.tcp.demux import TcpDemux
from stack.udp_demux import UdpDemux
from stack.units import Nanos, sooner
from stack.wire.ipv6 import IPV6_MIN_MTU

Buffer = bytes | bytearray | memoryview
Packet = tuple[Link, Sequence[Buffer]]

LO_BUDGET = 1024  # loopback packets per poll_transmit, so that two local endpoints cannot hold the driver
MIN_MTU = 68  # RFC 791: what every IPv4 link carries

_FAST4 = Struct("!BBHxxHxB")  # version and IHL, TOS, total length, flags and offset, protocol
_FAST6 = Struct("!HxxHB")  # version, class and some flow label; payload length; next header


class Timed(Protocol):
    """Something with deadlines of its own."""

    def poll_timeout(self) -> Nanos | None:
        """The next one; None for never."""

    def handle_timeout(self, now: Nanos) -> None:
        """Do what is due by `now`."""


class Stack:
    """A TCP/IP host without I/O. Not thread-safe; `now` never goes backwards."""

    # Slots: instance dicts of CPython keep their fast lookups for 30 attributes only, and these are read per packet.
    __slots__ = (
        "_guests",
        "_last_id",
        "_last_index",
        "_lo_backlog",
        "_ready",
        "_timed",
        "blocked",
        "drained",
        "entropy",
        "flow_seed",
        "flows",
        "icmp",
        "links",
        "lo",
        "looped",
        "mib",
        "multicast",
        "now",
        "outbox",
        "pmtu",
        "raw",
        "reasm4",
        "reasm6",
        "routes",
        "secret",
        "sysctl",
        "tcp",
        "tracer",
        "udp",
    )

    def __init__(self, *, sysctl: Sysctl | None = None, secret: bytes, now: Nanos = 0) -> None:
        if len(secret) < 32:
            raise StackError(errno.EINVAL, "the secret has fewer than 32 bytes")
        self.sysctl = sysctl or Sysctl()
        self.secret = secret
        self.entropy = Entropy(secret)
        self.mib = Mib()
        self.now = now  # time of the last packet, timeout or poll; for verbs that have no `now` of their own
        self.lo = Link("lo", 1, 65535, [(LOOPBACK4, 8), (LOOPBACK6, 128)], loopback=True)
        self.links: dict[str, Link] = {"lo": self.lo}
        self.outbox: deque[Packet] = deque()  # finished packets without a connection
        self.looped: deque[Packet] = deque()  # copies of what went to all, for ourselves
        self.drained = 0  # how often the outbox was found empty after it had not been
        self.blocked: dict[int, Any] = {}  # endpoints that wait for it to drain, by id
        self.flow_seed = self.entropy.u32()
        self.pmtu = PmtuCache(self.mib)
        self.routes = RouteTable(self.pmtu)
        self.routes.rebuild(self.links.values())
        self.tracer: Callable[[str, Any], None] | None = None  # told of what befalls connections, by name
        self._ready: deque[Any] = deque()
        self._last_index = 1
        self._last_id = 0
        self._lo_backlog = False
        self.reasm4 = Reassembler(self, v6=False)
        self.reasm6 = Reassembler(self, v6=True)
        self.icmp = Icmp(self)
        self.icmp.echo = EchoTable(self)
        self.udp = UdpDemux(self)
        self.raw = RawTable(self)
        self.multicast = Multicast(self)
        self._timed = (self.reasm4, self.reasm6, self.pmtu, self.multicast)  # … and TCP
        self._guests: list[Timed] = []
        self.tcp = TcpDemux(self)
        self.flows = self.tcp.flows

    # --- links

    def add_link(
        self,
        name: str,
        addrs: Iterable[tuple[bytes, int]] = (),
        mtu: int = 1500,
        offload: bool = True,
        gateway4: bytes | None = None,
        gateway6: bytes | None = None,
    ) -> Link:
        """Bring up a link, with a default route per address family; earlier links' ones are preferred.

        The gateways are remembered for display only. Raises EEXIST for a name or address in use, EINVAL.
        """
        if name in self.links:
            raise StackError(errno.EEXIST, f"link {name} exists")
        addrs = list(addrs)
        for addr, length in addrs:
            self._check_addr(addr, length)
        _check_mtu(mtu, any(len(addr) == 16 for addr, _length in addrs))
        self._last_index += 1
        link = Link(name, self._last_index, mtu, addrs, offload)
        self.links[name] = link
        self.routes.rebuild(self.links.values())
        for family, gateway in ((4, gateway4), (16, gateway6)):
            if gateway or any(len(addr) == family for addr, _length in addrs):
                self._add_default(link, family, gateway)
        return link

    def _add_default(self, link: Link, family: int, gateway: bytes | None) -> None:
        self.routes.add(Entry(bytes(family), 0, link, metric=link.index * 100, gateway=gateway))

    def remove_link(self, link: Link) -> None:
        """Take the link, its addresses and its routes away. Connections over it find out by themselves."""
        if link is self.lo or self.links.get(link.name) is not link:
            raise StackError(errno.EINVAL, f"cannot remove {link.name}")
        link.up = False
        del self.links[link.name]
        self.multicast.forget_link(link)
        self.routes.rebuild(self.links.values())

    def add_addr(
        self, link: Link, addr: bytes, length: int, *, deprecated: bool = False, temporary: bool = False
    ) -> None:
        """One more own address, with a default route if it is the link's first of its family. Raises EEXIST, EINVAL."""
        self._check_addr(addr, length)
        _check_mtu(link.mtu, len(addr) == 16)
        link.addrs.append((addr, length))
        self.set_addr_flags(link, addr, deprecated=deprecated, temporary=temporary)
        self.routes.rebuild(self.links.values())
        if not any(e.link is link and not e.length and len(e.prefix) == len(addr) for e in self.routes.entries()):
            self._add_default(link, len(addr), None)

    def set_addr_flags(
        self, link: Link, addr: bytes, *, deprecated: bool | None = None, temporary: bool | None = None
    ) -> None:
        """Say what source address selection should know of an own address (RFC 6724 §5, rules 3 and 7)."""
        for flags, wanted in ((link.deprecated, deprecated), (link.temporary, temporary)):
            if wanted:
                flags.add(addr)
            elif wanted is False:
                flags.discard(addr)
        self.routes.version += 1

    def remove_addr(self, link: Link, addr: bytes) -> None:
        """Give an address up. Raises EADDRNOTAVAIL."""
        kept = [each for each in link.addrs if each[0] != addr]
        if len(kept) == len(link.addrs):
            raise StackError(errno.EADDRNOTAVAIL, f"{show_addr(addr)} is not on {link.name}")
        link.addrs[:] = kept
        link.deprecated.discard(addr)
        link.temporary.discard(addr)
        self.routes.rebuild(self.links.values())

    def set_link_mtu(self, link: Link, mtu: int) -> None:
        """Change a link's MTU and tell TCP. Raises EINVAL."""
        _check_mtu(mtu, any(len(addr) == 16 for addr, _length in link.addrs))
        link.mtu = mtu
        self.routes.version += 1
        self.tcp.link_mtu_changed(link)

    def set_link_up(self, link: Link, up: bool) -> None:
        """Administrative state: a link that is down receives nothing, and no route leads over it."""
        came_up = up and not link.up
        link.up = up
        self.routes.version += 1
        if came_up:
            self.multicast.link_up(link)

    def _check_addr(self, addr: bytes, length: int) -> None:
        if len(addr) not in (4, 16) or not 0 <= length <= len(addr) * 8:
            raise StackError(errno.EINVAL, f"no address: {addr.hex()}/{length}")
        if addr in self.routes.local:
            raise StackError(errno.EEXIST, f"{show_addr(addr)} is on {self.routes.local[addr].name} already")

    def route(self, dst: bytes, src: bytes | None = None) -> Route:
        """The way to `dst`: link, source address and MTU. Raises StackError ENETUNREACH."""
        return self.routes.route(dst, src)

    # --- packets in

    def receive(self, pkt: bytes, now: Nanos, link: Link) -> None:
        """Take one packet from `link`: a virtio_net_hdr and whatever came. Never raises on any bytes.

        The fast path is plain TCP of a known connection over its own link: IPv4 without options or fragments, IPv6
        without extension headers. It only skips what ip.input would find to be in order: that the addresses are good
        was seen when the connection was made.
        """
        self.now = now
        if not link.up:
            link.stats.rx_dropped += 1
            return
        stats = link.stats
        stats.rx_packets += 1
        size = len(pkt)
        stats.rx_bytes += size - 10
        try:
            if size >= 50:
                first, tos, total, frag, proto = _FAST4.unpack_from(pkt, 10)
                if first == 0x45:
                    if proto == 6 and not frag & 0x3FFF and 40 <= total <= size - 10 and not ones_sum(pkt[10:30]):
                        key = pkt[22:34]
                        conn = self.flows.get(key)
                        if conn is not None and conn.link is link:
                            self.mib.IpInReceives += 1
                            self.mib.IpInDelivers += 1
                            self.tcp.receive(pkt, 10, 30, total + 10, key, link, tos, pkt[0] & 3 != 0, now)
                            return
                elif first >> 4 == 6:
                    ver, length, nxt = _FAST6.unpack_from(pkt, 10)
                    if nxt == 6 and 20 <= length <= size - 50:
                        key = pkt[18:54]
                        conn = self.flows.get(key)
                        if conn is not None and conn.link is link:
                            self.mib.Ip6InReceives += 1
                            self.mib.Ip6InDelivers += 1
                            tos = ver >> 4 & 0xFF
                            self.tcp.receive(pkt, 10, 50, length + 50, key, link, tos, pkt[0] & 3 != 0, now)
                            return
            ip_input.receive(self, pkt, now, link)
        except Malformed:
            self.mib.NuseInMalformed += 1
            stats.rx_errors += 1

    # --- packets out

    def poll_transmit(self, now: Nanos) -> Packet | None:
        """The next packet to write, None if there is none now. Its buffers are ours again at the next call."""
        self.now = now
        outbox = self.outbox
        budget = LO_BUDGET
        self._lo_backlog = False
        while True:
            if outbox:
                packet = outbox.popleft()
                link, iovec = packet
                link.stats.tx_packets += 1
                link.stats.tx_bytes += sum(map(len, iovec)) - 10
            else:
                made = self.tcp.poll_transmit(now)  # counts for itself: it knows the sizes
                if made is None:
                    self.drained += 1
                    if self.looped:
                        self._take_looped(now)
                        continue
                    if self.blocked:
                        self._tell_drained()
                    return None
                packet = made
                link, iovec = packet
            if not link.up:
                link.stats.tx_dropped += 1
                self.mib.NuseOutLinkDown += 1
                continue
            if not link.loopback:
                return packet
            self.receive(b"".join(iovec), now, link)
            budget -= 1
            if not budget:
                self._lo_backlog = True
                return None

    def _take_looped(self, now: Nanos) -> None:
        for _ in range(len(self.looped)):
            link, iovec = self.looped.popleft()
            ip_input.receive_looped(self, b"".join(iovec), now, link)

    def _tell_drained(self) -> None:
        blocked, self.blocked = self.blocked, {}
        for endpoint in blocked.values():
            endpoint.on_drained()

    def watch_tcp(self, watched: bool) -> None:
        """For raw endpoints: while one wants TCP's packets, none may take the fast path around it."""
        self.flows = {} if watched else self.tcp.flows

    # --- time

    def add_guest(self, guest: Timed) -> None:
        """Ask `guest` too for its next deadline, and tell it the time: for what stands on the stack's extensions."""
        self._guests.append(guest)

    def poll_timeout(self) -> Nanos | None:
        """When `handle_timeout` wants to be called next; None for never."""
        if self._lo_backlog:
            return self.now
        deadline = self.tcp.poll_timeout()
        for organ in self._timed:
            deadline = sooner(deadline, organ.poll_timeout())
        for guest in self._guests:
            deadline = sooner(deadline, guest.poll_timeout())
        return deadline

    def handle_timeout(self, now: Nanos) -> None:
        """Do what is due by `now`; calling it early is harmless."""
        self.now = now
        self._lo_backlog = False
        self.tcp.handle_timeout(now)
        self.reasm4.handle_timeout(now)
        self.reasm6.handle_timeout(now)
        self.multicast.handle_timeout(now)
        for guest in self._guests:
            guest.handle_timeout(now)
        wider = self.pmtu.handle_timeout(now)
        if wider:
            self.tcp.pmtu_raised(wider)

    # --- events

    def post_event(self, endpoint: Any, bits: int) -> None:
        """For organs: remember `bits` for the endpoint's owner; the endpoint is in the ready queue at most once."""
        if not endpoint.events:
            self._ready.append(endpoint)
        endpoint.events |= bits

    def poll_event(self) -> tuple[Any, int] | None:
        """The next endpoint with news, and its bits (stack.events); None if there is none."""
        if not self._ready:
            return None
        endpoint = self._ready.popleft()
        bits = endpoint.events
        endpoint.events = 0
        return endpoint, bits

    def next_id(self) -> int:
        """A small number that no other endpoint of this stack has or had."""
        self._last_id += 1
        return self._last_id

    def check(self) -> None:
        """Raise InvariantBroken if any organ contradicts itself. For tests and the debug socket."""
        for organ in (self.routes, self.pmtu, self.reasm4, self.reasm6, self.multicast, self.icmp, self.icmp.echo):
            organ.check()
        for demux in (self.udp, self.raw, self.tcp):
            demux.check()
        if len(self._ready) != len(set(map(id, self._ready))):
            raise InvariantBroken("an endpoint is in the ready queue twice")
        for endpoint in self._ready:
            if not endpoint.events:
                raise InvariantBroken("an endpoint without news is in the ready queue")


def _check_mtu(mtu: int, v6: bool) -> None:
    least = IPV6_MIN_MTU if v6 else MIN_MTU
    if not least <= mtu <= 65535:
        raise StackError(errno.EINVAL, f"MTU {mtu} is outside {least}..65535")
