"""Reassembly of fragments, RFC 791 §3.2 and RFC 8200 §4.5.

One table per IP version, in order of arrival, hence of expiry. Bounded by bytes held, each fragment charged for its
overhead too; when full the oldest datagram goes, so that a flood of orphans cannot starve the fragments that follow.
Any overlap kills the whole datagram (RFC 5722; Linux does the same for IPv4), except an exact repetition, which is
ignored. What expires with its first fragment present is reported (RFC 792, RFC 4443 §3.3).
"""

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stack.errors import InvariantBroken
from stack.ip.inbound import Inbound
from stack.units import SEC, Nanos
from stack.wire import ipv6
from stack.wire.icmp import REASSEMBLY, TIME_EXCEEDED, TIME_EXCEEDED6
from stack.wire.vnet import VNET_LEN, VNET_NONE

if TYPE_CHECKING:
    from stack.host import Stack

SOURCES = 4096  # whose fragments are counted
OVERHEAD = 256  # what we charge for holding one fragment, beside its bytes


@dataclass(slots=True, eq=False)
class Partial:
    """A datagram of which something is missing."""

    expires: Nanos
    starts: list[int] = field(default_factory=list)  # sorted
    pieces: list[memoryview] = field(default_factory=list)  # in the order of `starts`
    held: int = 0  # payload bytes
    charge: int = 0
    total: int = -1  # payload bytes of the whole, once the last fragment came
    first: Inbound | None = None  # the fragment with offset 0
    serial: int = 0  # which of its source's fragments came last
    ecn: int = 0  # bit 1 << codepoint for each one seen


class Reassembler:
    """All incomplete datagrams of one IP version."""

    def __init__(self, stack: "Stack", *, v6: bool) -> None:
        self._stack = stack
        self._v6 = v6
        self._partials: dict[bytes, Partial] = {}
        self._charge = 0
        self._serials: dict[bytes, int] = {}  # fragments per source

    def __len__(self) -> int:
        return len(self._partials)

    def add(self, inb: Inbound, ident: bytes, offset: int, more: bool, now: Nanos) -> Inbound | None:
        """Take a fragment; the whole datagram if it was the last one missing."""
        self._count("ReasmReqds")
        at = inb.l4 + (ipv6.FRAG_HDR_LEN if self._v6 else 0)
        size = inb.end - at
        header = at - inb.l3  # IPv4 counts it into the datagram's length, IPv6 checked before
        if not size or (more and size % 8) or (not self._v6 and header + offset + size > 0xFFFF):
            self._count("ReasmFails")
            return None
        key = inb.src + inb.dst + ident + (b"" if self._v6 else inb.proto.to_bytes(1, "big"))
        partial = self._partials.get(key)
        if partial is None:
            seconds = self._stack.sysctl.ip6frag_time if self._v6 else self._stack.sysctl.ipfrag_time
            partial = self._partials[key] = Partial(now + seconds * SEC)
        elif self._too_far(partial, inb.src):
            self._count("ReasmFails")
            self._drop(key)
            partial = self._partials[key] = Partial(partial.expires)
        partial.serial = self._serial(inb.src)
        if not self._insert(partial, memoryview(inb.pkt)[at : inb.end], offset, more, len(inb.pkt)):
            self._drop(key)
            self._count("ReasmFails")
            return None
        partial.ecn |= 1 << (inb.tos & 3)
        if not offset:
            partial.first = partial.first or inb
        if partial.first is None or partial.held != partial.total:
            self._make_room(key)
            return None
        self._drop(key)
        return self._join(partial, partial.first)

    def _serial(self, src: bytes) -> int:
        if src not in self._serials and len(self._serials) >= SOURCES:
            del self._serials[next(iter(self._serials))]
        serial = self._serials[src] = self._serials.get(src, 0) + 1
        return serial

    def _too_far(self, partial: Partial, src: bytes) -> bool:
        """Linux's ip_frag_too_far: so many others came from there that the 16-bit identification may be used again."""
        most = 0 if self._v6 else self._stack.sysctl.ipfrag_max_dist
        return bool(most) and bool(partial.starts) and self._serials.get(src, 0) + 1 - partial.serial > most

    def _insert(self, partial: Partial, piece: memoryview, start: int, more: bool, packet: int) -> bool:
        """False if the fragment contradicts the others. O(log n), and a list insert of at most 8192.

        What we hold is the whole packet of `packet` bytes, so that is charged: its tail may be padding.
        """
        end = start + len(piece)
        starts, pieces = partial.starts, partial.pieces
        i = bisect_left(starts, start)
        if i < len(starts) and starts[i] == start and len(pieces[i]) == len(piece):
            return more == (end != partial.total)
        if i and starts[i - 1] + len(pieces[i - 1]) > start:
            return False
        if i < len(starts) and (starts[i] < end or not more):
            return False
        if not more:
            if partial.total >= 0:
                return False
            partial.total = end
        elif 0 <= partial.total < end:
            return False
        starts.insert(i, start)
        pieces.insert(i, piece)
        partial.held += len(piece)
        partial.charge += packet + OVERHEAD
        self._charge += packet + OVERHEAD
        return True

    def _join(self, partial: Partial, first: Inbound) -> Inbound | None:
        ecn = partial.ecn
        if ecn & 0b1001 == 0b1001:  # CE among packets that are not ECN-capable, RFC 3168 §5.3
            self._count("ReasmFails")
            return None
        tos = first.tos | 3 if ecn & 0b1000 else first.tos
        pkt, l4 = self._header(partial, first, tos)
        pkt += b"".join(partial.pieces)
        if len(pkt) - VNET_LEN - (ipv6.IPV6_LEN if self._v6 else 0) > 0xFFFF:
            self._count("ReasmFails")
            return None
        self._count("ReasmOKs")
        return replace(first, pkt=pkt, l4=l4, end=len(pkt), tos=tos, csum_ok=first.link.loopback and first.csum_ok)

    def _header(self, partial: Partial, first: Inbound, tos: int) -> tuple[bytes, int]:
        """vnet and IP header as if the datagram had never been cut, and where the payload starts."""
        front = bytearray(first.pkt[first.l3 : first.l4])
        if self._v6:
            # The header before the fragment header must name what the fragment header named.
            front[first.nxt_at - first.l3] = first.pkt[first.l4]
            length = len(front) - ipv6.IPV6_LEN + partial.total
            front[0:2] = (6 << 12 | tos << 4 | front[1] & 0xF).to_bytes(2, "big")
            front[4:6] = (length & 0xFFFF).to_bytes(2, "big")
        else:
            front[1] = tos
            front[2:4] = (len(front) + partial.total).to_bytes(2, "big")
            front[6:8] = b"\0\0"
        return VNET_NONE + bytes(front), VNET_LEN + len(front)

    # --- bounds and time

    def _make_room(self, key: bytes) -> None:
        """Drop the oldest datagrams until what is held fits, `key` (the newest fragment's) last of all."""
        while self._charge > self._limit():
            oldest = next((each for each in self._partials if each != key), key)
            self._drop(oldest)
            self._count("ReasmFails")
            self._stack.mib.NuseReasmEvicted += 1

    def _limit(self) -> int:
        sysctl = self._stack.sysctl
        return sysctl.ip6frag_high_thresh if self._v6 else sysctl.ipfrag_high_thresh

    def _drop(self, key: bytes) -> None:
        self._charge -= self._partials.pop(key).charge

    def poll_timeout(self) -> Nanos | None:
        """When the oldest datagram expires."""
        for partial in self._partials.values():
            return partial.expires
        return None

    def handle_timeout(self, now: Nanos) -> None:
        """Give up on what waited too long, and say so if the first fragment can be quoted."""
        while self._partials:
            key, partial = next(iter(self._partials.items()))
            if partial.expires > now:
                return
            self._drop(key)
            self._count("ReasmTimeout")
            self._count("ReasmFails")
            if partial.first is not None and self._v6:
                self._stack.icmp.error6(partial.first, TIME_EXCEEDED6, REASSEMBLY, now)
            elif partial.first is not None:
                self._stack.icmp.error4(partial.first, TIME_EXCEEDED, REASSEMBLY, now)

    def _count(self, what: str) -> None:
        name = ("Ip6" if self._v6 else "Ip") + what
        setattr(self._stack.mib, name, getattr(self._stack.mib, name) + 1)

    def check(self) -> None:
        """The charge adds up, is bounded, and no two pieces overlap."""
        if self._charge != sum(p.charge for p in self._partials.values()):
            raise InvariantBroken("reassembly charge")
        if len(self._serials) > SOURCES:
            raise InvariantBroken(f"{len(self._serials)} sources of fragments")
        if self._charge > self._limit():
            raise InvariantBroken("reassembly table too large")
        for partial in self._partials.values():
            ends = [s + len(p) for s, p in zip(partial.starts, partial.pieces, strict=True)]
            if any(a > b for a, b in zip(ends, partial.starts[1:], strict=False)):
                raise InvariantBroken("overlap in a partial datagram")
