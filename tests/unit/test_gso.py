"""Cutting super-segments: every piece is what dpkt and the Internet checksum call a correct packet."""

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.supersegment import A4, B4, ip_packet, super_segment
from nuse.gso import mark_ce, wire_packets
from stack.checksum import finish, ones_sum
from stack.wire.vnet import DATA_VALID, GSO_UDP_L4, NEEDS_CSUM, VNET, VNET_NONE


def decode(packet: bytes) -> tuple[dpkt.Packet, dpkt.Packet]:
    """IP and transport layer of a wire packet, its checksums verified."""
    ip = dpkt.ip.IP(packet[10:]) if packet[10] >> 4 == 4 else dpkt.ip6.IP6(packet[10:])
    if packet[10] >> 4 == 4:
        assert ones_sum(packet[10:30]) == 0
        assert ip.len == len(packet) - 10
    raw = packet[30:] if packet[10] >> 4 == 4 else packet[50:]
    proto = ip.p
    assert finish(ones_sum(ip.src) + ones_sum(ip.dst) + proto + len(raw) + ones_sum(raw)) == 0
    return ip, ip.data


@pytest.mark.parametrize("version", [4, 6])
def test_tcp_pieces_carry_the_stream_and_the_right_flags(version: int) -> None:
    payload = bytes(range(256)) * 20
    pieces = wire_packets(super_segment(version, payload, 1448))
    decoded = [decode(piece) for piece in pieces]
    assert b"".join(bytes(tcp.data) for _, tcp in decoded) == payload
    assert [len(tcp.data) for _, tcp in decoded] == [1448, 1448, 1448, 776]
    seq = [(0xFFFF_FF00 + 1448 * i) & 0xFFFF_FFFF for i in range(4)]
    assert [tcp.seq for _, tcp in decoded] == seq
    ack, last = dpkt.tcp.TH_ACK, dpkt.tcp.TH_FIN | dpkt.tcp.TH_PUSH
    assert [tcp.flags for _, tcp in decoded] == [ack | dpkt.tcp.TH_CWR, ack, ack, ack | last]
    assert all(tcp.opts == decoded[0][1].opts for _, tcp in decoded)
    assert all(piece[:10] == VNET_NONE for piece in pieces)
    if version == 4:
        assert [ip.id for ip, _ in decoded] == [0xFFFE, 0xFFFF, 0, 1]


@pytest.mark.parametrize("version", [4, 6])
def test_udp_pieces_are_datagrams(version: int) -> None:
    udp = dpkt.udp.UDP(sport=53, dport=54, data=b"x" * 2500, ulen=2508)
    vnet = VNET.pack(NEEDS_CSUM, GSO_UDP_L4, 0, 1000, 20 if version == 4 else 40, 6)
    decoded = [decode(piece) for piece in wire_packets(vnet + ip_packet(version, udp, 17))]
    assert [(udp.ulen, len(udp.data)) for _, udp in decoded] == [(1008, 1000), (1008, 1000), (508, 500)]


def test_a_checksum_left_to_the_device_is_completed_and_vouched_for_on_request() -> None:
    udp = bytearray(bytes(dpkt.udp.UDP(sport=53, dport=54, data=b"abc", ulen=11)))
    udp[6:8] = ((ones_sum(A4) + ones_sum(B4) + 17 + 11) % 0xFFFF).to_bytes(2, "big")
    packet = VNET.pack(NEEDS_CSUM, 0, 0, 0, 20, 6) + ip_packet(4, bytes(udp), 17)
    (plain,) = wire_packets(packet)
    (vouched,) = wire_packets(packet, vouch=True)
    decode(plain)
    assert plain[:10] == VNET_NONE
    assert vouched[0] == DATA_VALID
    assert plain[10:] == vouched[10:]


def test_a_plain_packet_is_returned_as_it_is() -> None:
    packet = VNET_NONE + ip_packet(4, dpkt.tcp.TCP(), 6)
    assert wire_packets(packet)[0] is packet


@given(st.binary(min_size=10, max_size=120))
def test_garbage_never_raises(packet: bytes) -> None:
    for piece in wire_packets(packet):
        mark_ce(piece)


@pytest.mark.parametrize("version", [4, 6])
def test_only_ecn_capable_packets_are_marked(version: int) -> None:
    packet = bytearray(VNET_NONE + ip_packet(version, dpkt.tcp.TCP(data=b"x"), 6))
    assert mark_ce(bytes(packet)) is None
    packet[11] |= 2 if version == 4 else 0x20
    packet[20:22] = bytes(2) if version == 4 else packet[20:22]
    marked = mark_ce(bytes(packet))
    assert marked is not None
    traffic_class = marked[11] if version == 4 else marked[11] >> 4
    assert traffic_class & 3 == 3
    assert version == 6 or ones_sum(marked[10:30]) == 0
