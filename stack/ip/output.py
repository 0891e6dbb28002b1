"""The way out for everything that is not TCP: header, fragments if need be, and into the outbox.

The outbox is a queue like a network card's: bounded, and what does not fit is dropped and counted, because nobody
above it waits. It drains with each `Stack.poll_transmit`. TCP builds its packets itself and only borrows the queue.
"""

import errno
from typing import TYPE_CHECKING

from stack.checksum import finish, ones_sum
from stack.errors import StackError
from stack.ip.route import Route
from stack.wire import ipv4, ipv6
from stack.wire.vnet import GSO_UDP_L4, NEEDS_CSUM, VNET, VNET_NONE

if TYPE_CHECKING:
    from stack.host import Stack

OUTBOX_LIMIT = 10000  # packets; the queue length we also set on the device


def transport_sum(proto: int, route: Route, dst: bytes, header: bytes, data: bytes | memoryview) -> int:
    """The checksum of a transport header whose own field is zero, with payload `data`, in software."""
    total = ipv4.pseudo_sum(route.src, dst, proto, len(header) + len(data))
    return finish(total + ones_sum(header) + ones_sum(data))


def partial_sum(proto: int, route: Route, dst: bytes, length: int) -> int:
    """What the checksum field holds when NEEDS_CSUM leaves the rest to the device: the folded pseudo-header sum."""
    return ipv4.pseudo_sum(route.src, dst, proto, length) % 0xFFFF


def csum_offloaded(route: Route, dst: bytes, length: int) -> bool:
    """True if a transport packet of `length` bytes leaves in one piece on a link that completes checksums."""
    return route.link.offload and length + (20 if len(dst) == 4 else 40) <= route.mtu


def send(
    stack: "Stack",
    route: Route,
    dst: bytes,
    proto: int,
    header: bytes,
    data: bytes | memoryview = b"",
    *,
    ttl: int = -1,
    tos: int = 0,
    df: bool = False,
    csum_offset: int = 0,
    flow: int = 0,
    segment: int = 0,
) -> bool:
    """Queue `header` + `data` for `dst`, in fragments where they exceed the path; False if the outbox was full.

    With `csum_offset` the packet leaves the rest of its checksum to the device; ask `csum_offloaded` before. With `df`
    an IPv4 packet that fits bears DF, one that does not is cut here (IP_PMTUDISC_WANT). With `segment` it is a
    UDP super-datagram, which the device cuts. Raises EMSGSIZE.
    """
    length = len(header) + len(data)
    ttl = stack.sysctl.ip_default_ttl if ttl < 0 else ttl
    v4 = len(dst) == 4
    if length + (20 if v4 else 0) > 0xFFFF:
        raise StackError(errno.EMSGSIZE, f"{length} bytes are no datagram")
    if v4:
        stack.mib.IpOutRequests += 1
        if length + 20 > route.mtu and not segment:
            return _fragment4(stack, route, dst, proto, header, data, ttl, tos)
        # An unfragmentable packet needs no identity (RFC 6864 §4.1); others get one that nobody can guess.
        flags = ipv4.DF if df else 0
        ident = 0 if df and not segment else stack.entropy.u16()
        ip = ipv4.emit_ipv4(length, proto, route.src, dst, ttl=ttl, tos=tos, ident=ident, flags=flags)
    else:
        stack.mib.Ip6OutRequests += 1
        if length + 40 > route.mtu and not segment:
            return _fragment6(stack, route, dst, proto, header, data, ttl, tos, flow)
        ip = ipv6.emit_ipv6(length, proto, route.src, dst, hops=ttl, tos=tos, flow=flow)
    if segment:
        vnet = VNET.pack(NEEDS_CSUM, GSO_UDP_L4, len(ip) + len(header), segment, len(ip), csum_offset)
    elif csum_offset:
        vnet = VNET.pack(NEEDS_CSUM, 0, 0, 0, len(ip), csum_offset)
    else:
        vnet = VNET_NONE
    return queue(stack, route, vnet + ip + header, data)


def queue(stack: "Stack", route: Route, head: bytes, data: bytes | memoryview) -> bool:
    """Put a finished packet into the outbox; False if it was full.

    What goes to all is also for those on this host who listen on that link, and with a TTL of 0 for them alone.
    """
    if len(stack.outbox) >= OUTBOX_LIMIT:
        stack.mib.NuseOutboxDrops += 1
        route.link.stats.tx_dropped += 1
        return False
    packet = (head, data) if len(data) else (head,)
    if route.many:
        if route.looped:
            stack.looped.append((route.link, packet))
        if not head[18 if head[10] >> 4 == 4 else 17]:
            return True
    stack.outbox.append((route.link, packet))
    return True


def _pieces(size: int, total: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def _fragment4(
    stack: "Stack", route: Route, dst: bytes, proto: int, header: bytes, data: bytes | memoryview, ttl: int, tos: int
) -> bool:
    """RFC 791 §3.2. The transport header rides in the first piece."""
    body = memoryview(header + bytes(data))
    ident = stack.entropy.u16()
    for start, end in _pieces(route.mtu - 20 & ~7, len(body)):
        flags = start >> 3 | (ipv4.MF if end < len(body) else 0)
        ip = ipv4.emit_ipv4(end - start, proto, route.src, dst, ttl=ttl, tos=tos, ident=ident, flags=flags)
        if not queue(stack, route, VNET_NONE + ip, body[start:end]):
            stack.mib.IpFragFails += 1
            return False
        stack.mib.IpFragCreates += 1
    stack.mib.IpFragOKs += 1
    return True


def _fragment6(
    stack: "Stack",
    route: Route,
    dst: bytes,
    proto: int,
    header: bytes,
    data: bytes | memoryview,
    ttl: int,
    tos: int,
    flow: int,
) -> bool:
    """RFC 8200 §4.5; the identification is random, RFC 7739 §5.1."""
    body = memoryview(header + bytes(data))
    ident = stack.entropy.u32()
    for start, end in _pieces(route.mtu - 48 & ~7, len(body)):
        ip = ipv6.emit_ipv6(end - start + 8, ipv6.FRAGMENT, route.src, dst, hops=ttl, tos=tos, flow=flow)
        frag = ipv6.emit_fragment(proto, start, end < len(body), ident)
        if not queue(stack, route, VNET_NONE + ip + frag, body[start:end]):
            stack.mib.Ip6FragFails += 1
            return False
        stack.mib.Ip6FragCreates += 1
    stack.mib.Ip6FragOKs += 1
    return True
