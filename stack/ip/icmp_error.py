"""ICMP errors that arrive: what they quote, whose packet that was, and what its sender is told.

An error is believed as far as it quotes a packet of an endpoint that we have (RFC 5927 §4): a TCP segment that is in
flight, a datagram of an endpoint with these ends. It becomes an errno by Linux's tables, and a path MTU is learned only
from an error that somebody recognised. All of this is cold, so dpkt decodes the quotes.
"""

from typing import TYPE_CHECKING, Any

import dpkt

from stack.errors import Malformed, StackError
from stack.errqueue import ORIGIN_ICMP, ORIGIN_ICMP6, SockError
from stack.ip.icmp_errno import errno4, errno6
from stack.ip.inbound import Inbound
from stack.ip.pmtu import plateau
from stack.units import Nanos
from stack.wire import icmp as wire
from stack.wire import ipv4, ipv6

if TYPE_CHECKING:
    from stack.host import Stack

QUOTE_MAX = 4096  # bytes of a quoted packet that we look at; routers quote 548 or 1232


class _Quoted4(dpkt.ip.IP):  # type: ignore[misc]
    """A quoted IPv4 packet; its payload stays bytes, so a hostile one cannot make dpkt decode the whole zoo."""

    _protosw: dict[int, Any] = {}  # noqa: RUF012 — dpkt's own name and shape


class _Quoted6(dpkt.ip6.IP6):  # type: ignore[misc]
    """The same for IPv6."""

    _protosw: dict[int, Any] = {}  # noqa: RUF012


def receive4(stack: "Stack", inb: Inbound, now: Nanos) -> None:
    """An ICMPv4 error, checksum verified. Raises Malformed."""
    at = inb.l4 + wire.ICMP_LEN
    kind, code, _csum, pointer, mtu = wire.ICMP_HDR.unpack_from(inb.pkt, inb.l4)
    raw = inb.pkt[at : min(inb.end, at + QUOTE_MAX)]
    try:
        quoted = _Quoted4(raw)
    except dpkt.Error:
        raise Malformed("ICMP error that quotes nothing") from None
    err = errno4(kind, code)
    if err is None or quoted.v != 4 or quoted.offset:
        return
    info = mtu if (kind, code) == (wire.UNREACHABLE, wire.FRAG_NEEDED) else 0
    if kind == wire.PARAM_PROBLEM:
        info = pointer >> 8
    too_big = kind == wire.UNREACHABLE and code == wire.FRAG_NEEDED
    report = SockError(err[0], ORIGIN_ICMP, kind, code, info, inb.src, (quoted.dst, 0), b"", inb.link.index)
    mtu = (mtu or plateau(quoted.len)) * too_big
    _dispatch(stack, quoted.src, quoted.p, raw, quoted.hl * 4, report, err[1], mtu, now)


def receive6(stack: "Stack", inb: Inbound, now: Nanos) -> None:
    """The same for ICMPv6."""
    at = inb.l4 + wire.ICMP_LEN
    kind, code, _csum, high, low = wire.ICMP_HDR.unpack_from(inb.pkt, inb.l4)
    raw = inb.pkt[at : min(inb.end, at + QUOTE_MAX)]
    try:
        quoted = _Quoted6(raw)
        headers = quoted.all_extension_headers
        start = ipv6.IPV6_LEN + sum(header.length for header in headers)
        proto = quoted.p
    except (dpkt.Error, AttributeError):  # AttributeError: dpkt 1.9.8 on a fragment header that is not the last
        raise Malformed("ICMPv6 error that quotes nothing") from None
    if quoted.v != 6 or any(getattr(header, "frag_off", 0) for header in headers):
        return
    err, hard = errno6(kind, code)
    info = high << 16 | low
    report = SockError(err, ORIGIN_ICMP6, kind, code, info, inb.src, (quoted.dst, 0), b"", inb.link.index)
    _dispatch(stack, quoted.src, proto, raw, start, report, hard, info * (kind == wire.TOO_BIG6), now)


def _dispatch(
    stack: "Stack", src: bytes, proto: int, raw: bytes, start: int, report: SockError, hard: bool, mtu: int, now: Nanos
) -> None:
    """Tell the endpoint that sent the packet `raw` from `src`, whose transport header lies at `start`.

    A path MTU is learned if there is such an endpoint. `report` goes into its error queue if it keeps one.
    """
    data = raw[start:]
    dst = report.dst[0]
    known = 0  # 1: we sent it; 2: and whoever did takes the word about the path's MTU
    if stack.routes.is_local(src):
        if stack.raw.count:
            known = stack.raw.icmp_error(src, proto, raw, start, report, hard)
        if len(data) < 8:
            pass
        elif proto == ipv4.TCP:
            known = max(known, _dispatch_tcp(stack, src, data, report, hard, mtu, now))
        elif proto == ipv4.UDP:
            sport, dport = int.from_bytes(data[0:2], "big"), int.from_bytes(data[2:4], "big")
            report.dst, report.payload = (dst, dport), data[8:]
            known = max(known, stack.udp.icmp_error((src, sport), report, hard))
        elif proto == ipv6.ICMP6 and data[0] == wire.ECHO_REPLY6:  # an echo reply of ours was too big for the path
            known = 2
        elif proto in (ipv4.ICMP, ipv6.ICMP6):
            report.payload = data
            known = max(known, stack.icmp.echo.icmp_error(src, data, report, hard))
    if not known:
        stack.mib.NuseIcmpUnmatched += 1
    elif mtu and known == 2:
        _learn(stack, src, dst, mtu, now)


def _dispatch_tcp(stack: "Stack", src: bytes, data: bytes, report: SockError, hard: bool, mtu: int, now: Nanos) -> int:
    """RFC 5927 §4.1: what an off-path liar has to guess. TCP checks again, for errors that teach no MTU."""
    dst = report.dst[0]
    sport, dport = data[0:2], data[2:4]
    key = dst + src + dport + sport
    seq = int.from_bytes(data[4:8], "big")
    conn = stack.tcp.flows.get(key)
    if conn is None or not conn.in_flight_at(seq):
        return 0
    report.dst, report.payload = (dst, int.from_bytes(dport, "big")), data
    stack.tcp.icmp_error(key, report.errno, hard, _learn(stack, src, dst, mtu, now), seq, now, report)
    return 1


def _learn(stack: "Stack", src: bytes, dst: bytes, mtu: int, now: Nanos) -> int | None:
    """Put a path MTU into the cache; the one now in force."""
    if not mtu:
        return None
    try:
        current = stack.route(dst, src).mtu
        stack.pmtu.learn(dst, mtu, current, now)
        return stack.route(dst, src).mtu
    except StackError:
        return None
