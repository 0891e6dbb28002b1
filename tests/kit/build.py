"""Packets for a stack to receive, built by dpkt, which shares no code with the stack.

Each starts with an all-zero virtio_net_hdr, so the receiver must verify checksums in software. Only ICMP is laid out by
hand here: the stack itself uses dpkt for it, and an oracle must be foreign.
"""

from struct import pack

import dpkt

VNET_NONE = bytes(10)

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128

Address = tuple[bytes, int]


def ip(src: bytes, dst: bytes, proto: int, data: object, *, ttl: int = 64, tos: int = 0, ident: int = 0) -> bytes:
    """An IPv4 or IPv6 packet around `data` (bytes or a dpkt object) with its checksums, vnet header in front."""
    if len(src) == 4:
        packet = dpkt.ip.IP(src=src, dst=dst, p=proto, data=data, ttl=ttl, tos=tos, id=ident)
        packet.df = 1
        return VNET_NONE + bytes(packet)
    packet6 = dpkt.ip6.IP6(src=src, dst=dst, nxt=proto, data=data, hlim=ttl)
    packet6.fc = tos
    packet6.plen = len(bytes(data))  # type: ignore[call-overload]
    packet6.extension_hdrs = {}
    packet6.p = proto
    return VNET_NONE + bytes(packet6)


def tcp(
    src: Address,
    dst: Address,
    flags: int,
    seq: int,
    ack: int = 0,
    *,
    win: int = 65535,
    options: bytes = b"",
    payload: bytes = b"",
    urg: int = 0,
    tos: int = 0,
    ttl: int = 64,
) -> bytes:
    """One TCP segment; `seq` and `ack` are cut to 32 bits, `options` padded with EOL to a multiple of four."""
    options += bytes(-len(options) % 4)
    segment = dpkt.tcp.TCP(
        sport=src[1],
        dport=dst[1],
        seq=seq & 0xFFFFFFFF,
        ack=ack & 0xFFFFFFFF,
        flags=flags,
        win=win,
        urp=urg,
        data=payload,
    )
    segment.opts = options
    segment.off = 5 + len(options) // 4
    return ip(src[0], dst[0], 6, segment, tos=tos, ttl=ttl)


def udp(src: Address, dst: Address, payload: bytes, *, ttl: int = 64, tos: int = 0) -> bytes:
    """One UDP datagram."""
    datagram = dpkt.udp.UDP(sport=src[1], dport=dst[1], data=payload)
    datagram.ulen = len(datagram)
    return ip(src[0], dst[0], 17, datagram, ttl=ttl, tos=tos)


def icmp(src: bytes, dst: bytes, kind: int, code: int, rest: int, body: bytes) -> bytes:
    """An ICMPv4 or ICMPv6 message, by the length of `src`; `rest` is the 32-bit word after the checksum."""
    message = pack("!BBHI", kind, code, 0, rest) + body
    covered = message
    if len(src) == 16:
        covered = src + dst + pack("!II", len(message), 58) + message
    checksum = dpkt.dpkt.in_cksum(covered)
    message = message[:2] + pack("!H", checksum) + message[4:]
    return ip(src, dst, 1 if len(src) == 4 else 58, message)


def icmp_about(packet: bytes, src: bytes, kind: int, code: int, rest: int = 0, *, quote: int | None = None) -> bytes:
    """An ICMP error from `src` about `packet` (vnet header and IP packet, as the stack sent it).

    Quotes what routers quote: the IP header and eight bytes (RFC 792) for v4, all that fits in 1280 bytes for v6.
    """
    original = packet[10:]
    if original[0] >> 4 == 4:
        keep = (original[0] & 15) * 4 + 8
        dst = original[12:16]
    else:
        keep = 1280 - 48
        dst = original[8:24]
    return icmp(src, dst, kind, code, rest, original[: keep if quote is None else quote])


# --- TCP options, each a few bytes; join with NOPs as the test wants them


def opt_mss(mss: int) -> bytes:
    return pack("!BBH", 2, 4, mss)


def opt_wscale(shift: int) -> bytes:
    return pack("!BBB", 3, 3, shift)


def opt_sack_ok() -> bytes:
    return b"\x04\x02"


def opt_timestamps(val: int, ecr: int) -> bytes:
    return pack("!BBII", 8, 10, val & 0xFFFFFFFF, ecr & 0xFFFFFFFF)


def opt_sack(blocks: list[tuple[int, int]]) -> bytes:
    edges = b"".join(pack("!II", left & 0xFFFFFFFF, right & 0xFFFFFFFF) for left, right in blocks)
    return pack("!BB", 5, 2 + len(edges)) + edges


NOP = b"\x01"
