"""Echo endpoints: what Linux calls ping sockets (SOCK_DGRAM, IPPROTO_ICMP), so that ping needs no privilege.

The program writes whole echo requests and reads whole echo replies. The stack owns the identifier, which is the
endpoint's port, and the checksum.
"""

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stack.checksum import finish, ones_sum
from stack.dgram import Datagram, DatagramEndpoint, SockAddr, is_any
from stack.dgram_options import SendControl
from stack.errors import InvariantBroken, StackError
from stack.errqueue import SockError
from stack.ip import output
from stack.ip.addr import ANY4, ANY6
from stack.ip.inbound import UNICAST, Inbound
from stack.units import Nanos
from stack.wire import ipv4, ipv6
from stack.wire.icmp import ECHO, ECHO6, ICMP_LEN

if TYPE_CHECKING:
    from stack.host import Stack

IDENT = 4  # offset of the identifier in an echo message


class EchoEndpoint(DatagramEndpoint):
    """One ping socket. An IPv6 one speaks ICMPv6 only, so nothing here is dual-stack."""

    def __init__(self, stack: "Stack", table: "EchoTable", v6: bool) -> None:
        super().__init__(stack, v6)
        self._table = table
        self.v6only = True
        self._bound = self.local[0]

    def bind(
        self, addr: bytes, port: int, *, reuseaddr: bool = False, reuseport: bool = False, v6only: bool = True
    ) -> None:
        """Take an identifier (0 picks one) and a source address. Raises EINVAL, EADDRINUSE, EADDRNOTAVAIL."""
        if self.closed or self.local[1]:
            raise StackError(errno.EBADF if self.closed else errno.EINVAL, "bound already, or closed")
        self._check_bindable(addr)
        self._table.claim(self, port)
        self.local = (addr, self.local[1])
        self._bound = addr

    def connect(self, remote: SockAddr) -> None:
        """Fix the host to ping: only its replies are received, and its errors are reported."""
        if self.closed:
            raise StackError(errno.EBADF, "closed")
        addr, route = self._route(remote[0])
        if not self.local[1]:
            self._table.claim(self, 0)
        if is_any(self.local[0]):
            self.local = (route.src, self.local[1])
        self.remote = (addr, 0)

    def disconnect(self) -> None:
        """Back to before `connect`; the identifier stays."""
        self.remote = None
        self.local = (self._bound, self.local[1])

    def sendto(
        self, data: bytes | memoryview, dest: SockAddr | None, now: Nanos, control: SendControl | None = None
    ) -> None:
        """Send an echo request; identifier and checksum in `data` are replaced.

        Raises EINVAL if it is none, and as `UdpEndpoint.sendto`.
        """
        self._check_open()
        dest = dest or self.remote
        if dest is None:
            raise StackError(errno.EDESTADDRREQ, "no destination")
        if len(data) < ICMP_LEN or data[0] != (ECHO6 if self.v6 else ECHO) or data[1]:
            raise StackError(errno.EINVAL, "not an echo request")
        if len(data) > (0xFFFF if self.v6 else 0xFFFF - ipv4.IPV4_LEN):
            raise StackError(errno.EMSGSIZE, f"{len(data)} bytes")
        way = self._way(dest[0], control)
        addr, route = way.addr, way.route
        if not way.cut and len(data) + (40 if self.v6 else 20) > route.mtu:
            raise self._too_big((addr, 0), route.mtu, len(data))
        self._raise_pending()
        if not self.local[1]:
            self._table.claim(self, 0)
        self._charge_sent(len(data))
        stack = self._stack
        proto = ipv6.ICMP6 if self.v6 else ipv4.ICMP
        head = bytes(data[:2]) + bytes(2) + self.local[1].to_bytes(2, "big")
        rest = data[IDENT + 2 :]
        total = ones_sum(head) + ones_sum(rest)
        if self.v6:
            total += ipv4.pseudo_sum(route.src, addr, proto, len(data))
        header = head[:2] + finish(total).to_bytes(2, "big") + head[4:]
        output.send(stack, route, addr, proto, header, rest, ttl=way.ttl, tos=way.tos, df=way.df)
        stack.mib.IcmpOutMsgs += not self.v6
        stack.mib.IcmpOutEchos += not self.v6
        stack.mib.Icmp6OutMsgs += self.v6
        stack.mib.Icmp6OutEchos += self.v6

    def close(self) -> None:
        """Give the identifier back."""
        if not self.closed:
            self.closed = True
            self._forget_all()
            self._table.release(self)


class EchoTable:
    """All echo endpoints of a stack, by family and identifier."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._idents: dict[tuple[bool, int], EchoEndpoint] = {}
        self._all: dict[int, EchoEndpoint] = {}

    def open(self, v6: bool) -> EchoEndpoint:
        """A new endpoint without identifier."""
        endpoint = EchoEndpoint(self._stack, self, v6)
        self._all[endpoint.id] = endpoint
        return endpoint

    def endpoints(self) -> Iterable[EchoEndpoint]:
        """All that are not closed, in order of birth."""
        return list(self._all.values())

    def claim(self, endpoint: EchoEndpoint, ident: int) -> None:
        """Give `endpoint` an identifier, any free one for 0. Raises EADDRINUSE."""
        start = ident or self._stack.entropy.u16()
        for i in range(1 if ident else 65536):
            found = (start + i) & 0xFFFF
            if found and (endpoint.v6, found) not in self._idents:
                self._idents[endpoint.v6, found] = endpoint
                endpoint.local = (endpoint.local[0], found)
                return
        raise StackError(errno.EADDRINUSE, f"echo identifier {ident} is taken")

    def release(self, endpoint: EchoEndpoint) -> None:
        """Take a closed endpoint out of the tables."""
        self._idents.pop((endpoint.v6, endpoint.local[1]), None)
        self._all.pop(endpoint.id, None)

    def _find(self, ident: bytes, v6: bool, local: bytes, remote: bytes) -> EchoEndpoint | None:
        endpoint = self._idents.get((v6, int.from_bytes(ident, "big")))
        if endpoint is None or endpoint.local[0] not in (local, ANY4, ANY6):
            return None
        return endpoint if endpoint.remote is None or endpoint.remote[0] == remote else None

    def receive(self, inb: Inbound) -> None:
        """An echo reply, checksum verified; if nobody waits for it, it is dropped silently as in Linux."""
        ident = inb.pkt[inb.l4 + IDENT : inb.l4 + IDENT + 2]
        endpoint = self._find(ident, len(inb.src) == 16, inb.dst, inb.src) if inb.kind == UNICAST else None
        if endpoint is not None:
            data = memoryview(inb.pkt)[inb.l4 : inb.end]
            endpoint.deliver(Datagram(data, inb.src, 0, inb.dst, inb.ttl, inb.tos, inb.link, len(inb.pkt)))

    def icmp_error(self, local: bytes, data: bytes, report: SockError, hard: bool) -> int:
        """An ICMP error quotes the message `data`, local → report.dst: as UdpDemux.icmp_error."""
        v6 = len(local) == 16
        if data[0] != (ECHO6 if v6 else ECHO):
            return 0
        endpoint = self._find(data[IDENT : IDENT + 2], v6, local, report.dst[0])
        return 0 if endpoint is None else 1 + endpoint.on_report(report, hard)

    def check(self) -> None:
        """Identifiers and endpoints agree."""
        for (v6, ident), endpoint in self._idents.items():
            if endpoint.v6 is not v6 or endpoint.local[1] != ident or endpoint.id not in self._all:
                raise InvariantBroken(f"echo identifier {ident}")
        for endpoint in self._all.values():
            endpoint.check()
