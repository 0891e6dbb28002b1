"""UDP, RFC 768 and RFC 8200 §8.1, with the rules of Linux's sockets for who may bind what and who receives what.

Endpoints hang in one list per local port. Of those that match, the most specific receives: bound address, then
connected remote, then own address family; among equals the newest, or a hash of the sender if they share the port by
SO_REUSEPORT. Broadcast goes to all that match, multicast to those bound to the group. O(endpoints on the port).
"""

import errno
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stack.checksum import ones_sum
from stack.dgram import Datagram, DatagramEndpoint, SockAddr, is_any
from stack.errors import InvariantBroken, StackError
from stack.ip import output
from stack.ip.addr import ANY4, ANY6, show_addr
from stack.ip.inbound import BROADCAST, UNICAST, Inbound
from stack.ip.route import Route
from stack.units import Nanos
from stack.wire import ipv4
from stack.wire.icmp import PORT, PORT6, UNREACHABLE, UNREACHABLE6
from stack.wire.udp import CSUM_OFFSET, UDP_HDR, UDP_LEN, UDP_MAX4, UDP_MAX6
from stack.wire.vnet import GSO_UDP_L4, VNET

if TYPE_CHECKING:
    from stack.host import Stack


class UdpEndpoint(DatagramEndpoint):
    """One UDP socket."""

    def __init__(self, stack: "Stack", demux: "UdpDemux", v6: bool) -> None:
        super().__init__(stack, v6)
        self._demux = demux
        self.reuseaddr = False
        self.reuseport = False
        self._bound: SockAddr | None = None  # what `disconnect` returns to

    def bind(
        self, addr: bytes, port: int, *, reuseaddr: bool = False, reuseport: bool = False, v6only: bool = False
    ) -> None:
        """Take a local address; port 0 picks one. Raises EINVAL, EADDRINUSE, EADDRNOTAVAIL."""
        if self.closed or self.local[1]:
            raise StackError(errno.EBADF if self.closed else errno.EINVAL, "bound already, or closed")
        self.reuseaddr, self.reuseport, self.v6only = reuseaddr, reuseport, v6only and self.v6
        self._check_bindable(addr)
        self._demux.claim(self, addr, port)
        self._bound = self.local

    def connect(self, remote: SockAddr) -> None:
        """Fix the remote end: only its datagrams are received, and its errors are reported."""
        if self.closed:
            raise StackError(errno.EBADF, "closed")
        addr, route = self._route(remote[0])
        if not self.local[1]:
            self._autobind()
        if is_any(self.local[0]):
            self.local = (route.src, self.local[1])
        self.remote = (addr, remote[1])

    def disconnect(self) -> None:
        """Back to before `connect`; a port that the stack had picked is given up."""
        self.remote = None
        if self._bound is not None:
            self.local = self._bound
        elif self.local[1]:
            self._demux.release(self)
            self.local = (ANY6 if self.v6 else ANY4, 0)

    def sendto(self, data: bytes | memoryview, dest: SockAddr | None, now: Nanos) -> None:
        """Send one datagram, to the connected remote if `dest` is None. `data` must not change afterwards.

        Raises EDESTADDRREQ, EMSGSIZE, EINVAL, ENETUNREACH, EACCES, or the error that an earlier datagram met. When the
        way out is congested the datagram is lost, as in a full device queue.
        """
        self._raise_pending()
        dest = dest or self.remote
        if dest is None:
            raise StackError(errno.EDESTADDRREQ, "no destination")
        if not 0 < dest[1] < 65536:
            raise StackError(errno.EINVAL, f"port {dest[1]}")
        if len(data) > (UDP_MAX4 if len(dest[0]) == 4 else UDP_MAX6):
            raise StackError(errno.EMSGSIZE, f"{len(data)} bytes")
        addr, route = self._route(dest[0])
        if not self.local[1]:
            self._autobind()
        self._demux.emit(self, (addr, dest[1]), route, data)

    def close(self) -> None:
        """Give the port back; what is queued is lost."""
        if not self.closed:
            self.closed = True
            self.owner = None
            self._drop_queue()
            self._demux.release(self)

    def _autobind(self) -> None:
        try:
            self._demux.claim(self, self.local[0], 0)
        except StackError:
            raise StackError(errno.EAGAIN, "no free port") from None


class UdpDemux:
    """All UDP endpoints of a stack."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._ports: dict[int, list[UdpEndpoint]] = {}
        self._all: dict[int, UdpEndpoint] = {}

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
        start, stop = l4 + UDP_LEN, l4 + length
        step = stop - start if whole else gso_size
        charge = len(pkt) if whole else step
        for at in range(start, stop, step) if stop > start else (start,):
            data = memoryview(pkt)[at : min(at + step, stop)]
            for endpoint in found:
                datagram = Datagram(data, inb.src, sport, inb.dst, inb.ttl, inb.tos, inb.link, charge)
                self._deliver(endpoint, datagram, v4)

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
        if inb.kind == UNICAST:
            best = self._best(here, inb.src, sport, inb.dst)
            return [best] if best is not None else []
        return [
            one
            for one in here
            if _score(one, inb.src, sport, inb.dst) >= 0 and (inb.kind == BROADCAST or one.local[0] == inb.dst)
        ]

    def _best(self, here: list[UdpEndpoint], src: bytes, sport: int, dst: bytes) -> UdpEndpoint | None:
        most, best = -1, []
        for one in here:
            score = _score(one, src, sport, dst)
            if score > most:
                most, best = score, [one]
            elif score == most >= 0:
                best.append(one)
        if not best:
            return None
        if len(best) > 1 and best[-1].reuseport:
            group = [one for one in best if one.reuseport]
            return group[zlib.crc32(src + dst + sport.to_bytes(2, "big")) % len(group)]
        return best[-1]

    def icmp_error(self, local: SockAddr, remote: SockAddr, err: int, hard: bool) -> bool:
        """An ICMP error quotes a datagram local → remote: False if no endpoint can have sent it.

        Only a connected endpoint hears of it, and only of hard errors, as in Linux without IP_RECVERR.
        """
        here = self._ports.get(local[1])
        endpoint = here and self._best(here, remote[0], remote[1], local[0])
        if not endpoint:
            return False
        if hard and endpoint.remote == remote:
            endpoint.fail(err)
        return True

    # --- out

    def emit(self, endpoint: UdpEndpoint, dest: SockAddr, route: Route, data: bytes | memoryview) -> None:
        """Build one datagram and queue it."""
        addr, port = dest
        length = UDP_LEN + len(data)
        sport = endpoint.local[1]
        if output.csum_offloaded(route, addr, length):
            header = UDP_HDR.pack(sport, port, length, output.partial_sum(ipv4.UDP, route, addr, length))
            offset = CSUM_OFFSET
        else:
            bare = UDP_HDR.pack(sport, port, length, 0)
            csum = output.transport_sum(ipv4.UDP, route, addr, bare, data) or 0xFFFF
            header = bare[:CSUM_OFFSET] + csum.to_bytes(2, "big")
            offset = 0
        options = endpoint.options
        queued = output.send(
            self._stack,
            route,
            addr,
            ipv4.UDP,
            header,
            data,
            ttl=options.ttl,
            tos=options.tos,
            df=True,
            csum_offset=offset,
        )
        mib = self._stack.mib
        if len(addr) == 4:
            mib.UdpOutDatagrams += queued
            mib.UdpSndbufErrors += not queued
        else:
            mib.Udp6OutDatagrams += queued
            mib.Udp6SndbufErrors += not queued

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


def _score(one: UdpEndpoint, src: bytes, sport: int, dst: bytes) -> int:
    """How well an endpoint fits a packet, −1 for not at all."""
    if not one.accepts(dst):
        return -1
    score = 0 if is_any(one.local[0]) else 4
    if one.remote is not None:
        if one.remote != (src, sport):
            return -1
        score += 2
    return score + (one.v6 == (len(dst) == 16))
