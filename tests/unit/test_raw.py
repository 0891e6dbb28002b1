"""Raw endpoints: what ping, traceroute and mtr do as root, and that the stack works on as if they were not there."""

import errno
from struct import pack

import dpkt
import pytest

from kit import build
from kit.lan import PEER4, PEER6, US4, US6, fragments, refused
from kit.oracle import decode
from stack.events import READABLE
from stack.ip.addr import LOOPBACK4, parse_addr

ICMP = {4: 1, 16: 58}
FAR4 = parse_addr("192.0.2.7")


def opened(lan, ends, proto=None):
    return lan.stack.raw.open(len(ends[0]) == 16, proto or ICMP[len(ends[0])])


def echo(ends, reply, body=b"payload"):
    kind = {4: (8, 0), 16: (128, 129)}[len(ends[0])][reply]
    return build.icmp(*ends, kind, 0, 0x12340001, body)


# --- receiving


def test_a_copy_arrives_and_the_stack_answers_all_the_same(lan, ends):
    endpoint = opened(lan, ends)
    ping = echo(ends, False)
    lan.give(ping)
    assert lan.stack.poll_event() == (endpoint, READABLE)
    got = endpoint.recv()
    # IPv4 raw sockets see the IP header, IPv6 ones do not (RFC 3542 §3)
    assert bytes(got.data) == ping[10 if len(ends[0]) == 4 else 50 :]
    assert (got.addr, got.dst, got.ttl, got.link) == (ends[0], ends[1], 64, lan.link)
    assert len(lan.take()) == 1


def test_fragments_arrive_whole(lan, ends):
    endpoint = opened(lan, ends, 17)
    datagram = build.udp((ends[0], 9), (ends[1], 7), bytes(3000))
    lan.give(*fragments(datagram, 1448))
    assert len(endpoint.recv().data) == 3008 + (20 if len(ends[0]) == 4 else 0)


def test_an_unknown_protocol_is_known_if_somebody_receives_it(lan, ends):
    packet = build.ip(*ends, 253, b"what is this")
    lan.give(packet)
    assert len(lan.take()) == 1
    endpoint = opened(lan, ends, 253)
    lan.give(packet)
    assert lan.take() == []
    assert bytes(endpoint.recv().data).endswith(b"what is this")


def test_only_what_matches_the_ends_arrives(lan, ends):
    bound, connected, other = (opened(lan, ends) for _ in range(3))
    far = parse_addr("10.64.0.9" if len(ends[0]) == 4 else "fd64::9")
    bound.bind(ends[1], 0)
    connected.connect((far, 0))
    lan.stack.add_addr(lan.link, parse_addr("10.64.0.3" if len(ends[0]) == 4 else "fd64::3"), 24)
    other.bind(parse_addr("10.64.0.3" if len(ends[0]) == 4 else "fd64::3"), 0)
    lan.give(echo(ends, True))
    assert [one.queued for one in (bound, connected, other)] == [1, 0, 0]
    lan.give(echo((far, ends[1]), True))
    assert [one.queued for one in (bound, connected, other)] == [2, 1, 0]
    connected.disconnect()
    lan.give(echo(ends, True))
    assert connected.queued == 2


def test_the_icmp_filter_keeps_types_away(lan, ends):
    endpoint = opened(lan, ends)
    reply = 0 if len(ends[0]) == 4 else 129
    endpoint.icmp_filter = ~(1 << reply) & (2**32 - 1 if len(ends[0]) == 4 else 2**256 - 1)
    lan.give(echo(ends, False), echo(ends, True))
    assert endpoint.queued == 1


def test_icmpv6_with_a_bad_checksum_does_not_arrive_icmpv4_does(lan, ends):
    endpoint = opened(lan, ends)
    packet = echo(ends, True)
    lan.give(packet[:-1] + b"?")
    assert endpoint.queued == (len(ends[0]) == 4)


def test_tcp_is_seen_too_even_of_connections(lan, ends):
    server = lan.stack.tcp.listen(lan.stack.tcp.bind(ends[1], 80), 5)
    endpoint = opened(lan, ends, 6)
    lan.give(build.tcp((ends[0], 9), (ends[1], 80), build.SYN, 1))
    (answer,) = lan.take()
    ack = build.tcp((ends[0], 9), (ends[1], 80), build.ACK, 2, answer.seq + 1, payload=b"data")
    lan.give(ack)
    assert endpoint.queued == 2
    assert server.accept().readable == 4
    endpoint.close()
    lan.give(build.tcp((ends[0], 9), (ends[1], 80), build.ACK, 6, answer.seq + 1, payload=b"more"))
    lan.stack.check()
    assert lan["TcpInSegs"] == 3


def test_protocol_255_only_sends(lan):
    endpoint = lan.stack.raw.open(False, 255)
    lan.give(build.ip(PEER4, US4, 255, b"raw"))
    assert endpoint.queued == 0


# --- sending


def test_a_payload_gets_a_header(lan, ends):
    endpoint = opened(lan, ends)
    endpoint.options.ttl = 3
    kind = 8 if len(ends[0]) == 4 else 128
    message = pack("!BBHHH", kind, 0, 0, 7, 1) + b"ping"
    if kind == 8:
        message = message[:2] + pack("!H", dpkt.dpkt.in_cksum(message)) + message[4:]
    endpoint.sendto(message, (ends[0], 0), 0)
    (packet,) = lan.take()  # which verifies ICMPv6's checksum: the stack made it
    assert (packet.src, packet.dst, packet.ttl, packet.proto) == (ends[1], ends[0], 3, ICMP[len(ends[0])])
    assert packet.payload[4:] == message[4:]


def test_a_large_payload_is_cut(lan, ends):
    endpoint = opened(lan, ends, 253)
    endpoint.sendto(bytes(range(200)) * 20, (ends[0], 0), 0)
    assert len(lan.raw()) == 3
    endpoint.options.mtu_discover = endpoint.options.mtu_discover6 = 2
    with refused(errno.EMSGSIZE):
        endpoint.sendto(bytes(1490), (ends[0], 0), 0)


def test_a_header_of_ones_own_is_completed_as_in_linux(lan):
    endpoint = lan.stack.raw.open(False, 255)
    ip = dpkt.ip.IP(src=bytes(4), dst=FAR4, p=253, ttl=5, data=b"probe")
    head = bytearray(bytes(ip))
    head[2:4] = head[4:6] = head[10:12] = b"\0\0"
    endpoint.sendto(bytes(head), (FAR4, 0), 0)
    raw = lan.raw()[0]
    assert raw[12:14] == pack("!H", len(head))
    assert raw[14:16] != b"\0\0"
    packet = decode(raw)
    assert (packet.src, packet.dst, packet.ttl, packet.payload) == (US4, FAR4, 5, b"probe")
    head[12:16] = parse_addr("203.0.113.1")  # somebody else's address: root may
    endpoint.sendto(bytes(head), (FAR4, 0), 0)
    assert lan.raw()[0][22:26] == parse_addr("203.0.113.1")


def test_a_packet_of_ones_own_over_ipv6_goes_as_it_is(lan):
    endpoint = lan.stack.raw.open(True, 255)
    packet = build.udp((US6, 9), (PEER6, 7), b"mine")[10:]
    endpoint.sendto(packet, (PEER6, 0), 0)
    assert lan.raw()[0][10:] == packet


def test_what_sendto_refuses(lan):
    endpoint = lan.stack.raw.open(False, 255)
    with refused(errno.EINVAL):
        endpoint.sendto(b"short", (PEER4, 0), 0)
    with refused(errno.EINVAL):
        endpoint.sendto(b"\x4f" + bytes(30), (PEER4, 0), 0)
    with refused(errno.EMSGSIZE):
        endpoint.sendto(b"\x45" + bytes(1500), (PEER4, 0), 0)
    with refused(errno.EDESTADDRREQ):
        endpoint.sendto(b"\x45" + bytes(30), None, 0)
    short = lan.stack.raw.open(True, 58)
    with refused(errno.EINVAL):
        short.sendto(b"abc", (PEER6, 0), 0)
    with refused(errno.EPROTONOSUPPORT):
        lan.stack.raw.open(False, 0)


def test_pinging_ourselves_shows_request_and_reply(lan):
    endpoint = lan.stack.raw.open(False, 1)
    message = pack("!BBHHH", 8, 0, 0xF7FD, 1, 1)
    endpoint.sendto(message, (LOOPBACK4, 0), 0)
    assert lan.raw() == []
    assert [bytes(endpoint.recv().data)[20] for _ in range(endpoint.queued)] == [8, 0]


# --- errors


@pytest.mark.rfc("1122", "4.1.3.3")
def test_traceroute_over_raw_sockets_learns_of_each_hop(lan, ends):
    endpoint = opened(lan, ends)
    endpoint.options.recverr = endpoint.options.recverr6 = True
    kind = 8 if len(ends[0]) == 4 else 128
    endpoint.options.ttl = 1
    endpoint.sendto(pack("!BBHHH", kind, 0, 0, 7, 1), (ends[0], 0), 0)
    (packet,) = lan.raw()
    lan.give(build.icmp_about(packet, ends[0], 11 if kind == 8 else 3, 0))
    report = endpoint.take_error_queue()
    assert (report.errno, report.offender) == (errno.EHOSTUNREACH, ends[0])
    assert report.payload[4:8] == pack("!HH", 7, 1)
    assert endpoint.queued == 1  # and the message itself, as mtr wants it
    assert lan["NuseIcmpUnmatched"] == 0


def test_without_recverr_only_a_connected_endpoint_hears_of_hard_errors(lan):
    endpoint = lan.stack.raw.open(False, 253)
    endpoint.sendto(b"", (PEER4, 0), 0)
    (packet,) = lan.raw()
    refusal = build.icmp_about(packet, PEER4, 3, 2, quote=28)
    lan.give(refusal)
    assert endpoint.error == 0
    endpoint.connect((PEER4, 0))
    lan.give(refusal)
    assert endpoint.take_error() == errno.ENOPROTOOPT


def test_a_closed_endpoint_gets_nothing(lan, ends):
    endpoint = opened(lan, ends)
    endpoint.close()
    lan.give(echo(ends, True))
    assert endpoint.queued == lan.stack.raw.count == 0
    with refused(errno.EBADF):
        endpoint.sendto(b"", (ends[0], 0), 0)
