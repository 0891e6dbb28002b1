"""What the IP layer takes, what it refuses, and that each refusal has a counter."""

from struct import pack, unpack

import dpkt
import pytest

from kit import build
from kit.lan import BROADCAST4, PEER4, PEER6, US4, US6, Lan
from stack.config import Sysctl
from stack.ip.addr import LOOPBACK6, parse_addr

PORT = 7
FAR4 = parse_addr("192.0.2.7")


@pytest.fixture
def got(lan):
    """An endpoint that takes whatever comes to PORT."""
    endpoint = lan.stack.udp.open(True)
    endpoint.bind(bytes(16), PORT)
    return endpoint


def cases(names, **found):
    """A parametrization whose test names are the keywords."""
    return pytest.mark.parametrize(names, list(found.values()), ids=[name.replace("_", "-") for name in found])


def udp4(**kw):
    return build.udp((PEER4, 9), (US4, PORT), b"data", **kw)


def udp6(**kw):
    return build.udp((PEER6, 9), (US6, PORT), b"data", **kw)


def patched(packet, at, new):
    """`packet` with bytes of its IP header replaced and the IPv4 header checksum made right again."""
    net = bytearray(packet[10:])
    net[at : at + len(new)] = new
    if net[0] >> 4 == 4 and at != 10:
        ihl = max((net[0] & 15) * 4, 20)
        net[10:12] = b"\0\0"
        net[10:12] = dpkt.dpkt.in_cksum(bytes(net[:ihl])).to_bytes(2, "big")
    return packet[:10] + bytes(net)


def with_options(packet, options):
    """The IPv4 packet with header options, padded with EOL."""
    net = packet[10:]
    options += bytes(-len(options) % 4)
    ip = dpkt.ip.IP(src=net[12:16], dst=net[16:20], p=net[9], data=net[20:])
    ip.hl = 5 + len(options) // 4
    ip.opts = options
    return bytes(10) + bytes(ip)


def with_headers(packet, *headers, length=None):
    """The IPv6 packet with extension headers (kind, body of 6 + 8n bytes) in front of its payload."""
    net = packet[10:]
    kinds = [kind for kind, _ in headers] + [net[6]]
    body = b"".join(
        bytes((following, (len(data) + 2) // 8 - 1)) + data
        for (_, data), following in zip(headers, kinds[1:], strict=True)
    )
    size = len(body) + len(net) - 40 if length is None else length
    return bytes(10) + net[:4] + size.to_bytes(2, "big") + bytes((kinds[0],)) + net[7:40] + body + net[40:]


PAD = b"\x01\x04\0\0\0\0"  # PadN that fills a header of 8 bytes


# --- IPv4


@cases(
    ("packet", "counter"),
    nothing=(b"", "NuseInMalformed"),
    no_ip=(bytes(10), "NuseInMalformed"),
    version_5=(bytes(10) + b"\x50" + bytes(40), "NuseInMalformed"),
    short_header=(bytes(10) + udp4()[10:29], "IpInHdrErrors"),
    ihl_4=(patched(udp4(), 0, b"\x44"), "IpInHdrErrors"),
    length_19=(patched(udp4(), 2, b"\0\x13"), "IpInHdrErrors"),
    bad_checksum=(patched(udp4(), 10, b"\0\0"), "IpExtInCsumErrors"),
    truncated=(udp4()[:-1], "IpExtInTruncatedPkts"),
    not_ours=(build.udp((PEER4, 9), (FAR4, PORT), b""), "IpInAddrErrors"),
    to_loopback=(build.udp((PEER4, 9), (parse_addr("127.0.0.1"), PORT), b""), "IpInAddrErrors"),
    from_loopback=(build.udp((parse_addr("127.0.0.1"), 9), (US4, PORT), b""), "IpInAddrErrors"),
    from_ourselves=(build.udp((US4, 9), (US4, PORT), b""), "IpInAddrErrors"),
    from_multicast=(build.udp((parse_addr("224.0.0.1"), 9), (US4, PORT), b""), "IpInAddrErrors"),
    from_broadcast=(build.udp((BROADCAST4, 9), (US4, PORT), b""), "IpInAddrErrors"),
    from_nobody=(build.udp((bytes(4), 9), (US4, PORT), b""), "IpInAddrErrors"),
    source_route=(with_options(udp4(), b"\x83\x07\x04" + FAR4), "IpInHdrErrors"),
    broken_option=(with_options(udp4(), b"\x44\x20\x05\x00"), "IpInHdrErrors"),
)
def test_what_ipv4_refuses_is_counted_and_unanswered(lan, got, packet, counter):
    lan.give(packet)
    assert lan[counter] == 1
    assert got.queued == 0
    assert lan.take() == []


@pytest.mark.rfc("1122", "3.2.1")
@cases(
    "packet",
    plain=udp4(),
    padded=udp4() + b"padding",
    router_alert=with_options(udp4(), b"\x94\x04\0\0"),  # router alert
    record_route=with_options(udp4(), b"\x01\x07\x07\x04\0\0\0\0"),  # record route
)
def test_what_ipv4_takes(lan, got, packet):
    lan.give(packet)
    assert bytes(got.recv().data) == b"data"
    assert lan["IpInReceives"] == lan["IpInDelivers"] == lan["UdpInDatagrams"] == 1


def test_a_link_that_is_down_receives_nothing(lan, got):
    lan.stack.set_link_up(lan.link, False)
    lan.give(udp4())
    assert got.queued == 0
    assert lan.link.stats.rx_dropped == 1


def test_the_host_model_is_weak(lan, got):
    other = lan.stack.add_link("tun1", [(parse_addr("10.64.1.2"), 24)])
    lan.stack.receive(udp4(), 0, other)
    assert bytes(got.recv().data) == b"data"
    assert lan["NuseInWrongLink"] == 1


@pytest.mark.rfc("1122", "3.3.4.2")
def test_the_strong_host_model_is_a_choice():
    lan = Lan(sysctl=Sysctl(strong_host=1))
    other = lan.stack.add_link("tun1", [(parse_addr("10.64.1.2"), 24)])
    endpoint = lan.stack.udp.open(True)
    endpoint.bind(bytes(16), PORT)
    for packet in (udp4(), udp6()):
        lan.stack.receive(packet, 0, other)
        assert endpoint.queued == 0
        lan.give(packet)
        assert endpoint.recv() is not None
    assert lan["NuseInWrongLink"] == 2


@pytest.mark.rfc("1122", "3.2.2.1")
def test_an_unknown_protocol_is_answered(lan):
    packet = build.ip(PEER4, US4, 253, b"what is this")
    lan.give(packet)
    (answer,) = lan.take()
    assert (answer.proto, answer.payload[:2], answer.dst) == (1, b"\x03\x02", PEER4)
    assert answer.payload[8:] == packet[10:]
    assert lan["IpInUnknownProtos"] == lan["IcmpOutDestUnreachs"] == 1


def test_tcp_reaches_the_same_place_by_the_fast_and_the_slow_path(lan):
    plain = build.tcp((PEER4, 9), (US4, 81), build.SYN, 1)
    lan.give(plain, with_options(plain, b"\x01\x01\x01\x01"))
    fast, slow = lan.take()
    assert fast.flags == slow.flags == build.RST | build.ACK
    assert lan["TcpOutRsts"] == lan["IpInDelivers"] == 2


@pytest.mark.rfc("9293", "3.10.7.2")
@pytest.mark.parametrize("dst", [BROADCAST4, parse_addr("255.255.255.255"), parse_addr("224.0.0.1")])
def test_tcp_to_many_is_dropped(lan, dst):
    lan.give(build.tcp((PEER4, 9), (dst, 81), build.SYN, 1))
    assert lan.take() == []
    assert lan["TcpInErrs"] == 1


def test_tcp_without_ports_is_malformed(lan):
    lan.give(build.ip(PEER4, US4, 6, b"abc"), build.ip(PEER6, US6, 6, b"abc"))
    assert lan["NuseInMalformed"] == lan.link.stats.rx_errors == 2


# --- IPv6


@cases(
    ("packet", "counter"),
    short_header=(bytes(10) + udp6()[10:49], "Ip6InHdrErrors"),
    truncated=(udp6()[:-1], "Ip6InTruncatedPkts"),
    not_ours=(build.udp((PEER6, 9), (parse_addr("2001:db8::7"), PORT), b""), "Ip6InAddrErrors"),
    to_loopback=(build.udp((PEER6, 9), (LOOPBACK6, PORT), b""), "Ip6InAddrErrors"),
    from_loopback=(build.udp((LOOPBACK6, 9), (US6, PORT), b""), "Ip6InAddrErrors"),
    from_ourselves=(build.udp((US6, 9), (US6, PORT), b""), "Ip6InAddrErrors"),
    from_nobody=(build.udp((bytes(16), 9), (US6, PORT), b""), "Ip6InAddrErrors"),
    from_multicast=(build.udp((parse_addr("ff02::1"), 9), (US6, PORT), b""), "Ip6InHdrErrors"),
    from_mapped=(build.udp((parse_addr("::ffff:10.64.0.1"), 9), (US6, PORT), b""), "Ip6InHdrErrors"),
    nine_headers=(with_headers(udp6(), *[(60, PAD)] * 9), "Ip6InHdrErrors"),
    broken_option=(with_headers(udp6(), (60, b"\x05\x40\0\0\0\0")), "Ip6InHdrErrors"),
    option_to_drop=(with_headers(udp6(), (60, b"\x41\x04\0\0\0\0")), "Ip6InHdrErrors"),
    cut_in_header=(with_headers(udp6(), (0, PAD), length=6), "Ip6InHdrErrors"),
    fragment_in_fragment=(with_headers(udp6(), (44, bytes(6)), (44, bytes(6))), "Ip6InHdrErrors"),
)
def test_what_ipv6_refuses_is_counted_and_unanswered(lan, got, packet, counter):
    lan.give(packet)
    assert lan[counter] == 1
    assert got.queued == 0
    assert lan.take() == []


@pytest.mark.rfc("8200", "4")
@cases(
    "packet",
    plain=udp6(),
    padded=udp6() + b"padding",
    hop_by_hop=with_headers(udp6(), (0, PAD)),
    three_headers=with_headers(udp6(), (0, b"\x05\x02\0\0\x01\0"), (60, PAD), (60, bytes(14))),
    option_to_skip=with_headers(udp6(), (60, b"\x1e\x04\0\0\0\0")),  # unknown, but to be skipped
    used_up_route=with_headers(udp6(), (43, b"\0\0\0\0\0\0")),  # no segments left
    atomic_fragment=with_headers(udp6(), (44, bytes(6))),  # atomic fragment
    headers_around_fragment=with_headers(udp6(), (0, PAD), (44, bytes(6)), (60, PAD)),
)
def test_what_ipv6_takes(lan, got, packet):
    lan.give(packet)
    assert bytes(got.recv().data) == b"data"
    assert lan["Ip6InReceives"] == lan["Ip6InDelivers"] == lan["Udp6InDatagrams"] == 1


@cases(
    ("packet", "code", "pointer"),
    protocol=(build.ip(PEER6, US6, 253, b"what is this"), 1, 6),
    protocol_behind_header=(with_headers(build.ip(PEER6, US6, 253, b"x"), (60, PAD)), 1, 40),
    late_hop_by_hop=(with_headers(udp6(), (60, PAD), (0, PAD)), 1, 40),
    source_route=(with_headers(udp6(), (43, b"\x00\x01\0\0\0\0" + bytes(16))), 0, 42),
    option_to_report=(with_headers(udp6(), (60, b"\x81\x04\0\0\0\0")), 2, 42),
    second_option_to_report=(with_headers(udp6(), (60, b"\x00\xc1\x03\0\0\0")), 2, 43),
    odd_fragment_length=(with_headers(udp6(), (44, b"\0\x01\0\0\0\x07")), 0, 4),
    fragment_beyond_64k=(with_headers(build.udp((PEER6, 9), (US6, PORT), b""), (44, b"\xff\xf9\0\0\0\x07")), 0, 42),
)
def test_what_rfc_8200_wants_refused_aloud(lan, got, packet, code, pointer):
    lan.give(packet)
    (answer,) = lan.take()
    kind, got_code, _sum, got_pointer = unpack("!BBHI", answer.payload[:8])
    assert (answer.proto, kind, got_code, got_pointer) == (58, 4, code, pointer)
    assert answer.payload[8:] == packet[10:]
    assert got.queued == 0


def test_no_next_header_is_nothing_to_complain_about(lan):
    lan.give(build.ip(PEER6, US6, 59, b""))
    assert lan.take() == []


def test_tcp6_reaches_the_same_place_by_the_fast_and_the_slow_path(lan):
    plain = build.tcp((PEER6, 9), (US6, 81), build.SYN, 1)
    lan.give(plain, with_headers(plain, (60, PAD)))
    fast, slow = lan.take()
    assert fast.flags == slow.flags == build.RST | build.ACK
    assert lan["TcpOutRsts"] == lan["Ip6InDelivers"] == 2


def test_the_kernels_multicast_chatter_is_counted_and_ignored(lan):
    everybody = parse_addr("ff02::2")
    lan.give(
        build.icmp(parse_addr("fe80::1"), everybody, 133, 0, 0, b""),
        with_headers(build.icmp(bytes(16), parse_addr("ff02::16"), 143, 0, 0, b"\0\0\0\0"), (0, b"\x05\x02\0\0\x01\0")),
        build.icmp(bytes(16), parse_addr("ff02::1:ff00:2"), 135, 0, 0, US6),
        build.ip(PEER4, parse_addr("224.0.0.22"), 2, pack("!BBHI", 0x22, 0, 0xDDFF, 0)),
    )
    assert lan.take() == []
    assert (lan["Ip6InMcastPkts"], lan["NuseInNotJoined"], lan["IpExtInMcastPkts"]) == (3, 3, 1)
