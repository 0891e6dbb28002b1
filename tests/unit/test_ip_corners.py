"""Corners of the IP layer: fragments at their edges, ICMP's lesser messages, path MTUs that grow, refused routes."""

from struct import pack, unpack

import dpkt
import pytest

from kit import build
from kit.lan import BROADCAST4, PEER4, PEER6, US4, US6, Lan, fragment, fragments
from kit.oracle import decode
from stack.config import Sysctl
from stack.ip.addr import parse_addr
from stack.units import MSEC, SEC


def bound(lan, port=7):
    endpoint = lan.stack.udp.open(True)
    endpoint.bind(bytes(16), port)
    return endpoint


# --- fragments that come


def first_of(packet, size, headers=b"", kind=0):
    """The first fragment of an IPv6 packet, with `headers`, the first of which is `kind`, in its fragmentable part."""
    net = packet[10:]
    body = headers + net[40:]
    head = bytes((kind if headers else net[6], 0)) + b"\0\x01" + (7).to_bytes(4, "big")
    body = body[:size]
    return bytes(10) + net[:4] + (len(body) + 8).to_bytes(2, "big") + b"\x2c" + net[7:40] + head + body


@pytest.mark.rfc("7112", "5")
@pytest.mark.rfc("8200", "4.5")
@pytest.mark.parametrize(
    ("packet", "size", "refused"),
    [
        (build.tcp((PEER6, 9), (US6, 80), build.SYN, 1), 16, True),
        (build.tcp((PEER6, 9), (US6, 80), build.SYN, 1, payload=bytes(40)), 24, False),
        (build.udp((PEER6, 9), (US6, 7), bytes(40)), 8, False),
        (build.icmp(PEER6, US6, 128, 0, 0, bytes(40)), 8, False),
    ],
)
def test_a_first_fragment_must_hold_the_whole_header_chain(lan, packet, size, refused):
    lan.give(first_of(packet, size))
    answers = lan.take()
    assert [unpack("!BBHI", answer.payload[:8])[::3] for answer in answers] == ([(4, 0)] if refused else [])
    assert [answer.payload[1] for answer in answers] == ([3] if refused else [])
    assert len(lan.stack.reasm6) == (not refused)


@pytest.mark.rfc("7112", "5")
@pytest.mark.parametrize(("size", "refused"), [(8, True), (16, True), (24, False)])
def test_extension_headers_behind_the_fragment_header_count(lan, size, refused):
    options = b"\x3c\0\x01\x04\0\0\0\0" + b"\x11\0\x01\x04\0\0\0\0"  # two headers of destination options, then UDP
    lan.give(first_of(build.udp((PEER6, 9), (US6, 7), bytes(40)), size, options, 60))
    assert len(lan.raw()) == refused


@pytest.mark.rfc("6946", "4")
def test_an_atomic_fragment_is_not_confused_with_others_of_its_id(lan):
    endpoint = bound(lan)
    packet = build.udp((PEER6, 9), (US6, 7), bytes(100))
    lan.give(fragment(packet, 0, packet[50:98], True))
    lan.give(fragment(packet, 0, packet[50:], False))
    assert len(endpoint.recv().data) == 100
    assert len(lan.stack.reasm6) == 1
    lan.give(fragment(packet, 48, packet[98:], False))
    assert len(endpoint.recv().data) == 100


@pytest.mark.rfc("8200", "4.5")
def test_fragments_differ_by_ends_and_identification_alone(lan):
    endpoint = bound(lan)
    packet = build.udp((PEER6, 9), (US6, 7), bytes(100))
    one, two = fragments(packet, 56, 1), fragments(packet, 56, 2)
    lan.give(one[0], two[1])
    assert endpoint.queued == 0
    lan.give(two[0], one[1])
    assert endpoint.queued == 2


@pytest.mark.rfc("791", "3.2")
def test_a_fragment_beyond_64_kilobytes_is_dropped(lan):
    packet = build.udp((PEER4, 9), (US4, 7), bytes(100))
    lan.give(fragment(packet, 65528, bytes(8), False))
    assert (lan["IpReasmFails"], len(lan.stack.reasm4)) == (1, 0)


@pytest.mark.rfc("6864", "4.2")
@pytest.mark.parametrize(("between", "most", "whole"), [(60, 64, True), (70, 64, False), (70, 0, True)])
def test_fragments_too_far_apart_are_not_joined(between, most, whole):
    lan = Lan(sysctl=Sysctl(ipfrag_max_dist=most))
    endpoint = bound(lan)
    packet = build.udp((PEER4, 9), (US4, 7), bytes(100))
    first, last = fragments(packet, 56, 1)
    lan.give(first)
    for ident in range(2, 2 + between):
        lan.give(fragments(packet, 56, ident)[0])
    lan.give(last)
    assert endpoint.queued == whole


# --- fragments that go


@pytest.mark.rfc("791", "3.2")
@pytest.mark.rfc("8200", "4.5")
@pytest.mark.parametrize("mtu", [1280, 1285, 1500, 9000])
def test_fragments_are_multiples_of_eight_within_the_mtu(ends, mtu):
    lan = Lan(mtu=mtu)
    endpoint = bound(lan)
    endpoint.sendto(bytes(20_000), (ends[0], 9), 0)
    sizes = [len(packet) - (30 if len(ends[0]) == 4 else 58) for packet in lan.raw()]
    assert all(size % 8 == 0 for size in sizes[:-1])
    assert sum(sizes) == 20_008
    assert mtu - (20 if len(ends[0]) == 4 else 48) - 7 <= sizes[0] <= mtu


@pytest.mark.rfc("6864", "4.1")
def test_only_what_may_be_cut_has_an_identification(lan):
    endpoint = bound(lan)
    endpoint.sendto(bytes(100), (PEER4, 9), 0)
    endpoint.sendto(bytes(3000), (PEER4, 9), 0)
    endpoint.sendto(bytes(3000), (PEER4, 9), 0)
    idents = [unpack("!H", packet[14:16])[0] for packet in lan.raw()]
    assert idents[0] == 0
    assert len(set(idents[1:4])) == len(set(idents[4:7])) == 1
    assert idents[1] != idents[4]


@pytest.mark.rfc("8900", "3.7")
def test_fragments_of_ours_do_not_wait_for_each_other_in_a_full_outbox(lan):
    endpoint = bound(lan)
    while len(lan.stack.outbox) < 9_998:
        endpoint.sendto(b"", (PEER4, 9), 0)
    endpoint.sendto(bytes(9000), (PEER4, 9), 0)
    assert lan["IpFragFails"] == 1
    assert lan["UdpSndbufErrors"] == 1


# --- ICMP


def stamp(dst=US4, originate=0x01020304):
    return build.icmp(PEER4, dst, 13, 0, 0x12340005, pack("!III", originate, 0, 0))


@pytest.mark.rfc("792", "timestamp")
@pytest.mark.rfc("1122", "3.2.2.8")
def test_a_timestamp_is_answered_with_times_that_say_what_they_are(lan):
    lan.now = 5000 * MSEC
    lan.give(stamp())
    (answer,) = lan.take()
    kind, code, _sum, rest, originate, received, transmitted = unpack("!BBHIIII", answer.payload)
    assert (kind, code, rest, originate) == (14, 0, 0x12340005, 0x01020304)
    assert received == transmitted == 0x8000_0000 | 5000  # the high bit: not milliseconds since midnight
    assert (answer.src, answer.dst) == (US4, PEER4)
    assert (lan["IcmpInTimestamps"], lan["IcmpOutTimestampReps"]) == (1, 1)


@pytest.mark.rfc("1122", "3.2.2.8")
def test_timestamps_to_all_or_cut_short_are_not_answered(lan):
    lan.give(stamp(BROADCAST4), build.icmp(PEER4, US4, 13, 0, 0, bytes(8)))
    assert lan.take() == []


def test_icmp_ratemask_says_what_is_limited():
    lan = Lan(sysctl=Sysctl(icmp_ratemask=1 << 14))  # timestamp replies, and no errors
    for _ in range(10):
        lan.give(stamp(), build.udp((PEER4, 9), (US4, 4), b""))
    kinds = [answer.payload[0] for answer in lan.take()]
    assert (kinds.count(14), kinds.count(3)) == (6, 10)


def test_pings_to_all_may_be_answered_if_the_operator_wants():
    lan = Lan(sysctl=Sysctl(icmp_echo_ignore_broadcasts=0, icmp6_echo_ignore_multicast=1))
    lan.give(build.icmp(PEER4, BROADCAST4, 8, 0, 1, b""), build.icmp(PEER6, parse_addr("ff02::1"), 128, 0, 1, b""))
    assert [answer.src for answer in lan.take()] == [US4]


@pytest.mark.rfc("7126", "4.3")
@pytest.mark.rfc("5095", "3")
def test_source_routes_are_refused(lan):
    endpoint = bound(lan)
    ip = dpkt.ip.IP(src=PEER4, dst=US4, p=17, data=build.udp((PEER4, 9), (US4, 7), b"")[30:])
    ip.hl, ip.opts = 7, b"\x83\x07\x04\x0a\x40\0\x09\0"
    route = build.udp((PEER6, 9), (US6, 7), b"")[10:]
    header = b"\x11\x02\x00\x01\0\0\0\0" + PEER6
    route = route[:4] + (len(route) - 40 + 24).to_bytes(2, "big") + b"\x2b" + route[7:40] + header + route[40:]
    lan.give(bytes(10) + bytes(ip), bytes(10) + route)
    assert endpoint.queued == 0
    assert [answer.payload[0] for answer in lan.take()] == [4]  # IPv6 wants a parameter problem, IPv4 silence


# --- path MTU


@pytest.mark.rfc("1191", "6.3")
@pytest.mark.rfc("8201", "4")
def test_an_established_connection_tries_larger_segments_when_the_lesson_is_old(ends):
    lan = Lan()
    lan.stack.pmtu.learn(ends[0], 1300, 1500, 0)
    conn = lan.stack.tcp.connect((ends[0], 80), 0)
    (syn,) = lan.take()
    lan.give(
        build.tcp(
            (ends[0], 80), (ends[1], syn.sport), build.SYN | build.ACK, 9, syn.seq + 1, options=build.opt_mss(9000)
        )
    )
    lan.raw()
    assert conn.mtu == 1300
    lan.pass_time(599 * SEC)
    assert conn.mtu == 1300
    lan.pass_time(2 * SEC)
    assert conn.mtu == 1500
    conn.send(bytes(5000))
    sizes = [decode(packet).gso_size or len(decode(packet).payload) for packet in lan.raw()]
    assert max(sizes) == 1500 - (40 if len(ends[0]) == 4 else 60)


def test_a_link_whose_mtu_grows_does_not_make_paths_forget(lan, ends):
    conn = lan.stack.tcp.connect((ends[0], 80), 0)
    lan.stack.pmtu.learn(ends[0], 1400, 1500, 0)
    lan.stack.set_link_mtu(lan.link, 1350)
    assert conn.mtu == 1350
    lan.stack.set_link_mtu(lan.link, 9000)
    assert conn.mtu == 1400
