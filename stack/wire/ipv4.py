"""The IPv4 header, RFC 791, and the pseudo-header that UDP and TCP sum in both families."""

from struct import Struct

from stack.checksum import finish, ones_sum

ICMP, TCP, UDP = 1, 6, 17  # protocol numbers; ICMPv6 is 58, see wire.ipv6

IPV4 = Struct("!BBHHHBBH4s4s")  # version and IHL, TOS, total length, ident, flags and offset, TTL, protocol, checksum
IPV4_LEN = 20
SRC, DST, PAYLOAD = 12, 16, 20  # offsets in a header without options

DF = 0x4000
MF = 0x2000
FRAGMENT = 0x3FFF  # MF and the offset: zero for a datagram in one piece
OFFSET = 0x1FFF  # in units of 8 bytes

_NO_SUM = Struct("!BBHHHBB")


def emit_ipv4(
    length: int, proto: int, src: bytes, dst: bytes, *, ttl: int, tos: int = 0, ident: int = 0, flags: int = 0
) -> bytes:
    """A 20-byte header with its checksum, for `length` bytes of payload; `flags` are DF, MF and the offset."""
    front = _NO_SUM.pack(0x45, tos, IPV4_LEN + length, ident, flags, ttl, proto)
    addrs = src + dst
    return front + finish(ones_sum(front) + ones_sum(addrs)).to_bytes(2, "big") + addrs


def pseudo_sum(src: bytes, dst: bytes, proto: int, length: int) -> int:
    """Sum of the pseudo-header, RFC 768 and RFC 8200 §8.1: the two layouts differ, their sums do not."""
    return ones_sum(src + dst) + proto + length
