"""Cut a super-segment into the packets that a network card would put on the wire.

What tcp_gso_segment and udp_gso_segment of Linux do: same headers on each, IP id and sequence number counting up, CWR
on the first only, FIN and PSH on the last only, every checksum complete. Needed where packets are judged one by one
(nuse/impair.py) or read by people (capture); never on the fast path.
"""

import struct

from stack.checksum import finish, ones_sum
from stack.wire.vnet import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    VNET,
    VNET_LEN,
    VNET_NONE,
)

VNET_VOUCHED = VNET.pack(DATA_VALID, GSO_NONE, 0, 0, 0, 0)

PROTO_TCP, PROTO_UDP = 6, 17
TCP_SEQ, TCP_OFFSET, TCP_FLAGS, TCP_CSUM = 4, 12, 13, 16
UDP_LENGTH, UDP_CSUM, UDP_HEADER = 4, 6, 8
FIN, PSH, CWR = 0x01, 0x08, 0x80
U16, U32 = struct.Struct("!H"), struct.Struct("!I")


def wire_packets(packet: bytes, *, vouch: bool = False) -> list[bytes]:
    """The wire packets of one packet with vnet header, each with a vnet header of its own.

    `vouch`: mark what had a checksum to be completed as verified (DATA_VALID), as a card does on receive; else the
    vnet header is zero. A packet that needs nothing comes back as it is; so does one that is too broken to cut, with
    a zero vnet header.
    """
    flags, gso_type, _, gso_size, start, offset = VNET.unpack_from(packet)
    kind = gso_type & ~GSO_ECN
    if not flags & NEEDS_CSUM and kind == GSO_NONE:
        return [packet]
    vnet = VNET_VOUCHED if vouch else VNET_NONE
    ip = packet[VNET_LEN:]
    try:
        if kind in (GSO_TCPV4, GSO_TCPV6) and gso_size:
            pieces = _cut_tcp(ip, start, gso_size)
        elif kind == GSO_UDP_L4 and gso_size:
            pieces = _cut_udp(ip, start, gso_size)
        else:
            pieces = [_complete(ip, start, offset)]
    except (struct.error, IndexError):
        return [VNET_NONE + ip]
    return [vnet + piece for piece in pieces]


def _complete(ip: bytes, start: int, offset: int) -> bytes:
    """Finish a checksum whose field holds the pseudo-header sum (NEEDS_CSUM)."""
    done = bytearray(ip)
    value = finish(ones_sum(ip[start:]))
    if not value and offset == UDP_CSUM:
        value = 0xFFFF
    U16.pack_into(done, start + offset, value)
    return bytes(done)


def _cut_tcp(ip: bytes, start: int, size: int) -> list[bytes]:
    header_end = start + (ip[start + TCP_OFFSET] >> 4) * 4
    header = bytearray(ip[start:header_end])
    (seq,) = U32.unpack_from(header, TCP_SEQ)
    flags = header[TCP_FLAGS]
    pieces: list[bytearray] = []
    for at in range(header_end, max(len(ip), header_end + 1), size):
        payload = ip[at : at + size]
        first, last = at == header_end, at + size >= len(ip)
        header[TCP_FLAGS] = flags & ~((0 if first else CWR) | (0 if last else FIN | PSH))
        U32.pack_into(header, TCP_SEQ, (seq + at - header_end) & 0xFFFF_FFFF)
        U16.pack_into(header, TCP_CSUM, 0)
        segment = bytearray(header) + payload
        U16.pack_into(segment, TCP_CSUM, finish(_pseudo(ip, PROTO_TCP, len(segment)) + ones_sum(segment)))
        pieces.append(_ip_header(ip[:start], len(segment), len(pieces)) + segment)
    return [bytes(piece) for piece in pieces]


def _cut_udp(ip: bytes, start: int, size: int) -> list[bytes]:
    header_end = start + UDP_HEADER
    header = bytearray(ip[start:header_end])
    pieces: list[bytearray] = []
    for at in range(header_end, max(len(ip), header_end + 1), size):
        datagram = bytearray(header) + ip[at : at + size]
        U16.pack_into(datagram, UDP_LENGTH, len(datagram))
        U16.pack_into(datagram, UDP_CSUM, 0)
        value = finish(_pseudo(ip, PROTO_UDP, len(datagram)) + ones_sum(datagram))
        U16.pack_into(datagram, UDP_CSUM, value or 0xFFFF)
        pieces.append(_ip_header(ip[:start], len(datagram), len(pieces)) + datagram)
    return [bytes(piece) for piece in pieces]


def _pseudo(ip: bytes, proto: int, length: int) -> int:
    """Sum of the pseudo-header, RFC 9293 §3.1 and RFC 8200 §8.1."""
    addresses = ip[12:20] if ip[0] >> 4 == 4 else ip[8:40]
    return ones_sum(addresses) + proto + length


def _ip_header(header: bytes, payload_len: int, index: int) -> bytearray:
    """The IP header, extension headers and all, of the `index`-th piece."""
    out = bytearray(header)
    if header[0] >> 4 == 4:
        U16.pack_into(out, 2, len(header) + payload_len)
        U16.pack_into(out, 4, (U16.unpack_from(header, 4)[0] + index) & 0xFFFF)
        U16.pack_into(out, 10, 0)
        U16.pack_into(out, 10, finish(ones_sum(out)))
    else:
        U16.pack_into(out, 4, len(header) - 40 + payload_len)
    return out


def mark_ce(packet: bytes) -> bytes | None:
    """The packet with Congestion Experienced set, RFC 3168 §5; None if its sender does not do ECN."""
    if len(packet) < VNET_LEN + 20:
        return None
    out = bytearray(packet)
    if packet[VNET_LEN] >> 4 == 4:
        if not packet[VNET_LEN + 1] & 3:
            return None
        out[VNET_LEN + 1] |= 3
        end = VNET_LEN + (packet[VNET_LEN] & 15) * 4
        U16.pack_into(out, VNET_LEN + 10, 0)
        U16.pack_into(out, VNET_LEN + 10, finish(ones_sum(out[VNET_LEN:end])))
    else:
        if not packet[VNET_LEN + 1] & 0x30:
            return None
        out[VNET_LEN + 1] |= 0x30
    return bytes(out)
