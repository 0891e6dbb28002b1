"""The IPv6 header and the walk along its extension headers, RFC 8200."""

from dataclasses import dataclass
from struct import Struct

from stack.errors import Malformed

HOP_BY_HOP, ROUTING, FRAGMENT, ICMP6, NO_NEXT, DEST_OPTS = 0, 43, 44, 58, 59, 60

IPV6 = Struct("!IHBB16s16s")  # version, class and flow label, payload length, next header, hop limit, addresses
IPV6_LEN = 40
IPV6_MIN_MTU = 1280
PAYLOAD_LENGTH, NEXT_HEADER, SRC, DST, PAYLOAD = 4, 6, 8, 24, 40

FRAG_HDR = Struct("!BBHI")  # next header, reserved, offset and M, identification
FRAG_HDR_LEN = 8

MAX_HEADERS = 8  # extension headers we are willing to walk; real packets carry one or two
_PAD1, _PADN, _ROUTER_ALERT = 0, 1, 5


class Refused(Malformed):
    """A packet that RFC 8200 wants answered with Parameter Problem `code`, `pointer` counted from the IPv6 header."""

    def __init__(self, why: str, code: int, pointer: int, *, even_multicast: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.pointer = pointer
        self.even_multicast = even_multicast


@dataclass(slots=True, eq=False)
class Chain:
    """Where the extension headers led: the upper-layer protocol, or a fragment header to take care of first."""

    proto: int
    l4: int  # offset in the buffer
    nxt_at: int  # offset of the next-header field that named `proto`
    frag: int = 0  # offset of the fragment header that stopped the walk, 0 for none


def emit_ipv6(length: int, proto: int, src: bytes, dst: bytes, *, hops: int, tos: int = 0, flow: int = 0) -> bytes:
    """A 40-byte header for `length` bytes of payload, extension headers included."""
    return IPV6.pack(6 << 28 | tos << 20 | flow, length, proto, hops, src, dst)


def emit_fragment(proto: int, offset: int, more: bool, ident: int) -> bytes:
    """A fragment header; `offset` in bytes, a multiple of 8."""
    return FRAG_HDR.pack(proto, 0, offset | more, ident)


def walk(buf: bytes, l3: int, end: int, *, after: int = 0, nxt_at: int = 0) -> Chain:
    """Follow the extension headers of the packet at `buf[l3:end]` up to the payload or a fragment header.

    RFC 8200 §4. With `after` the walk begins there, at the header that the byte at `nxt_at` names: behind an atomic
    fragment's header. Raises Refused for what must be answered, Malformed for what must not.
    """
    nxt_at = nxt_at or l3 + NEXT_HEADER
    at = after or l3 + IPV6_LEN
    for _ in range(MAX_HEADERS):
        proto = buf[nxt_at]
        if proto not in (HOP_BY_HOP, DEST_OPTS, ROUTING, FRAGMENT):
            return Chain(proto, at, nxt_at)
        if at + 8 > end:
            raise Malformed("IPv6 extension header cut short")
        if proto == FRAGMENT:
            return Chain(proto, at, nxt_at, frag=at)
        length = (buf[at + 1] + 1) * 8
        if at + length > end:
            raise Malformed("IPv6 extension header cut short")
        if proto == ROUTING:
            if buf[at + 3]:  # segments left: we are no waypoint, and type 0 is dead (RFC 5095 §3)
                raise Refused("routing header", 0, at + 2 - l3)
        elif proto == HOP_BY_HOP and nxt_at != l3 + NEXT_HEADER:
            raise Refused("hop-by-hop options not in first place", 1, nxt_at - l3)
        else:
            _check_options(buf, l3, at + 2, at + length)
        nxt_at, at = at, at + length
    raise Malformed("too many IPv6 extension headers")


# What a first fragment must at least hold of its upper layer; one byte of others, as Linux (ipv6frag_thdr_truncated).
_UPPER = {6: 20, 17: 8, ICMP6: 8}


def chain_complete(buf: bytes, frag: int, end: int) -> bool:
    """False if the fragment at `buf[:end]`, whose fragment header lies at `frag`, ends before its header chain does."""
    proto, at = buf[frag], frag + FRAG_HDR_LEN
    while proto in (HOP_BY_HOP, DEST_OPTS, ROUTING):
        if at + 2 > end:
            return False
        proto, at = buf[at], at + (buf[at + 1] + 1) * 8
    return at + _UPPER.get(proto, 1) <= end


def _check_options(buf: bytes, l3: int, at: int, end: int) -> None:
    """Skip the options we need not understand; the two high bits say what becomes of the others, RFC 8200 §4.2."""
    while at < end:
        kind = buf[at]
        if kind == _PAD1:
            at += 1
            continue
        if at + 2 > end or at + 2 + buf[at + 1] > end:
            raise Malformed("IPv6 option cut short")
        if kind not in (_PADN, _ROUTER_ALERT) and kind >> 6:
            if kind >> 6 == 1:
                raise Malformed("unknown IPv6 option")
            raise Refused("unknown IPv6 option", 2, at - l3, even_multicast=kind >> 6 == 2)
        at += 2 + buf[at + 1]
