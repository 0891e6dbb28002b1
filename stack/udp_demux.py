"""Which UDP endpoint receives, with the rules of Linux's sockets for who may bind what and whose a datagram is.

Endpoints hang in one list per local port. Of those that match, the most specific receives (Linux's compute_score):
bound address, then connected remote, then bound link, then own address family; among equals the newest, or a hash of
the four-tuple if they share the port by SO_REUSEPORT. Broadcast and multicast go to all that match, the latter as far
as their filters let it. O(endpoints on the port).
"""

import errno
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stack.checksum import ones_sum
from stack.dgram import Datagram, SockAddr, is_any
from stack.errors import InvariantBroken, StackError
from stack.errqueue import SockError
from stack.ip.addr import ANY6, show_addr
from stack.ip.inbound import MULTICAST, UNICAST, Inbound
from stack.ip.link import Link
from stack.udp import UdpEndpoint
from stack.units import Nanos
from stack.wire import ipv4
from stack.wire.icmp import PORT, PORT6, UNREACHABLE, UNREACHABLE6
from stack.wire.udp import UDP_HDR, UDP_LEN
from stack.wire.vnet import GSO_UDP_L4, VNET

if TYPE_CHECKING:
    from stack.host import Stack


class UdpDemux:
    """All UDP endpoints of a stack."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._ports: dict[int, list[UdpEndpoint]] = {}
        self._all: dict[int, UdpEndpoint] = {}
        self._hash_key = stack.entropy.bytes(16)

    def open(self, v6: bool) -> UdpEndpoint:
        """A new endpoint, bound to nothing."""
        endpoint = UdpEndpoint(self._stack, self, v6)
        self._all[endpoint.id] = endpoint
        return endpoint

    def endpoints(self) -> Iterable[UdpEndpoint]:
        """All that are not closed, in order of birth."""
        return list(self._all.values())

    # --- ports

    def claim(self, endpoint: UdpEndpoint, addr: bytes, port: int) -> None:
        """Give `endpoint` the address, or raise EADDRINUSE."""
        if port:
            if self._conflict(endpoint, addr, port):
                raise StackError(errno.EADDRINUSE, f"{show_addr(addr)} port {port} is taken")
        else:
            low, high = self._stack.sysctl.ip_local_port_range
            count = high - low + 1
            start = self._stack.entropy.below(count)  # RFC 6056 §3.3.1
            for i in range(count):
                port = low + (start + i) % count
                if not self._conflict(endpoint, addr, port):
                    break
            else:
                raise StackError(errno.EADDRINUSE, "every ephemeral port is taken")
        endpoint.local = (addr, port)
        self._ports.setdefault(port, []).append(endpoint)

    def release(self, endpoint: UdpEndpoint) -> None:
        """Take `endpoint` out of the tables: its port's, and if closed all."""
        here = self._ports.get(endpoint.local[1])
        if here is not None and endpoint in here:
            here.remove(endpoint)
            if not here:
                del self._ports[endpoint.local[1]]
        if endpoint.closed:
            self._all.pop(endpoint.id, None)

    def _conflict(self, endpoint: UdpEndpoint, addr: bytes, port: int) -> bool:
        """Linux's udp_lib_lport_inuse."""
        for other in self._ports.get(port, ()):
            if endpoint.reuseaddr and other.reuseaddr:
                continue
            if endpoint.reuseport and other.reuseport:
                continue
            if endpoint.options.link and other.options.link and endpoint.options.link is not other.options.link:
                continue
            if _overlap(addr, endpoint.v6only, other.local[0], other.v6only):
                return True
        return False

    # --- in

    def receive(self, inb: Inbound, now: Nanos) -> None:
        """One datagram, or a USO super-datagram of several."""
        mib = self._stack.mib
        pkt, l4 = inb.pkt, inb.l4
        v4 = len(inb.src) == 4
        size = inb.end - l4
        _flags, gso_type, _hdr_len, gso_size, _start, _offset = VNET.unpack_from(pkt)
        whole = gso_type & 0x7F != GSO_UDP_L4 or not gso_size
        sport, dport, length, csum = UDP_HDR.unpack_from(pkt, l4) if size >= UDP_LEN else (0, 0, 0, 0)
        if not whole:
            length = size
        if not UDP_LEN <= length <= size:
            self._bad(v4, False)
            return
        if not csum:
            if not v4:  # RFC 8200 §8.1: mandatory there
                self._bad(v4, True)
                return
        elif not inb.csum_ok:
            view = memoryview(pkt)[l4 : l4 + length]
            if (ipv4.pseudo_sum(inb.src, inb.dst, ipv4.UDP, length) + ones_sum(view)) % 0xFFFF:
                self._bad(v4, True)
                return
        found = self._lookup(inb, sport, dport)
        if not found:
            if v4:
                mib.UdpNoPorts += 1
                self._stack.icmp.error4(inb, UNREACHABLE, PORT, now)
            else:
                mib.Udp6NoPorts += 1
                self._stack.icmp.error6(inb, UNREACHABLE6, PORT6, now)
            return
        data = memoryview(pkt)[l4 + UDP_LEN : l4 + length]
        if whole or gso_size >= len(data):
            for endpoint in found:
                datagram = Datagram(data, inb.src, sport, inb.dst, inb.ttl, inb.tos, inb.link, len(pkt))
                self._deliver(endpoint, datagram, v4)
        else:
            for endpoint in found:
                self._deliver_super(endpoint, inb, sport, data, gso_size)

    def _deliver_super(self, endpoint: UdpEndpoint, inb: Inbound, sport: int, data: memoryview, size: int) -> None:
        """Several datagrams of `size` in one: as it is for who asked for UDP_GRO, one by one for the others."""
        step = len(data) if endpoint.options.gro else size
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            datagram = Datagram(piece, inb.src, sport, inb.dst, inb.ttl, inb.tos, inb.link, len(piece))
            datagram.segment = size if endpoint.options.gro else 0
            self._deliver(endpoint, datagram, len(inb.src) == 4)

    def _deliver(self, endpoint: UdpEndpoint, datagram: Datagram, v4: bool) -> None:
        mib = self._stack.mib
        if endpoint.deliver(datagram):
            mib.UdpInDatagrams += v4
            mib.Udp6InDatagrams += not v4
            return
        if v4:
            mib.UdpRcvbufErrors += 1
            mib.UdpInErrors += 1
        else:
            mib.Udp6RcvbufErrors += 1
            mib.Udp6InErrors += 1

    def _bad(self, v4: bool, checksum: bool) -> None:
        mib = self._stack.mib
        mib.UdpInErrors += v4
        mib.Udp6InErrors += not v4
        mib.UdpInCsumErrors += v4 and checksum
        mib.Udp6InCsumErrors += not v4 and checksum

    def _lookup(self, inb: Inbound, sport: int, dport: int) -> list[UdpEndpoint]:
        here = self._ports.get(dport)
        if here is None:
            return []
        src, dst, link = inb.src, inb.dst, inb.link
        if inb.kind == UNICAST:
            best = self._best(here, src, sport, dst, dport, link)
            return [best] if best is not None else []
        found = [one for one in here if _score(one, src, sport, dst, link) >= 0]
        if inb.kind == MULTICAST:
            return [one for one in found if one.hears(dst, src, link)]
        return found

    def _best(
        self, here: list[UdpEndpoint], src: bytes, sport: int, dst: bytes, dport: int, link: Link | None
    ) -> UdpEndpoint | None:
        if len(here) == 1:
            return here[0] if _score(here[0], src, sport, dst, link) >= 0 else None
        most, best = -1, []
        for one in here:
            score = _score(one, src, sport, dst, link)
            if score > most:
                most, best = score, [one]
            elif score == most >= 0:
                best.append(one)
        if not best:
            return None
        if len(best) > 1 and best[-1].reuseport and best[-1].remote is None:
            group = [one for one in best if one.reuseport]
            flow = b"%b%b%b%b" % (src, sport.to_bytes(2, "big"), dst, dport.to_bytes(2, "big"))
            digest = hashlib.blake2b(flow, digest_size=4, key=self._hash_key).digest()
            return group[int.from_bytes(digest, "big") * len(group) >> 32]
        return best[-1]

    def icmp_error(self, local: SockAddr, report: SockError, hard: bool) -> int:
        """An ICMP error quotes a datagram local → report.dst: 0 if no endpoint can have sent it.

        2 if its endpoint believes it about the path's MTU, 1 if not.
        """
        here = self._ports.get(local[1])
        if not here:
            return 0
        endpoint = self._best(here, *report.dst, *local, None)
        if endpoint is None:
            return 0
        return 1 + endpoint.on_report(report, hard)

    def check(self) -> None:
        """Ports and endpoints agree."""
        for endpoint in self._all.values():
            endpoint.check()
            if endpoint.closed or (endpoint.local[1] and endpoint not in self._ports.get(endpoint.local[1], ())):
                raise InvariantBroken(f"udp endpoint {endpoint.id} is not in its port's list")
        for port, here in self._ports.items():
            if not here or any(one.local[1] != port or one.id not in self._all for one in here):
                raise InvariantBroken(f"udp port {port}")


def _overlap(a: bytes, a_only: bool, b: bytes, b_only: bool) -> bool:
    """True if two bound addresses can receive the same packet, Linux's inet_rcv_saddr_equal with wildcards."""
    if len(a) == len(b):
        return a == b or is_any(a) or is_any(b)
    if len(a) == 4:
        a, a_only, b, b_only = b, b_only, a, a_only
    return a == ANY6 and not a_only  # a is IPv6, b is IPv4


def _score(one: UdpEndpoint, src: bytes, sport: int, dst: bytes, link: Link | None) -> int:
    """How well an endpoint fits a packet, −1 for not at all. `link` None: any, for an error about what we sent."""
    if not one.accepts(dst):
        return -1
    score = 0 if is_any(one.local[0]) else 16
    if one.remote is not None:
        addr, port = one.remote
        if addr != src or port not in (0, sport):  # connected to port 0 hears every port of that address, as in Linux
            return -1
        score += 8 if port else 4
    if one.options.link is not None and link is not None:
        if one.options.link is not link:
            return -1
        score += 4
    return score + (one.v6 == (len(dst) == 16))
