"""The IP layer for every packet that the fast path of `Stack.receive` did not take.

Validates, reassembles and hands over to TCP, UDP or ICMP. RFC 791, RFC 1122 §3.2.1, RFC 8200. Host model: weak, as
in Linux: a packet for any own address is taken on any link, except that loopback addresses never come from outside;
`nuse.strong_host` switches to the strong one.
Nothing is forwarded. Every drop has a counter.
"""

from typing import TYPE_CHECKING

from stack.checksum import ones_sum
from stack.errors import Malformed
from stack.ip.addr import LOOPBACK6
from stack.ip.inbound import BROADCAST, MULTICAST, UNICAST, Inbound
from stack.ip.link import Link
from stack.units import Nanos
from stack.wire import ipv4, ipv6
from stack.wire.icmp import PROTOCOL, UNREACHABLE
from stack.wire.membership import IGMP
from stack.wire.vnet import CSUM_VOUCHED, VNET_LEN

if TYPE_CHECKING:
    from stack.host import Stack

_MAPPED = bytes(10) + b"\xff\xff"
_LSRR, _SSRR = 131, 137


def receive(stack: "Stack", pkt: bytes, now: Nanos, link: Link) -> None:
    """Take one packet of any kind. Raises Malformed."""
    version = pkt[VNET_LEN] >> 4 if len(pkt) > VNET_LEN else 0
    if version == 4:
        _input4(stack, pkt, now, link)
    elif version == 6:
        _input6(stack, pkt, now, link)
    else:
        raise Malformed(f"IP version {version}")


def receive_looped(stack: "Stack", pkt: bytes, now: Nanos, link: Link) -> None:
    """Take a copy of what we sent to all over `link`, for those of us who listen there."""
    if pkt[VNET_LEN] >> 4 == 4:
        _input4(stack, pkt, now, link, looped=True)
    else:
        _input6(stack, pkt, now, link, looped=True)


# --- IPv4


def _input4(stack: "Stack", pkt: bytes, now: Nanos, link: Link, *, looped: bool = False) -> None:
    mib = stack.mib
    mib.IpInReceives += 1
    l3 = VNET_LEN
    size = len(pkt) - l3
    if size < ipv4.IPV4_LEN:
        mib.IpInHdrErrors += 1
        return
    ver_ihl, tos, total, ident, frag, ttl, proto, _csum, src, dst = ipv4.IPV4.unpack_from(pkt, l3)
    ihl = (ver_ihl & 0xF) * 4
    if ihl < ipv4.IPV4_LEN or ihl > size or total < ihl:
        mib.IpInHdrErrors += 1
        return
    if ones_sum(pkt[l3 : l3 + ihl]):
        mib.IpExtInCsumErrors += 1
        mib.IpInHdrErrors += 1
        return
    if total > size:
        mib.IpExtInTruncatedPkts += 1
        return
    kind = _accept4(stack, src, dst, proto, link, looped)
    if kind is None:
        return
    if ihl > ipv4.IPV4_LEN and not _options_ok(pkt, l3 + ipv4.IPV4_LEN, l3 + ihl):
        mib.IpInHdrErrors += 1
        return
    csum_ok = looped or link.loopback or bool(pkt[0] & CSUM_VOUCHED)
    inb = Inbound(pkt, l3, l3 + ihl, l3 + total, src, dst, proto, ttl, tos, link, csum_ok, kind)
    if frag & ipv4.FRAGMENT:
        whole = stack.reasm4.add(inb, ident.to_bytes(2, "big"), (frag & ipv4.OFFSET) * 8, bool(frag & ipv4.MF), now)
        if whole is None:
            return
        inb = whole
    _deliver4(stack, inb, now)


def _accept4(stack: "Stack", src: bytes, dst: bytes, proto: int, link: Link, looped: bool) -> int | None:
    """The kind of destination, or None for a packet not to be had: not for us, or from nobody (RFC 1122 §3.2.1.3)."""
    mib, routes = stack.mib, stack.routes
    first = src[0]
    outside = not (link.loopback or looped)
    if first >= 224 or routes.is_broadcast(src) or (outside and (first == 127 or src in routes.local)):
        mib.IpInAddrErrors += 1
        return None
    if routes.is_local(dst):
        owner = routes.local.get(dst)
        if owner is not link:
            if not link.loopback and (owner is None or owner.loopback):
                mib.IpInAddrErrors += 1
                return None
            mib.NuseInWrongLink += not link.loopback
            if stack.sysctl.strong_host and not link.loopback:
                return None
        kind = UNICAST
    elif routes.is_broadcast(dst):
        mib.IpExtInBcastPkts += 1
        kind = BROADCAST
    elif dst[0] & 0xF0 == 0xE0:
        mib.IpExtInMcastPkts += 1
        if proto != IGMP and not stack.multicast.accepts(dst, src, link):
            mib.NuseInNotJoined += 1
            return None
        kind = MULTICAST
    else:
        mib.IpInAddrErrors += 1
        return None
    if first == 0 and kind == UNICAST:  # only somebody without an address yet speaks so, and to all
        mib.IpInAddrErrors += 1
        return None
    return kind


def _options_ok(pkt: bytes, at: int, end: int) -> bool:
    """Options are skipped, but must be well-formed and no source route (RFC 7126 §4.3; Linux accept_source_route 0)."""
    while at < end:
        kind = pkt[at]
        if kind == 0:
            return True
        if kind == 1:
            at += 1
            continue
        if kind in (_LSRR, _SSRR) or at + 2 > end or pkt[at + 1] < 2 or at + pkt[at + 1] > end:
            return False
        at += pkt[at + 1]
    return True


def _deliver4(stack: "Stack", inb: Inbound, now: Nanos) -> None:
    proto = inb.proto
    raw = stack.raw.count and stack.raw.deliver(inb)
    if proto == ipv4.UDP:
        stack.mib.IpInDelivers += 1
        stack.udp.receive(inb, now)
    elif proto == ipv4.ICMP:
        stack.mib.IpInDelivers += 1
        stack.icmp.receive4(inb, now)
    elif proto == ipv4.TCP:
        stack.mib.IpInDelivers += 1
        _deliver_tcp(stack, inb, now)
    elif proto == IGMP:
        stack.mib.IpInDelivers += 1
        stack.multicast.receive(inb, now)
    elif raw:
        stack.mib.IpInDelivers += 1
    else:
        stack.mib.IpInUnknownProtos += 1
        stack.icmp.error4(inb, UNREACHABLE, PROTOCOL, now)


def _deliver_tcp(stack: "Stack", inb: Inbound, now: Nanos) -> None:
    if inb.kind != UNICAST:  # RFC 9293 §3.10.7.2, MUST-57
        stack.mib.TcpInErrs += 1
        return
    if inb.end - inb.l4 < 4:
        raise Malformed("no TCP ports")
    key = inb.src + inb.dst + inb.pkt[inb.l4 : inb.l4 + 4]
    stack.tcp.receive(inb.pkt, inb.l3, inb.l4, inb.end, key, inb.link, inb.tos, inb.csum_ok, now)


# --- IPv6


def _input6(stack: "Stack", pkt: bytes, now: Nanos, link: Link, *, looped: bool = False) -> None:
    mib = stack.mib
    mib.Ip6InReceives += 1
    l3 = VNET_LEN
    size = len(pkt) - l3
    if size < ipv6.IPV6_LEN:
        mib.Ip6InHdrErrors += 1
        return
    class_flow, length, nxt, hops, src, dst = ipv6.IPV6.unpack_from(pkt, l3)
    if ipv6.IPV6_LEN + length > size:
        mib.Ip6InTruncatedPkts += 1
        return
    kind = _accept6(stack, src, dst, link, looped)
    if kind is None:
        return
    csum_ok = looped or link.loopback or bool(pkt[0] & CSUM_VOUCHED)
    tos = class_flow >> 20 & 0xFF
    inb = Inbound(pkt, l3, l3 + 40, l3 + 40 + length, src, dst, nxt, hops, tos, link, csum_ok, kind)
    try:
        if _walk(inb):
            whole = _fragment6(stack, inb, now)
            if whole is None:
                return
            inb = whole
            if _walk(inb, inb.l4, inb.nxt_at):
                raise Malformed("fragments of fragments")
    except ipv6.Refused as refused:
        mib.Ip6InHdrErrors += 1
        stack.icmp.param_problem6(inb, refused, now)
        return
    except Malformed:
        mib.Ip6InHdrErrors += 1
        return
    _deliver6(stack, inb, now)


def _walk(inb: Inbound, after: int = 0, nxt_at: int = 0) -> bool:
    """Let `inb` point behind its extension headers; True if a fragment header comes first."""
    chain = ipv6.walk(inb.pkt, inb.l3, inb.end, after=after, nxt_at=nxt_at)
    inb.proto, inb.l4, inb.nxt_at = chain.proto, chain.l4, chain.nxt_at
    return chain.frag > 0


def _fragment6(stack: "Stack", inb: Inbound, now: Nanos) -> Inbound | None:
    """The datagram that the fragment at `inb.l4` completes, if it does; an atomic one at once (RFC 6946).

    A first fragment must hold all headers up to and with the transport's (RFC 7112 §5). The result's `l4` and `nxt_at`
    say where the walk along the headers goes on.
    """
    at = inb.l4
    if at + ipv6.FRAG_HDR_LEN > inb.end:
        raise Malformed("fragment header cut short")
    _nxt, _reserved, offset_more, ident = ipv6.FRAG_HDR.unpack_from(inb.pkt, at)
    offset, more = offset_more & 0xFFF8, bool(offset_more & 1)
    size = inb.end - at - ipv6.FRAG_HDR_LEN
    if not offset and not more:
        stack.mib.Ip6ReasmReqds += 1
        stack.mib.Ip6ReasmOKs += 1
        inb.l4, inb.nxt_at = at + ipv6.FRAG_HDR_LEN, at
        return inb
    if more and size % 8:
        raise ipv6.Refused("fragment length", 0, ipv6.PAYLOAD_LENGTH)
    if not offset and not ipv6.chain_complete(inb.pkt, at, inb.end):
        raise ipv6.Refused("first fragment without the whole header chain", 3, 0)
    if offset + size + at - inb.l3 - ipv6.IPV6_LEN > 0xFFFF:
        raise ipv6.Refused("fragment too far out", 0, at + 2 - inb.l3)
    return stack.reasm6.add(inb, ident.to_bytes(4, "big"), offset, more, now)


def _accept6(stack: "Stack", src: bytes, dst: bytes, link: Link, looped: bool) -> int | None:
    """As `_accept4`; a v4-mapped address on the wire is a trick (Linux drops it too)."""
    mib, local = stack.mib, stack.routes.local
    if src[0] == 0xFF or src[:12] == _MAPPED or dst[:12] == _MAPPED:
        mib.Ip6InHdrErrors += 1
        return None
    if not (link.loopback or looped) and (src in local or LOOPBACK6 in (src, dst)):
        mib.Ip6InAddrErrors += 1
        return None
    owner = local.get(dst)
    if owner is not None:
        if owner is not link and not link.loopback:
            mib.NuseInWrongLink += 1
            if stack.sysctl.strong_host:
                return None
        return UNICAST
    if dst[0] == 0xFF:
        mib.Ip6InMcastPkts += 1
        if stack.multicast.accepts(dst, None, link):  # sources are the endpoints' business, or queries would not arrive
            return MULTICAST
        mib.NuseInNotJoined += 1
        return None
    mib.Ip6InAddrErrors += 1
    return None


def _deliver6(stack: "Stack", inb: Inbound, now: Nanos) -> None:
    proto = inb.proto
    mib = stack.mib
    raw = stack.raw.count and stack.raw.deliver(inb)
    if not any(inb.src) and proto != ipv6.ICMP6:  # :: speaks neighbour discovery only
        mib.Ip6InAddrErrors += 1
    elif proto == ipv4.UDP:
        mib.Ip6InDelivers += 1
        stack.udp.receive(inb, now)
    elif proto == ipv6.ICMP6:
        mib.Ip6InDelivers += 1
        stack.icmp.receive6(inb, now)
    elif proto == ipv4.TCP:
        mib.Ip6InDelivers += 1
        _deliver_tcp(stack, inb, now)
    elif raw:
        mib.Ip6InDelivers += 1
    elif proto != ipv6.NO_NEXT:
        mib.Ip6InUnknownProtos += 1
        stack.icmp.param_problem6(inb, ipv6.Refused("unknown protocol", 1, inb.nxt_at - inb.l3), now)
