"""Raw endpoints: SOCK_RAW, what ping, traceroute, mtr and nmap need. Privilege is the business of who opens them.

Each gets a copy of every datagram of its protocol, before and in addition to what the stack does with it: over IPv4 the
whole packet, over IPv6 what follows the headers. It sends payloads, or with IP_HDRINCL packets whose header it wrote
itself. As in Linux the ICMP filter keeps types away, ICMPv6 checksums are made and verified here, and protocol 255
(IPPROTO_RAW) only sends. Fragments are reassembled first.
"""

import errno
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from stack.checksum import finish, ones_sum
from stack.dgram import Datagram, DatagramEndpoint, SockAddr, Way, is_any
from stack.dgram_options import SendControl
from stack.errors import InvariantBroken, StackError
from stack.errqueue import SockError
from stack.ip import output
from stack.ip.addr import ANY4, ANY6
from stack.ip.inbound import MULTICAST, Inbound
from stack.units import Nanos
from stack.wire import ipv4, ipv6
from stack.wire.vnet import VNET_NONE

if TYPE_CHECKING:
    from stack.host import Stack

RAW = 255  # IPPROTO_RAW


class RawEndpoint(DatagramEndpoint):
    """One raw socket; its "port" is the protocol."""

    def __init__(self, stack: "Stack", table: "RawTable", v6: bool, proto: int) -> None:
        super().__init__(stack, v6)
        self._table = table
        self.proto = proto
        self.v6only = True
        self.hdrincl = proto == RAW
        self.icmp_filter = 0  # bit n: ICMPv4 type n (below 32), ICMPv6 type n (below 256) is not wanted
        self.checksum_at = 2 if v6 and proto == ipv6.ICMP6 else -1  # IPV6_CHECKSUM
        self.local = (self.local[0], proto)
        self._bound = self.local[0]

    def bind(
        self, addr: bytes, port: int, *, reuseaddr: bool = False, reuseport: bool = False, v6only: bool = True
    ) -> None:
        """Receive only what is sent to `addr`, and send from it. Raises EADDRNOTAVAIL."""
        if self.closed:
            raise StackError(errno.EBADF, "closed")
        self._check_bindable(addr)
        self._bound = addr
        self.local = (addr, self.proto)

    def connect(self, remote: SockAddr) -> None:
        """Fix the remote host; its datagrams only are received."""
        if self.closed:
            raise StackError(errno.EBADF, "closed")
        addr, route = self._route(remote[0])
        if is_any(self.local[0]):
            self.local = (route.src, self.proto)
        self.remote = (addr, 0)

    def disconnect(self) -> None:
        """Back to before `connect`."""
        self.remote = None
        self.local = (self._bound, self.proto)

    def sendto(
        self, data: bytes | memoryview, dest: SockAddr | None, now: Nanos, control: SendControl | None = None
    ) -> None:
        """Send a payload, or with `hdrincl` a packet. Raises as `UdpEndpoint.sendto`."""
        self._check_open()
        dest = dest or self.remote
        if dest is None:
            raise StackError(errno.EDESTADDRREQ, "no destination")
        v4 = not self.v6
        if len(data) > 0xFFFF - (20 if v4 and not self.hdrincl else 0):
            raise StackError(errno.EMSGSIZE, f"{len(data)} bytes")
        way = self._way(dest[0], control)
        head_len = 0 if self.hdrincl else 20 if v4 else 40
        if (self.hdrincl or not way.cut) and len(data) + head_len > way.route.mtu:
            raise self._too_big((way.addr, 0), way.route.mtu, len(data))
        self._raise_pending()
        self._charge_sent(len(data))
        if self.hdrincl:
            self._emit_packet(way, bytes(data))
            return
        if self.v6 and self.checksum_at >= 0:
            data = self._checksummed(way, bytes(data))
        mib = self._stack.mib
        mib.IcmpOutMsgs += v4 and self.proto == ipv4.ICMP
        mib.Icmp6OutMsgs += not v4 and self.proto == ipv6.ICMP6
        output.send(self._stack, way.route, way.addr, self.proto, b"", data, ttl=way.ttl, tos=way.tos, df=way.df)

    def _checksummed(self, way: Way, data: bytes) -> bytes:
        at = self.checksum_at
        if at + 2 > len(data):
            raise StackError(errno.EINVAL, "too short for its checksum")
        bare = data[:at] + b"\0\0" + data[at + 2 :]
        total = ipv4.pseudo_sum(way.route.src, way.addr, self.proto, len(bare)) + ones_sum(bare)
        return data[:at] + (finish(total) or 0xFFFF).to_bytes(2, "big") + data[at + 2 :]

    def _emit_packet(self, way: Way, data: bytes) -> None:
        """IP_HDRINCL: of an IPv4 header length and checksum are filled in, source and identification if they are 0."""
        stack, route = self._stack, way.route
        if len(data) < (ipv6.IPV6_LEN if self.v6 else ipv4.IPV4_LEN):
            raise StackError(errno.EINVAL, "no IP header")
        if self.v6:
            stack.mib.Ip6OutRequests += 1
            output.queue(stack, route, VNET_NONE + data, b"")
            return
        ihl = (data[0] & 0xF) * 4
        if not 20 <= ihl <= len(data):
            raise StackError(errno.EINVAL, f"IP header of {ihl} bytes")
        head = bytearray(data[:ihl])
        head[2:4] = len(data).to_bytes(2, "big")
        if not any(head[4:6]):
            head[4:6] = stack.entropy.u16().to_bytes(2, "big")
        if not any(head[12:16]):
            head[12:16] = route.src
        head[10:12] = b"\0\0"
        head[10:12] = finish(ones_sum(head)).to_bytes(2, "big")
        stack.mib.IpOutRequests += 1
        output.queue(stack, route, VNET_NONE + bytes(head) + data[ihl:], b"")

    def wants(self, inb: Inbound) -> bool:
        """True if a datagram of our protocol is for us."""
        if not self.accepts(inb.dst) or (self.remote is not None and self.remote[0] != inb.src):
            return False
        if self.options.link is not None and self.options.link is not inb.link:
            return False
        if inb.kind == MULTICAST and not self.hears(inb.dst, inb.src, inb.link):
            return False
        if self.icmp_filter and inb.end > inb.l4:
            kind = inb.pkt[inb.l4]
            if (self.v6 or kind < 32) and self.icmp_filter >> kind & 1:
                return False
        if self.v6 and self.checksum_at >= 0 and not inb.csum_ok:
            pseudo = ipv4.pseudo_sum(inb.src, inb.dst, self.proto, inb.end - inb.l4)
            return not (pseudo + ones_sum(memoryview(inb.pkt)[inb.l4 : inb.end])) % 0xFFFF
        return True

    def close(self) -> None:
        """No more copies."""
        if not self.closed:
            self.closed = True
            self._forget_all()
            self._table.release(self)


class RawTable:
    """All raw endpoints of a stack, by family and protocol."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._protos: dict[tuple[bool, int], list[RawEndpoint]] = {}
        self.count = 0  # looked at before each delivery: nearly always zero

    def open(self, v6: bool, proto: int) -> RawEndpoint:
        """A new endpoint for one protocol. Raises EPROTONOSUPPORT for 0 or what is no protocol."""
        if not 0 < proto < 256:
            raise StackError(errno.EPROTONOSUPPORT, f"protocol {proto}")
        endpoint = RawEndpoint(self._stack, self, v6, proto)
        self._protos.setdefault((v6, proto), []).append(endpoint)
        self.count += 1
        self._stack.watch_tcp(bool(self._protos.get((False, 6)) or self._protos.get((True, 6))))
        return endpoint

    def endpoints(self) -> Iterable[RawEndpoint]:
        """All that are not closed."""
        return [each for here in self._protos.values() for each in here]

    def release(self, endpoint: RawEndpoint) -> None:
        """Take a closed endpoint out of the table."""
        key = (endpoint.v6, endpoint.proto)
        self._protos[key].remove(endpoint)
        if not self._protos[key]:
            del self._protos[key]
        self.count -= 1
        self._stack.watch_tcp((False, 6) in self._protos or (True, 6) in self._protos)

    def deliver(self, inb: Inbound) -> bool:
        """Hand out copies; True if anybody wanted one, so that its protocol is not unknown here."""
        v6 = len(inb.src) == 16
        taken = False
        for endpoint in self._protos.get((v6, inb.proto), ()) if inb.proto != RAW else ():
            if endpoint.wants(inb):
                taken = True
                data = memoryview(inb.pkt)[inb.l4 if v6 else inb.l3 : inb.end]
                endpoint.deliver(Datagram(data, inb.src, 0, inb.dst, inb.ttl, inb.tos, inb.link, len(inb.pkt)))
        return taken

    def icmp_error(self, local: bytes, proto: int, raw: bytes, start: int, report: SockError, hard: bool) -> int:
        """An ICMP error quotes the packet `raw`: tell those who may have sent it (Linux's raw_err)."""
        v6 = len(local) == 16
        known = 0
        for endpoint in self._protos.get((v6, proto), ()):
            if endpoint.local[0] not in (local, ANY4, ANY6):
                continue
            if endpoint.remote is not None and endpoint.remote[0] != report.dst[0]:
                continue
            payload = raw if endpoint.hdrincl else raw[start:]
            known = max(known, 1 + endpoint.on_report(replace(report, payload=payload), hard))
        return known

    def check(self) -> None:
        """The count is right."""
        if self.count != sum(map(len, self._protos.values())):
            raise InvariantBroken("raw endpoints")
        for endpoint in self.endpoints():
            endpoint.check()
