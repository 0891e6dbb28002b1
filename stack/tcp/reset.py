"""RST without a connection, RFC 9293 §3.10.7.1: built from the segment that it answers."""

from stack.checksum import finish, ones_sum
from stack.seq import MASK32
from stack.tcp.output import DF, IP4, IP6, TCP
from stack.wire.tcp import ACK, FIN, RST, SYN, Segment
from stack.wire.vnet import NEEDS_CSUM, VNET, VNET_NONE


def build_reset(key: bytes, seg: Segment, offload: bool, ttl: int) -> bytes:
    """The whole packet: its sequence number is what the segment acknowledges, or else it acknowledges the segment."""
    size = (len(key) - 4) // 2
    dst, src = key[:size], key[size:-4]
    dport, sport = int.from_bytes(key[-4:-2], "big"), int.from_bytes(key[-2:], "big")
    if seg.flags & ACK:
        seq, ack, flags = seg.ack & MASK32, 0, RST
    else:
        length = seg.length + (1 if seg.flags & SYN else 0) + (1 if seg.flags & FIN else 0)
        seq, ack, flags = 0, (seg.seq + length) & MASK32, RST | ACK
    pseudo = (ones_sum(dst) + ones_sum(src) + 6 + 20) % 0xFFFF
    tcp = TCP.pack(sport, dport, seq, ack, 5 << 12 | flags, 0, pseudo, 0)
    if not offload:
        tcp = tcp[:16] + finish(ones_sum(tcp)).to_bytes(2, "big") + tcp[18:]
    if size == 16:
        network = IP6.pack(6 << 28, 20, 6, ttl, src, dst)
    else:
        words = 0x4500 + 40 + DF + (ttl << 8 | 6) + ones_sum(src) + ones_sum(dst)
        network = IP4.pack(0x45, 0, 40, 0, DF, ttl, 6, finish(words), src, dst)
    vnet = VNET.pack(NEEDS_CSUM, 0, 0, 0, len(network), 16) if offload else VNET_NONE
    return vnet + network + tcp
