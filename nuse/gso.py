"""Cut a super-segment into the packets that a network card would put on the wire.

What tcp_gso_segment and udp_gso_segment of Linux do: same headers on each, IP id and sequence number counting up, CWR
on the first only, FIN and PSH on the last only, every checksum complete. Needed where packets are judged one by one
(nuse/impair.py) or read by people (capture); never on the fast path.
"""

import struct
from collections.abc import Iterator, Sequence

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


def tcp_checksum_ok(packet: bytes, l4: int) -> bool:
    """Is the checksum of a TCP packet with vnet header right? `l4` is where TCP begins."""
    addresses = packet[22:30] if packet[VNET_LEN] >> 4 == 4 else packet[18:50]
    total = ones_sum(memoryview(packet)[l4:]) + ones_sum(addresses) + PROTO_TCP + len(packet) - l4
    return total % 0xFFFF == 0


def cut_for_writev(iovec: Sequence[bytes | bytearray | memoryview]) -> Iterator[tuple[bytearray, memoryview]] | None:
    """The wire packets of a TCP super-segment as (header, payload) pairs for writev; None if it is something else.

    The same as `wire_packets` in half the time, for links whose device does not cut: sums over what the pieces have in
    common are taken once, and the payload is not copied again. The header is reused for the next piece.
    """
    flags, gso_type, _, size, start, _ = VNET.unpack_from(iovec[0])
    if gso_type & ~GSO_ECN not in (GSO_TCPV4, GSO_TCPV6) or not flags & NEEDS_CSUM or not size:
        return None
    return _cut_in_place(b"".join(iovec), VNET_LEN + start, size)


def _cut_in_place(packet: bytes, l4: int, size: int) -> Iterator[tuple[bytearray, memoryview]]:
    v4 = packet[VNET_LEN] >> 4 == 4
    data_at = l4 + (packet[l4 + TCP_OFFSET] >> 4) * 4
    view = memoryview(packet)
    header = bytearray(packet[:data_at])
    header[:VNET_LEN] = VNET_NONE
    (seq,) = U32.unpack_from(header, l4 + TCP_SEQ)
    (ident,) = U16.unpack_from(header, VNET_LEN + 4)
    offset_and_flags = U16.unpack_from(header, l4 + TCP_OFFSET)[0]
    for at, width in ((TCP_SEQ, U32), (TCP_OFFSET, U16), (TCP_CSUM, U16)):
        width.pack_into(header, l4 + at, 0)
    tcp_sum = ones_sum(header[l4:]) + PROTO_TCP + ones_sum(packet[22:30] if v4 else packet[18:50])
    if v4:
        U32.pack_into(header, VNET_LEN + 2, 0)  # length and identification, which differ
        U16.pack_into(header, VNET_LEN + 10, 0)
        ip_sum = ones_sum(header[VNET_LEN:l4])
    end = len(packet)
    for at in range(data_at, end, size):
        stop = min(at + size, end)
        bits = offset_and_flags
        if at != data_at:
            bits &= ~CWR
        if stop != end:
            bits &= ~(FIN | PSH)
        length = stop - at + data_at - l4
        payload = view[at:stop]
        total = tcp_sum + length + bits + (seq >> 16) + (seq & 0xFFFF) + ones_sum(payload)
        U32.pack_into(header, l4 + TCP_SEQ, seq)
        U16.pack_into(header, l4 + TCP_OFFSET, bits)
        U16.pack_into(header, l4 + TCP_CSUM, finish(total))
        length += l4 - VNET_LEN
        if v4:
            U16.pack_into(header, VNET_LEN + 2, length)
            U16.pack_into(header, VNET_LEN + 4, ident)
            U16.pack_into(header, VNET_LEN + 10, finish(ip_sum + length + ident))
            ident = ident + 1 & 0xFFFF
        else:
            U16.pack_into(header, VNET_LEN + 4, length - 40)
        yield header, payload
        seq = seq + size & 0xFFFF_FFFF


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
            cut = _cut_in_place(packet, VNET_LEN + start, gso_size)
            return [b"".join((vnet, memoryview(header)[VNET_LEN:], payload)) for header, payload in cut]
        if kind == GSO_UDP_L4 and gso_size:
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
