"""ICMP and ICMPv6: echo answered, errors sent and errors understood. RFC 792, RFC 1122 §3.2.2, RFC 4443.

Echo is warm and touches no payload: the checksum is updated, not computed. Errors are cold, so dpkt decodes what they
quote and builds what we send. An error that arrives is believed as far as it quotes a packet of an endpoint that we
have (RFC 5927 §4); it becomes an errno by Linux's tables. Redirects and neighbour discovery are counted and ignored:
a TUN is point to point.
"""

from typing import TYPE_CHECKING, Any

import dpkt

from stack.checksum import ones_sum
from stack.errors import Malformed, StackError
from stack.ip import output
from stack.ip.icmp_errno import errno4, errno6
from stack.ip.inbound import UNICAST, Inbound
from stack.ip.pmtu import plateau
from stack.ip.ratelimit import IcmpRateLimit
from stack.ip.route import is_multicast
from stack.units import Nanos
from stack.wire import icmp as wire
from stack.wire import ipv4, ipv6

if TYPE_CHECKING:
    from stack.echo import EchoTable
    from stack.host import Stack

QUOTE_SEEN = 128  # bytes of a quoted packet that we look at: headers and eight bytes of transport
QUOTE4, QUOTE6 = 576 - 28, ipv6.IPV6_MIN_MTU - 48  # bytes that we quote, RFC 1812 §4.3.2.3, RFC 4443 §2.4


class _Quoted4(dpkt.ip.IP):  # type: ignore[misc]
    """A quoted IPv4 packet; its payload stays bytes, so a hostile one cannot make dpkt decode the whole zoo."""

    _protosw: dict[int, Any] = {}  # noqa: RUF012 — dpkt's own name and shape


class _Quoted6(dpkt.ip6.IP6):  # type: ignore[misc]
    """The same for IPv6."""

    _protosw: dict[int, Any] = {}  # noqa: RUF012


_IN4 = {
    wire.ECHO_REPLY: "IcmpInEchoReps",
    wire.UNREACHABLE: "IcmpInDestUnreachs",
    wire.REDIRECT: "IcmpInRedirects",
    wire.ECHO: "IcmpInEchos",
    wire.TIME_EXCEEDED: "IcmpInTimeExcds",
    wire.PARAM_PROBLEM: "IcmpInParmProbs",
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
        kind, code, csum, _ident, mtu = wire.ICMP_HDR.unpack_from(pkt, l4)
        self._count(_IN4.get(kind))
        if kind == wire.ECHO:
            # Broadcast echo is smurf's amplifier: Linux's icmp_echo_ignore_broadcasts, RFC 1122 §3.2.2.6.
            if inb.kind == UNICAST and not self._stack.sysctl.icmp_echo_ignore_all:
                header = bytes((wire.ECHO_REPLY, code)) + ((csum + 0x0800) % 0xFFFF or 0xFFFF).to_bytes(2, "big")
                self._answer(inb, ipv4.ICMP, header, "IcmpOutEchoReps", inb.tos)
        elif kind == wire.ECHO_REPLY:
            self.echo.receive(inb)
        elif kind in (wire.UNREACHABLE, wire.TIME_EXCEEDED, wire.PARAM_PROBLEM):
            self._error_in4(inb, kind, code, mtu, now)

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
        kind, code, csum, high, low = wire.ICMP_HDR.unpack_from(pkt, l4)
        self._count(_IN6.get(kind))
        if kind == wire.ECHO6:
            if any(inb.src) and not self._stack.sysctl.icmp_echo_ignore_all:
                self._echo6(inb, code, csum)
        elif kind == wire.ECHO_REPLY6:
            self.echo.receive(inb)
        elif kind in (wire.UNREACHABLE6, wire.TOO_BIG6, wire.TIME_EXCEEDED6, wire.PARAM_PROBLEM6):
            self._error_in6(inb, kind, code, high << 16 | low, now)

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
        if not inb.link.loopback and not self._limit.allow(inb.src, now):
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

    # --- errors in

    def _error_in4(self, inb: Inbound, kind: int, code: int, mtu: int, now: Nanos) -> None:
        at = inb.l4 + wire.ICMP_LEN
        try:
            quoted = _Quoted4(inb.pkt[at : min(inb.end, at + QUOTE_SEEN)])
        except dpkt.Error:
            raise Malformed("ICMP error that quotes nothing") from None
        error = errno4(kind, code)
        if error is None or quoted.v != 4 or quoted.offset:
            return
        too_big = kind == wire.UNREACHABLE and code == wire.FRAG_NEEDED
        self._dispatch(
            quoted.src, quoted.dst, quoted.p, bytes(quoted.data), error, (mtu or plateau(quoted.len)) * too_big, now
        )

    def _error_in6(self, inb: Inbound, kind: int, code: int, mtu: int, now: Nanos) -> None:
        at = inb.l4 + wire.ICMP_LEN
        raw = inb.pkt[at : min(inb.end, at + QUOTE_SEEN)]
        try:
            quoted = _Quoted6(raw)
            headers = quoted.all_extension_headers
            start = ipv6.IPV6_LEN + sum(header.length for header in headers)
            proto = quoted.p
        except (dpkt.Error, AttributeError):  # AttributeError: dpkt 1.9.8 on a fragment header that is not the last
            raise Malformed("ICMPv6 error that quotes nothing") from None
        if quoted.v != 6 or any(getattr(header, "frag_off", 0) for header in headers):
            return
        error = errno6(kind, code)
        self._dispatch(quoted.src, quoted.dst, proto, raw[start:], error, mtu * (kind == wire.TOO_BIG6), now)

    def _dispatch(
        self, src: bytes, dst: bytes, proto: int, data: bytes, error: tuple[int, bool], mtu: int, now: Nanos
    ) -> None:
        """Tell the endpoint that sent `data` from `src`; a path MTU is learned only if there is one."""
        stack = self._stack
        err, hard = error
        if len(data) < 8 or not stack.routes.is_local(src):
            stack.mib.NuseIcmpUnmatched += 1
            return
        sport, dport = data[0:2], data[2:4]
        if proto == ipv4.TCP:
            key = dst + src + dport + sport
            seq = int.from_bytes(data[4:8], "big")
            conn = stack.tcp.flows.get(key)
            # RFC 5927 §4.1: what an off-path liar has to guess. TCP checks again, for errors that teach no MTU.
            if conn is not None and conn.in_flight_at(seq):
                stack.tcp.icmp_error(key, err, hard, self._learn(src, dst, mtu, now), seq, now)
                return
        elif proto == ipv4.UDP:
            local, remote = (src, int.from_bytes(sport, "big")), (dst, int.from_bytes(dport, "big"))
            if stack.udp.icmp_error(local, remote, err, hard or bool(mtu)):
                self._learn(src, dst, mtu, now)
                return
        elif proto in (ipv4.ICMP, ipv6.ICMP6):
            ours = data[0] == wire.ECHO_REPLY6 and len(src) == 16  # an echo reply of ours was too big for the path
            if ours or self.echo.icmp_error(src, dst, data, err, hard or bool(mtu)):
                self._learn(src, dst, mtu, now)
                return
        stack.mib.NuseIcmpUnmatched += 1

    def _learn(self, src: bytes, dst: bytes, mtu: int, now: Nanos) -> int | None:
        """Put a path MTU into the cache; the one now in force."""
        stack = self._stack
        if not mtu:
            return None
        try:
            current = stack.route(dst, src).mtu
            stack.pmtu.learn(dst, mtu, current, now)
            return stack.route(dst, src).mtu
        except StackError:
            return None
