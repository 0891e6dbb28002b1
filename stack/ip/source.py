"""Source address selection: which own address a packet bears whose sender did not choose, RFC 6724 §5.

Rules 1 (same address), 2 (scope), 3 (deprecated), 5 (outgoing link), 6 (label), 7 (temporary) and 8 (longest prefix).
Rule 4 is about Mobile IPv6, rule 5.5 about routers that advertise prefixes: neither exists here. Candidates
are all own addresses, but for link-local and multicast destinations those of the outgoing link only (§4).

IPv4 as Linux: the first address of the outgoing link whose prefix holds the destination, else that link's first, else
any other link's.
"""

import errno
from collections.abc import Iterable

from stack.errors import StackError
from stack.ip.addr import common_bits, show_addr
from stack.ip.link import Link

LINK_LOCAL, SITE, GLOBAL = 2, 5, 14  # scopes as in a multicast address, §3.1

# The default policy table, §2.1: prefix, its length, label; the longest match counts.
_POLICY = (
    (bytes(15) + b"\x01", 128, 0),
    (bytes(10) + b"\xff\xff" + bytes(4), 96, 4),
    (bytes(16), 96, 3),
    (b"\x20\x01" + bytes(14), 32, 5),
    (b"\x20\x02" + bytes(14), 16, 2),
    (b"\x3f\xfe" + bytes(14), 16, 12),
    (b"\xfe\xc0" + bytes(14), 10, 11),
    (b"\xfc" + bytes(15), 7, 13),
    (bytes(16), 0, 1),
)


def scope(addr: bytes) -> int:
    """The scope of an IPv6 address, §3.1; ::1 counts as link-local (§3.4)."""
    if addr[0] == 0xFF:
        return addr[1] & 0xF
    if (addr[0] == 0xFE and addr[1] & 0xC0 == 0x80) or addr == _POLICY[0][0]:
        return LINK_LOCAL
    return SITE if addr[0] == 0xFE and addr[1] & 0xC0 == 0xC0 else GLOBAL


def label(addr: bytes) -> int:
    """The label of an IPv6 address in the default policy table."""
    return next(number for prefix, length, number in _POLICY if common_bits(addr, prefix) >= length)


def choose(links: Iterable[Link], out: Link, dst: bytes) -> bytes:
    """The source for `dst` over `out`. Raises StackError ENETUNREACH if there is no address of that family."""
    family = len(dst)
    found = [
        (addr, length, link)
        for link in links
        if not link.loopback
        for addr, length in link.addrs
        if len(addr) == family
    ]
    if not found:
        raise StackError(errno.ENETUNREACH, f"no address to reach {show_addr(dst)} from")
    if family == 4:
        return max(found, key=lambda each: (each[2] is out, common_bits(each[0], dst) >= each[1]))[0]
    wanted, wanted_label = scope(dst), label(dst)
    if dst[0] == 0xFF or wanted <= LINK_LOCAL:
        found = [each for each in found if each[2] is out] or found

    def rank(each: tuple[bytes, int, Link]) -> tuple[bool, int, bool, bool, bool, bool, int]:
        addr, length, link = each
        mine = scope(addr)
        return (
            addr == dst,
            -mine if mine >= wanted else mine - 32,  # the smallest that is large enough, else the largest
            addr not in link.deprecated,
            link is out,
            label(addr) == wanted_label,
            addr in link.temporary,
            min(common_bits(addr, dst), length),
        )

    return max(found, key=rank)[0]
