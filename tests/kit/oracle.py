"""What the stack put on the wire, judged by foreign code: dpkt parses it and adds up the checksums.

Packets come as the driver would write them: a list of buffers that starts with a 10-byte virtio_net_hdr. `decode`
reads one and complains about anything a kernel would not take; `segments` does the kernel's part, completing partial
checksums and cutting super-segments, so that the result can travel over a plain wire.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from struct import Struct, pack, pack_into, unpack

import dpkt

VNET = Struct("=BBHHHH")
NEEDS_CSUM, DATA_VALID = 1, 2
GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 1, 4, 5, 0x80

Buffer = bytes | bytearray | memoryview

_LETTERS = ((2, "S"), (1, "F"), (4, "R"), (8, "P"), (32, "U"), (64, "E"), (128, "W"), (16, "."))


class BadPacket(AssertionError):
    """The stack emitted something that a kernel or a peer would choke on."""


@dataclass(slots=True, eq=False)
class Packet:
    """One decoded packet. Ports and TCP fields are 0 where the protocol has none."""

    raw: bytes  # as emitted, vnet header included
    version: int
    src: bytes
    dst: bytes
    proto: int
    ttl: int
    tos: int
    df: bool
    ident: int  # IPv4 identification, or the IPv6 flow label
    gso_size: int
    partial_checksum: bool
    sport: int = 0
    dport: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = 0
    win: int = 0
    urg: int = 0
    options: list[tuple[int, bytes]] = field(default_factory=list)
    payload: bytes = b""  # of TCP or UDP; the whole message of anything else

    def option(self, kind: int) -> bytes | None:
        """Body of the first option of this kind."""
        return next((body for k, body in self.options if k == kind), None)

    @property
    def mss(self) -> int | None:
        body = self.option(2)
        return None if body is None else int.from_bytes(body, "big")

    @property
    def wscale(self) -> int | None:
        body = self.option(3)
        return None if body is None else body[0]

    @property
    def sack_ok(self) -> bool:
        return self.option(4) is not None

    @property
    def timestamps(self) -> tuple[int, int] | None:
        body = self.option(8)
        return None if body is None else unpack("!II", body)

    @property
    def sack(self) -> list[tuple[int, int]]:
        body = self.option(5) or b""
        return [unpack("!II", body[at : at + 8]) for at in range(0, len(body), 8)]


def flags_text(flags: int) -> str:
    """`S.`, `P.`, `R`, … in tcpdump's letters."""
    return "".join(letter for bit, letter in _LETTERS if flags & bit) or "none"


def joined(buffers: Buffer | Iterable[Buffer]) -> bytes:
    """One packet as bytes, copied: the stack reuses its header buffer."""
    if isinstance(buffers, bytes | bytearray | memoryview):
        return bytes(buffers)
    return b"".join(buffers)


def decode(buffers: Buffer | Sequence[Buffer], *, mtu: int = 0) -> Packet:
    """Parse and verify one emitted packet. Raises BadPacket."""
    original = joined(buffers)
    raw = without_jumbo(original)
    flags, gso_type, hdr_len, gso_size, csum_start, csum_offset = VNET.unpack_from(raw)
    if flags & ~(NEEDS_CSUM | DATA_VALID):
        raise BadPacket(f"vnet flags {flags:#x}")
    partial = bool(flags & NEEDS_CSUM)
    net = raw[10:]
    packet = _decode_ip(original, net, gso_size if gso_type else 0, partial)
    l4 = _l4_offset(net)
    if partial and (csum_start != l4 or csum_offset != {6: 16, 17: 6, 1: 2, 58: 2}.get(packet.proto)):
        raise BadPacket(f"csum_start {csum_start} csum_offset {csum_offset}, transport header at {l4}")
    header = l4 + 8
    if packet.proto == 6:
        header = l4 + _decode_tcp(packet, net[l4:])
    elif packet.proto == 17:
        _decode_udp(packet, net[l4:])
    else:
        packet.payload = net[l4:]
    if gso_type:
        _check_gso(packet, gso_type, hdr_len, header, partial)
    elif mtu and len(net) > mtu:
        raise BadPacket(f"{len(net)} bytes on a link of MTU {mtu}, and no GSO")
    elif gso_size:
        raise BadPacket(f"gso_size {gso_size} without gso_type")
    if mtu and gso_type and header + gso_size > mtu:
        raise BadPacket(f"gso_size {gso_size} + {header} of headers on a link of MTU {mtu}")
    for part in segments(original):
        verify(part)
    return packet


def without_jumbo(raw: bytes) -> bytes:
    """BIG TCP over IPv6 without its hop-by-hop header, which must hold the jumbo payload option (RFC 2675 §2) alone."""
    net = memoryview(raw)[10:]
    if len(net) <= 65575 or net[0] >> 4 != 6:
        return raw
    if (net[6], bytes(net[40:44])) != (0, b"\x06\0\xc2\x04"):
        raise BadPacket("more than a length field can say, and no jumbo payload option")
    if int.from_bytes(net[44:48], "big") != len(net) - 40:
        raise BadPacket("jumbo payload length")
    flags, gso_type, hdr_len, gso_size, csum_start, csum_offset = VNET.unpack_from(raw)
    head = VNET.pack(flags, gso_type, hdr_len - 8, gso_size, csum_start - 8, csum_offset)
    return b"".join((head, net[:6], b"\x06", net[7:40], net[48:]))


def _decode_ip(raw: bytes, net: bytes, gso_size: int, partial: bool) -> Packet:
    if not net or net[0] >> 4 not in (4, 6):
        raise BadPacket("neither IPv4 nor IPv6")
    if net[0] >> 4 == 4:
        ip = dpkt.ip.IP(net)
        if ip.len != (0 if gso_size and len(net) > 65535 else len(net)):
            raise BadPacket(f"IP length {ip.len}, {len(net)} bytes there")
        if dpkt.dpkt.in_cksum(net[: ip.hl * 4]) != 0:
            raise BadPacket("IP header checksum")
        return Packet(raw, 4, ip.src, ip.dst, ip.p, ip.ttl, ip.tos, bool(ip.df), ip.id, gso_size, partial)
    ip6 = dpkt.ip6.IP6(net)
    if ip6.plen != (0 if gso_size and len(net) > 65575 else len(net) - 40):
        raise BadPacket(f"IPv6 payload length {ip6.plen}, {len(net) - 40} bytes there")
    return Packet(raw, 6, ip6.src, ip6.dst, ip6.p, ip6.hlim, ip6.fc, True, ip6.flow, gso_size, partial)


def _decode_tcp(packet: Packet, l4: bytes) -> int:
    """Fill in the TCP fields; the header's length."""
    tcp = dpkt.tcp.TCP(l4)
    if l4[12] & 0x0E:
        raise BadPacket("reserved bits set in the TCP header")
    found = dpkt.tcp.parse_opts(tcp.opts)
    if None in found:
        raise BadPacket(f"TCP options {tcp.opts.hex()}")
    packet.sport, packet.dport, packet.seq, packet.ack = tcp.sport, tcp.dport, tcp.seq, tcp.ack
    packet.flags, packet.win, packet.urg, packet.payload = tcp.flags, tcp.win, tcp.urp, tcp.data
    packet.options = [(kind, body) for kind, body in found if kind > 1]
    return int(tcp.off) * 4


def _decode_udp(packet: Packet, l4: bytes) -> None:
    udp = dpkt.udp.UDP(l4)
    if udp.ulen != len(l4) and not packet.gso_size:
        raise BadPacket(f"UDP length {udp.ulen}, {len(l4)} bytes there")
    packet.sport, packet.dport, packet.payload = udp.sport, udp.dport, l4[8:]


def _check_gso(packet: Packet, gso_type: int, hdr_len: int, header: int, partial: bool) -> None:
    wanted = {(4, 6): GSO_TCPV4, (6, 6): GSO_TCPV6, (4, 17): GSO_UDP_L4, (6, 17): GSO_UDP_L4}
    if gso_type & ~GSO_ECN != wanted.get((packet.version, packet.proto)):
        raise BadPacket(f"gso_type {gso_type} for IPv{packet.version} protocol {packet.proto}")
    if not partial:
        raise BadPacket("GSO without NEEDS_CSUM")
    if hdr_len != header:
        raise BadPacket(f"vnet hdr_len {hdr_len}, headers are {header}")
    if not packet.gso_size:
        raise BadPacket("GSO with gso_size 0")
    if packet.flags & 0x06:
        raise BadPacket("GSO on a SYN or RST")


def verify(raw: bytes) -> None:
    """Check the transport checksum of a plain packet with dpkt's arithmetic. Raises BadPacket."""
    net = raw[10:]
    l4, proto = _l4_offset(net), _proto(net)
    if net[0] >> 4 == 4:
        if int.from_bytes(net[6:8], "big") & 0x3FFF:
            return  # a fragment; the checksum spans the datagram
        pseudo = net[12:20] + pack("!HH", proto, len(net) - l4) if proto != 1 else b""
    else:
        pseudo = net[8:40] + pack("!II", len(net) - l4, proto)
        if net[6] == 44:
            return
    if proto == 17 and net[l4 + 6 : l4 + 8] == b"\0\0" and net[0] >> 4 == 4:
        return  # RFC 768: none computed
    if proto in (1, 6, 17, 58) and dpkt.dpkt.in_cksum(pseudo + net[l4:]) != 0:
        raise BadPacket("transport checksum")


def _proto(net: bytes) -> int:
    """Transport protocol; extension headers that we emit are fragment headers only."""
    if net[0] >> 4 == 4:
        return net[9]
    return net[40] if net[6] == 44 else net[6]


def _l4_offset(net: bytes | bytearray) -> int:
    if net[0] >> 4 == 4:
        return (net[0] & 15) * 4
    return 48 if net[6] == 44 else 40


def _word_sum(data: bytes) -> int:
    return int.from_bytes(data + bytes(len(data) & 1), "big") % 0xFFFF


def _complete(net: bytearray, l4: int, offset: int) -> None:
    """Finish a partial checksum in place: the field holds the pseudo-header's sum, uninverted."""
    total = -_word_sum(bytes(net[l4:])) % 0xFFFF
    pack_into("!H", net, l4 + offset, total or 0xFFFF if offset == 6 else total)


def segments(buffers: Buffer | Sequence[Buffer]) -> list[bytes]:
    """The plain packets that a kernel would put on the wire: whole checksums, each with a zero vnet header."""
    raw = without_jumbo(joined(buffers))
    flags, gso_type, _, gso_size, csum_start, csum_offset = VNET.unpack_from(raw)
    net = bytearray(memoryview(raw)[10:])
    if not gso_type:
        if flags & NEEDS_CSUM:
            _complete(net, csum_start, csum_offset)
        return [bytes(10) + net]
    l4 = _l4_offset(net)
    header = l4 + (8 if gso_type & ~GSO_ECN == GSO_UDP_L4 else net[l4 + 12] >> 4 << 2)
    parts = []
    for number, at in enumerate(range(header, len(net), gso_size)):
        part = net[:header] + net[at : at + gso_size]
        last = at + gso_size >= len(net)
        _patch_ip(part, number)
        if gso_type & ~GSO_ECN != GSO_UDP_L4:
            _patch_tcp(part, l4, at - header, number, last)
        else:
            pack_into("!H", part, l4 + 4, len(part) - l4)
        # The partial sum is over the super-segment's length; exchange it for this part's.
        field_at = l4 + csum_offset
        base = int.from_bytes(part[field_at : field_at + 2], "big") - (len(net) - l4) + (len(part) - l4)
        pack_into("!H", part, field_at, base % 0xFFFF)
        _complete(part, l4, csum_offset)
        parts.append(bytes(10) + part)
    return parts


def _patch_ip(part: bytearray, number: int) -> None:
    if part[0] >> 4 == 4:
        header = (part[0] & 15) * 4
        ident = int.from_bytes(part[4:6], "big") + number
        pack_into("!HH", part, 2, len(part), ident & 0xFFFF)
        pack_into("!H", part, 10, 0)
        pack_into("!H", part, 10, -_word_sum(bytes(part[:header])) % 0xFFFF)
    else:
        pack_into("!H", part, 4, len(part) - 40)


def _patch_tcp(part: bytearray, l4: int, offset: int, number: int, last: bool) -> None:
    seq = int.from_bytes(part[l4 + 4 : l4 + 8], "big") + offset
    pack_into("!I", part, l4 + 4, seq & 0xFFFFFFFF)
    if not last:
        part[l4 + 13] &= ~0x09  # FIN and PSH belong to the last one
    if number:
        part[l4 + 13] &= ~0x80  # CWR to the first
