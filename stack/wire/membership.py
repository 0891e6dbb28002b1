"""Group membership messages: IGMPv3 (RFC 3376 §4), MLDv2 (RFC 3810 §5) and what their predecessors spoke.

The two protocols are one with different addresses: a query is parsed into the same `Query`, a report made of the same
`Record`s.
"""

from dataclasses import dataclass, field
from struct import Struct

from stack.checksum import finish, ones_sum
from stack.errors import Malformed
from stack.wire import ipv4, ipv6
from stack.wire.icmp import MLD2_REPORT

IGMP = 2  # protocol number

# IGMP message types
QUERY, REPORT1, REPORT2, LEAVE, REPORT3 = 0x11, 0x12, 0x16, 0x17, 0x22

# record types, both protocols
IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = 1, 2, 3, 4, 5, 6

ALL_HOSTS4, ALL_ROUTERS4, REPORTS4 = bytes((224, 0, 0, 1)), bytes((224, 0, 0, 2)), bytes((224, 0, 0, 22))
ALL_NODES6 = b"\xff\x02" + bytes(13) + b"\x01"
ALL_ROUTERS6 = b"\xff\x02" + bytes(13) + b"\x02"
REPORTS6 = b"\xff\x02" + bytes(13) + b"\x16"

ROUTER_ALERT4 = b"\x94\x04\0\0"  # RFC 2113
ROUTER_ALERT6 = b"\x3a\0\x05\x02\0\0\x01\0"  # hop-by-hop header before ICMPv6: RFC 2711, and PadN
TOS4 = 0xC0  # internetwork control, as Linux sends reports

RECORD = Struct("!BBH")  # type, words of auxiliary data, sources; then group and sources
_IGMP3 = Struct("!BBH4sBBH")  # type, code, checksum, group, S and QRV, QQIC, sources
_MLD2 = Struct("!BBHHH16sBBH")  # type, code, checksum, maximum response, reserved, group, S and QRV, QQIC, sources


@dataclass(slots=True, eq=False)
class Query:
    """A querier's question. `group` is empty for a general query."""

    version: int  # IGMP 1, 2, 3; MLD 1, 2
    group: bytes
    delay_ms: int  # the most that a response may wait
    robustness: int = 0  # 0: not said
    interval_s: int = 0
    sources: list[bytes] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Record:
    """One group record of a report."""

    kind: int
    group: bytes
    sources: list[bytes]

    def emit(self) -> bytes:
        """Its bytes."""
        return RECORD.pack(self.kind, 0, len(self.sources)) + self.group + b"".join(self.sources)


def _code(value: int) -> int:
    """The 8-bit floating point of RFC 3376 §4.1.1 and §4.1.7."""
    return value if value < 128 else (value & 0xF | 0x10) << (value >> 4 & 7) + 3


def _sources(data: bytes | memoryview, at: int, count: int, size: int) -> list[bytes]:
    if at + count * size > len(data):
        raise Malformed("a query with fewer sources than it says")
    return [bytes(data[i : i + size]) for i in range(at, at + count * size, size)]


def parse_query4(data: bytes | memoryview) -> Query:
    """An IGMP query, checksum verified; length and code tell its version (RFC 3376 §7.1). Raises Malformed."""
    if len(data) == 8:
        code, group = data[1], bytes(data[4:8])
        group = group if any(group) else b""
        return Query(2, group, code * 100) if code else Query(1, group, 10_000)
    if len(data) < _IGMP3.size:
        raise Malformed("IGMP query cut short")
    _type, code, _csum, group, s_qrv, qqic, count = _IGMP3.unpack_from(data)
    sources = _sources(data, _IGMP3.size, count, 4)
    return Query(3, group if any(group) else b"", max(_code(code), 1) * 100, s_qrv & 7, _code(qqic), sources)


def parse_query6(data: bytes | memoryview) -> Query:
    """An MLD query, its checksum verified; MLDv1's has 24 bytes (RFC 3810 §8.1). Raises Malformed."""
    if len(data) == 24:
        group = bytes(data[8:24])
        return Query(1, group if any(group) else b"", int.from_bytes(data[4:6], "big"))
    if len(data) < _MLD2.size:
        raise Malformed("MLD query cut short")
    _type, _unused, _csum, delay, _reserved, group, s_qrv, qqic, count = _MLD2.unpack_from(data)
    if delay >= 0x8000:  # RFC 3810 §5.1.3
        delay = (delay & 0xFFF | 0x1000) << (delay >> 12 & 7) + 3
    sources = _sources(data, _MLD2.size, count, 16)
    return Query(2, group if any(group) else b"", max(delay, 1), s_qrv & 7, _code(qqic), sources)


def emit_report4(records: list[Record]) -> bytes:
    """An IGMPv3 report."""
    return igmp(REPORT3, bytes(2) + len(records).to_bytes(2, "big") + b"".join([each.emit() for each in records]))


def igmp(kind: int, rest: bytes) -> bytes:
    """An IGMP message of any kind around what follows its checksum."""
    body = bytes((kind, 0, 0, 0)) + rest
    return body[:2] + finish(ones_sum(body)).to_bytes(2, "big") + rest


def packet4(src: bytes, dst: bytes, message: bytes) -> bytes:
    """IPv4 as RFC 3376 §4 wants it: TTL 1, router alert, precedence internetwork control."""
    plain = ipv4.emit_ipv4(len(message) + 4, IGMP, src, dst, ttl=1, tos=TOS4, flags=ipv4.DF)
    head = b"\x46" + plain[1:10] + b"\0\0" + plain[12:] + ROUTER_ALERT4
    return head[:10] + finish(ones_sum(head)).to_bytes(2, "big") + head[12:] + message


def packet6(src: bytes, dst: bytes, message: bytes) -> bytes:
    """IPv6 with the router alert, hop limit 1, and the checksum of `message` filled in (RFC 3810 §5)."""
    total = ipv4.pseudo_sum(src, dst, ipv6.ICMP6, len(message)) + ones_sum(message)
    message = message[:2] + finish(total).to_bytes(2, "big") + message[4:]
    return ipv6.emit_ipv6(len(message) + 8, ipv6.HOP_BY_HOP, src, dst, hops=1) + ROUTER_ALERT6 + message


def emit_report6(records: list[Record]) -> bytes:
    """An MLDv2 report, its checksum left to `packet6`."""
    head = bytes((MLD2_REPORT, 0, 0, 0, 0, 0)) + len(records).to_bytes(2, "big")
    return head + b"".join([each.emit() for each in records])


def emit_mld1(kind: int, group: bytes) -> bytes:
    """An MLDv1 report or done, RFC 2710 §3."""
    return bytes((kind,)) + bytes(7) + group
