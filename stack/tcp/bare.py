"""Segments without a connection and without text: RST from CLOSED, SYN-ACK of a request, ACK of TIME-WAIT."""

from stack.checksum import finish, ones_sum
from stack.seq import MASK32
from stack.tcp.packet import DF, IP4, IP6, TCP
from stack.wire.tcp import ACK, FIN, RST, SYN, Segment
from stack.wire.vnet import NEEDS_CSUM, VNET, VNET_NONE


def build_bare(
    key: bytes,
    seq: int,
    ack: int,
    flags: int,
    *,
    wnd: int = 0,
    options: bytes = b"",
    offload: bool,
    ttl: int,
    tos: int = 0,
    label: int = 0,
    ident: int = 0,
) -> bytes:
    """The whole packet, to whom the flow key names as the source."""
    size = (len(key) - 4) // 2
    dst, src = key[:size], key[size:-4]
    dport, sport = int.from_bytes(key[-4:-2], "big"), int.from_bytes(key[-2:], "big")
    length = 20 + len(options)
    addresses = ones_sum(dst) + ones_sum(src)
    pseudo = (addresses + 6 + length) % 0xFFFF
    tcp = TCP.pack(sport, dport, seq & MASK32, ack & MASK32, length << 10 | flags, wnd, pseudo, 0) + options
    if not offload:
        tcp = tcp[:16] + finish(ones_sum(tcp)).to_bytes(2, "big") + tcp[18:]
    if size == 16:
        network = IP6.pack(6 << 28 | tos << 20 | label, length, 6, ttl, src, dst)
    else:
        words = 0x4500 + tos + 20 + length + ident + DF + (ttl << 8 | 6) + addresses
        network = IP4.pack(0x45, tos, 20 + length, ident, DF, ttl, 6, finish(words), src, dst)
    vnet = VNET.pack(NEEDS_CSUM, 0, 0, 0, len(network), 16) if offload else VNET_NONE
    return vnet + network + tcp


def reset_numbers(seg: Segment) -> tuple[int, int, int]:
    """(seq, ack, flags) of the RST that answers a segment, RFC 9293 §3.10.7.1."""
    if seg.flags & ACK:
        return seg.ack & MASK32, 0, RST
    length = seg.length + (1 if seg.flags & SYN else 0) + (1 if seg.flags & FIN else 0)
    return 0, (seg.seq + length) & MASK32, RST | ACK
