"""ICMP and ICMPv6: echo answered, errors sent and errors understood. RFC 792, RFC 1122 §3.2.2, RFC 4443.

Echo is warm and touches no payload: the checksum is updated, not computed. Errors are cold, so dpkt builds what we
send; those that arrive are ip.icmp_error's. Redirects and neighbour discovery are counted and ignored: a
TUN is point to point, so another gateway on it would be the same wire (heeding them, RFC 1122 §3.2.2.2, has no effect).
"""

from typing import TYPE_CHECKING, Any

import dpkt

from stack.checksum import finish, ones_sum
from stack.errors import StackError
from stack.ip import icmp_error, output
from stack.ip.addr import is_multicast
from stack.ip.inbound import UNICAST, Inbound
from stack.ip.ratelimit import IcmpRateLimit
from stack.units import MSEC, Nanos
from stack.wire import icmp as wire
from stack.wire import ipv4, ipv6

if TYPE_CHECKING:
    from stack.echo import EchoTable
    from stack.host import Stack

QUOTE4, QUOTE6 = 576 - 28, ipv6.IPV6_MIN_MTU - 48  # bytes that we quote, RFC 1812 §4.3.2.3, RFC 4443 §2.4


_IN4 = {
    wire.ECHO_REPLY: "IcmpInEchoReps",
    wire.UNREACHABLE: "IcmpInDestUnreachs",
    wire.REDIRECT: "IcmpInRedirects",
    wire.ECHO: "IcmpInEchos",
    wire.TIME_EXCEEDED: "IcmpInTimeExcds",
    wire.PARAM_PROBLEM: "IcmpInParmProbs",
    wire.TIMESTAMP: "IcmpInTimestamps",
    wire.TIMESTAMP_REPLY: "IcmpInTimestampReps",
}
_IN6 = {
    wire.UNREACHABLE6: "Icmp6InDestUnreachs",
    wire.TOO_BIG6: "Icmp6InPktTooBigs",
    wire.TIME_EXCEEDED6: "Icmp6InTimeExcds",
    wire.PARAM_PROBLEM6: "Icmp6InParmProblems",
    wire.ECHO6: "Icmp6InEchos",
    wire.ECHO_REPLY6: "Icmp6InEchoReplies",
    wire.MLD_QUERY: "Icmp6InGroupMembQueries",
    wire.ROUTER_SOLICIT: "Icmp6InRouterSolicits",
    wire.ROUTER_ADVERT: "Icmp6InRouterAdvertisements",
    wire.NEIGHBOR_SOLICIT: "Icmp6InNeighborSolicits",
    wire.NEIGHBOR_ADVERT: "Icmp6InNeighborAdvertisements",
    wire.REDIRECT6: "Icmp6InRedirects",
    wire.MLD2_REPORT: "Icmp6InMLDv2Reports",
}


class Icmp:
    """ICMP of both families. `echo` holds the endpoints that ping."""

    echo: "EchoTable"

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._limit = IcmpRateLimit(stack.sysctl, stack.mib)

    def open_echo(self, v6: bool) -> Any:
        """A new EchoEndpoint, stack.echo."""
        return self.echo.open(v6)

    def check(self) -> None:
        """The rate limiter is bounded."""
        self._limit.check()

    # --- in

    def receive4(self, inb: Inbound, now: Nanos) -> None:
        """One ICMPv4 message. Raises Malformed."""
        mib = self._stack.mib
        mib.IcmpInMsgs += 1
        pkt, l4, end = inb.pkt, inb.l4, inb.end
        if end - l4 < wire.ICMP_LEN:
            mib.IcmpInErrors += 1
            return
        if ones_sum(memoryview(pkt)[l4:end]):
            mib.IcmpInCsumErrors += 1
            mib.IcmpInErrors += 1
            return
        kind, code, csum, _ident, _seq = wire.ICMP_HDR.unpack_from(pkt, l4)
        self._count(_IN4.get(kind))
        sysctl = self._stack.sysctl
        if kind in (wire.ECHO, wire.TIMESTAMP):
            # Answers to broadcasts are smurf's amplifier, RFC 1122 §3.2.2.6 and §3.2.2.8.
            if inb.kind != UNICAST and sysctl.icmp_echo_ignore_broadcasts:
                return
            if kind == wire.TIMESTAMP:
                self._stamp(inb, now)
            elif not sysctl.icmp_echo_ignore_all and self._may_answer(inb, wire.ECHO_REPLY, now):
                header = bytes((wire.ECHO_REPLY, code)) + ((csum + 0x0800) % 0xFFFF or 0xFFFF).to_bytes(2, "big")
                self._answer(inb, ipv4.ICMP, header, "IcmpOutEchoReps", inb.tos)
        elif kind == wire.ECHO_REPLY:
            self.echo.receive(inb)
        elif kind in (wire.UNREACHABLE, wire.TIME_EXCEEDED, wire.PARAM_PROBLEM):
            icmp_error.receive4(self._stack, inb, now)

    def receive6(self, inb: Inbound, now: Nanos) -> None:
        """One ICMPv6 message. Raises Malformed."""
        mib = self._stack.mib
        mib.Icmp6InMsgs += 1
        pkt, l4, end = inb.pkt, inb.l4, inb.end
        if end - l4 < wire.ICMP_LEN:
            mib.Icmp6InErrors += 1
            return
        pseudo = ipv4.pseudo_sum(inb.src, inb.dst, ipv6.ICMP6, end - l4)
        if (pseudo + ones_sum(memoryview(pkt)[l4:end])) % 0xFFFF:
            mib.Icmp6InCsumErrors += 1
            mib.Icmp6InErrors += 1
            return
        kind, code, csum, _ident, _seq = wire.ICMP_HDR.unpack_from(pkt, l4)
        self._count(_IN6.get(kind))
        if kind == wire.ECHO6:
            sysctl = self._stack.sysctl
            quiet = sysctl.icmp6_echo_ignore_all or (inb.kind != UNICAST and sysctl.icmp6_echo_ignore_multicast)
            if any(inb.src) and not quiet:
                self._echo6(inb, code, csum)
        elif kind == wire.ECHO_REPLY6:
            self.echo.receive(inb)
        elif kind in (wire.MLD_QUERY, wire.MLD_REPORT):
            self._stack.multicast.receive(inb, now)
        elif kind in (wire.UNREACHABLE6, wire.TOO_BIG6, wire.TIME_EXCEEDED6, wire.PARAM_PROBLEM6):
            icmp_error.receive6(self._stack, inb, now)

    def _stamp(self, inb: Inbound, now: Nanos) -> None:
        """RFC 792: the stack knows no wall clock, so its times bear the high bit that says so."""
        if inb.end - inb.l4 < wire.STAMPS_LEN or not self._may_answer(inb, wire.TIMESTAMP_REPLY, now):
            return
        time = (now // MSEC & 0x7FFF_FFFF | 0x8000_0000).to_bytes(4, "big")
        rest = inb.pkt[inb.l4 + 4 : inb.l4 + 12] + time + time
        total = ones_sum(bytes((wire.TIMESTAMP_REPLY, 0)) + rest)
        header = bytes((wire.TIMESTAMP_REPLY, 0)) + finish(total).to_bytes(2, "big") + rest
        src = inb.dst if inb.kind == UNICAST else None
        self._send(inb.src, src, ipv4.ICMP, header, b"", "IcmpOutTimestampReps", inb.tos)

    def _may_answer(self, inb: Inbound, kind: int, now: Nanos) -> bool:
        """net.ipv4.icmp_ratemask may limit any message, replies too; by default only errors."""
        return not self._stack.sysctl.icmp_ratemask >> kind & 1 or inb.link.loopback or self._limit.allow(inb.src, now)

    def _echo6(self, inb: Inbound, code: int, csum: int) -> None:
        total = -csum + 0x0100
        if inb.kind != UNICAST:  # the reply comes from an address of ours, not from the group
            try:
                mine = self._stack.route(inb.src).src
            except StackError:
                return
            total += ones_sum(mine) - ones_sum(inb.dst)
        header = bytes((wire.ECHO_REPLY6, code)) + (-total % 0xFFFF).to_bytes(2, "big")
        self._answer(inb, ipv6.ICMP6, header, "Icmp6OutEchoReplies", 0)

    def _answer(self, inb: Inbound, proto: int, header: bytes, counter: str, tos: int) -> None:
        payload = memoryview(inb.pkt)[inb.l4 + len(header) : inb.end]
        self._send(inb.src, inb.dst if inb.kind == UNICAST else None, proto, header, payload, counter, tos)

    def _send(
        self, dst: bytes, src: bytes | None, proto: int, header: bytes, data: bytes | memoryview, counter: str, tos: int
    ) -> None:
        mib = self._stack.mib
        try:
            route = self._stack.route(dst, src)
            output.send(self._stack, route, dst, proto, header, data, tos=tos)
        except StackError:
            mib.IpOutNoRoutes += proto == ipv4.ICMP
            mib.Ip6OutNoRoutes += proto != ipv4.ICMP
            mib.IcmpOutErrors += proto == ipv4.ICMP
            mib.Icmp6OutErrors += proto != ipv4.ICMP
            return
        mib.IcmpOutMsgs += proto == ipv4.ICMP
        mib.Icmp6OutMsgs += proto != ipv4.ICMP
        self._count(counter)

    def _count(self, name: str | None) -> None:
        if name:
            setattr(self._stack.mib, name, getattr(self._stack.mib, name) + 1)

    # --- errors out

    def error4(self, inb: Inbound, kind: int, code: int, now: Nanos) -> None:
        """Tell the sender of `inb` what became of it, if RFC 1122 §3.2.2 and the rate limits allow."""
        pkt, l4 = inb.pkt, inb.l4
        if inb.kind != UNICAST or not any(inb.src):
            return
        if inb.proto == ipv4.ICMP and pkt[l4 : l4 + 1] and pkt[l4] not in (wire.ECHO, wire.ECHO_REPLY):
            return
        if not self._may_answer(inb, kind, now):
            return
        quote = pkt[inb.l3 : min(inb.end, inb.l3 + QUOTE4)]
        message = bytes(dpkt.icmp.ICMP(type=kind, code=code, data=dpkt.icmp.ICMP.Quote(data=quote)))
        counter = {wire.UNREACHABLE: "IcmpOutDestUnreachs", wire.TIME_EXCEEDED: "IcmpOutTimeExcds"}.get(kind, "")
        self._send(inb.src, inb.dst, ipv4.ICMP, message, b"", counter, 0xC0 | inb.tos & 0x1E)

    def error6(
        self, inb: Inbound, kind: int, code: int, now: Nanos, *, pointer: int = 0, even_multicast: bool = False
    ) -> None:
        """The same for IPv6, RFC 4443 §2.4(e)."""
        if (inb.kind != UNICAST and not even_multicast) or not any(inb.src) or is_multicast(inb.src):
            return
        first = inb.pkt[inb.l4 : inb.l4 + 1]
        if inb.proto == ipv6.ICMP6 and (not first or first[0] <= wire.ERROR6_MAX or first[0] == wire.REDIRECT6):
            return
        if not inb.link.loopback and not self._limit.allow(inb.src, now):
            return
        quote = inb.pkt[inb.l3 : min(inb.end, inb.l3 + QUOTE6)]
        try:
            src = inb.dst if inb.kind == UNICAST else self._stack.route(inb.src).src
        except StackError:
            return
        body = bytes(dpkt.icmp6.ICMP6(type=kind, code=code, data=dpkt.icmp6.ICMP6.ParamProb(ptr=pointer, data=quote)))
        total = ipv4.pseudo_sum(src, inb.src, ipv6.ICMP6, len(body)) + ones_sum(body)
        message = body[:2] + (-total % 0xFFFF).to_bytes(2, "big") + body[4:]
        counter = {
            wire.UNREACHABLE6: "Icmp6OutDestUnreachs",
            wire.TIME_EXCEEDED6: "Icmp6OutTimeExcds",
            wire.PARAM_PROBLEM6: "Icmp6OutParmProblems",
        }.get(kind, "")
        self._send(inb.src, src, ipv6.ICMP6, message, b"", counter, 0)

    def param_problem6(self, inb: Inbound, refused: ipv6.Refused, now: Nanos) -> None:
        """Answer a packet that RFC 8200 wants refused aloud."""
        self.error6(
            inb,
            wire.PARAM_PROBLEM6,
            refused.code,
            now,
            pointer=refused.pointer,
            even_multicast=refused.even_multicast,
        )
