"""ICMP: echo, errors sent, errors understood. Messages are built by hand, answers judged by dpkt."""

import errno
import random
from struct import pack

import dpkt
import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers, sampled_from

from kit import build
from kit.lan import BROADCAST4, ENDS, PEER4, PEER6, US4, US6, Lan, fragments
from stack.config import Sysctl
from stack.events import FAILED
from stack.ip.addr import parse_addr
from stack.ip.icmp_errno import errno4, errno6
from stack.tcp.tcb import Tcb
from stack.units import MSEC, SEC
from stack.wire import icmp as wire

ECHO = {4: (8, 0), 16: (128, 129)}


def ping(ends, body, rest=0x12340001):
    return build.icmp(ends[0], ends[1], ECHO[len(ends[0])][0], 0, rest, body)


# --- echo


@given(sampled_from(["v4", "v6"]), binary(max_size=200), integers(0, 2**32 - 1))
def test_a_ping_comes_back_with_its_payload(family, body, rest):
    lan, ends = Lan(), ENDS[family]
    lan.give(ping(ends, body, rest))
    (pong,) = lan.take()
    assert (pong.src, pong.dst) == (ends[1], ends[0])
    assert pong.payload[0] == ECHO[len(ends[0])][1]
    assert pong.payload[4:] == pack("!I", rest) + body


@pytest.mark.parametrize("offload", [True, False])
def test_the_largest_ping_comes_back(ends, offload):
    lan = Lan(offload=offload)
    body = random.Random(2).randbytes(65507 if len(ends[0]) == 4 else 65527)
    lan.give(*fragments(_big_ping(ends, body), 1448))
    packets = lan.raw()
    assert len(packets) > 40
    pong = b"".join(packet[30 if len(ends[0]) == 4 else 58 :] for packet in packets)
    assert pong[8:] == body


def _big_ping(ends, body):
    """As `ping`, but with lengths that dpkt refuses to put into a header; the fragments carry right ones."""
    message = pack("!BBHI", ECHO[len(ends[0])][0], 0, 0, 1) + body
    covered = message if len(ends[0]) == 4 else ends[0] + ends[1] + pack("!II", len(message), 58) + message
    message = message[:2] + pack("!H", dpkt.dpkt.in_cksum(covered)) + message[4:]
    template = ping(ends, b"")
    return template[: 30 if len(ends[0]) == 4 else 50] + message


@pytest.mark.rfc("1122", "3.2.2.6")
def test_broadcast_pings_are_not_amplified(lan):
    for dst in (BROADCAST4, parse_addr("255.255.255.255"), parse_addr("224.0.0.1")):
        lan.give(ping((PEER4, dst), b"smurf"))
    assert lan.take() == []
    assert lan["IcmpInEchos"] == 3


@pytest.mark.rfc("4443", "4.2")
def test_a_multicast_ping6_is_answered_from_an_address_of_ours(lan):
    lan.give(ping((PEER6, parse_addr("ff02::1")), b"who is there"))
    (pong,) = lan.take()
    assert (pong.src, pong.dst) == (US6, PEER6)


def test_echo_can_be_switched_off(ends):
    lan = Lan(sysctl=Sysctl(icmp_echo_ignore_all=1, icmp6_echo_ignore_all=1))
    lan.give(ping(ends, b""))
    assert lan.take() == []


def test_a_bad_checksum_and_a_stump_are_counted(lan, ends):
    good = ping(ends, b"payload")
    lan.give(good[:-1] + b"?", build.ip(*ends, 1 if len(ends[0]) == 4 else 58, b"\x08\0\xf7"))
    family = "Icmp" if len(ends[0]) == 4 else "Icmp6"
    assert (lan[family + "InCsumErrors"], lan[family + "InErrors"], lan[family + "InMsgs"]) == (1, 2, 2)
    assert lan.take() == []


# --- errors out


def closed_port(ends, payload=b"nobody home"):
    return build.udp((ends[0], 9), (ends[1], 4), payload)


@pytest.mark.rfc("1122", "4.1.3.1")
def test_a_datagram_for_a_closed_port_is_answered(lan, ends):
    packet = closed_port(ends)
    lan.give(packet)
    (answer,) = lan.take()
    v4 = len(ends[0]) == 4
    assert answer.payload[:2] == (b"\x03\x03" if v4 else b"\x01\x04")
    assert answer.payload[8:] == packet[10:]
    assert (answer.src, answer.dst, answer.tos) == (ends[1], ends[0], 0xC0 if v4 else 0)
    assert lan["UdpNoPorts" if v4 else "Udp6NoPorts"] == 1


@pytest.mark.rfc("1812", "4.3.2.3")
@pytest.mark.parametrize(("family", "size"), [("v4", 576), ("v6", 1280)])
def test_an_error_quotes_much_but_fits_everywhere(lan, family, size):
    lan.give(closed_port(ENDS[family], bytes(1400)))
    (answer,) = lan.take()
    assert len(answer.raw) - 10 == size


@pytest.mark.rfc("1122", "3.2.2")
def test_errors_are_never_about_errors_or_groups(lan):
    error4 = build.icmp(PEER4, US4, 3, 2, 0, build.ip(US4, PEER4, 253, bytes(8))[10:])
    lan.give(
        error4,
        build.udp((PEER4, 9), (BROADCAST4, 4), b""),
        build.udp((PEER4, 9), (parse_addr("224.0.0.1"), 4), b""),
        build.udp((PEER6, 9), (parse_addr("ff02::1"), 4), b""),
        build.icmp(PEER6, US6, 1, 4, 0, build.ip(US6, PEER6, 253, bytes(8))[10:]),
        build.icmp(PEER6, US6, 100, 0, 0, bytes(8)),
        build.icmp(PEER4, US4, 99, 0, 0, bytes(8)),
    )
    assert lan.take() == []


def test_errors_to_one_target_are_limited(lan, ends):
    for _ in range(20):
        lan.give(closed_port(ends))
    assert len(lan.take()) == 6
    assert lan["IcmpOutRateLimitHost" if len(ends[0]) == 4 else "Icmp6OutRateLimitHost"] == 14
    lan.pass_time(SEC)
    lan.give(closed_port(ends), closed_port(ends))
    assert len(lan.take()) == 1


def test_errors_to_all_targets_are_limited(lan):
    for host in range(100):
        lan.give(closed_port((parse_addr(f"192.0.2.{host + 1}"), US4)))
    assert len(lan.take()) == 50
    assert lan["IcmpOutRateLimitGlobal"] == 50
    lan.pass_time(MSEC)
    for host in range(100):
        lan.give(closed_port((parse_addr(f"198.51.100.{host + 1}"), US4)))
    assert len(lan.take()) == 10


def test_the_table_of_rate_limited_targets_is_bounded():
    lan = Lan(sysctl=Sysctl(icmp_msgs_burst=10_000))
    packet = closed_port(ENDS["v4"])
    for host in range(3000):
        src = bytes((11, 0, host >> 8, host & 0xFF))
        lan.stack.receive(build.udp((src, 9), (US4, 4), b"") if not host % 500 else _resent(packet, src), 0, lan.link)
    lan.stack.check()
    assert lan["IcmpOutDestUnreachs"] == 3000


def _resent(packet, src):
    net = bytearray(packet[10:])
    net[10:16] = b"\0\0" + src
    net[10:12] = dpkt.dpkt.in_cksum(bytes(net[:20])).to_bytes(2, "big")
    return b"\x02" + bytes(9) + bytes(net)  # DATA_VALID: only the header checksum is right


# --- errors in


def talking(lan, ends, payload=b"hello?"):
    """A connected UDP endpoint and the datagram it sent."""
    endpoint = lan.stack.udp.open(len(ends[0]) == 16)
    endpoint.connect((ends[0], 99))
    endpoint.sendto(payload, None, 0)
    (packet,) = lan.raw()
    return endpoint, packet


def unreachable(ends, packet, code4, code6, **kw):
    kind, code = (3, code4) if len(ends[0]) == 4 else (1, code6)
    return build.icmp_about(packet, ends[0], kind, code, **kw)


def test_a_refused_datagram_fails_its_connected_endpoint_once(lan, ends):
    endpoint, packet = talking(lan, ends)
    lan.give(unreachable(ends, packet, 3, 4))
    assert lan.stack.poll_event() == (endpoint, FAILED)
    with pytest.raises(OSError, match="ECONNREFUSED"):
        endpoint.sendto(b"again", None, 0)
    endpoint.sendto(b"again", None, 0)


def test_a_soft_error_is_not_reported(lan, ends):
    endpoint, packet = talking(lan, ends)
    lan.give(unreachable(ends, packet, 1, 3))
    assert endpoint.error == 0
    assert lan["NuseIcmpUnmatched"] == 0


def test_an_unconnected_endpoint_hears_of_no_error(lan, ends):
    endpoint = lan.stack.udp.open(len(ends[0]) == 16)
    endpoint.sendto(b"hello?", (ends[0], 99), 0)
    lan.give(unreachable(ends, lan.raw()[0], 3, 4))
    assert endpoint.error == 0
    assert lan["NuseIcmpUnmatched"] == 0


@pytest.mark.rfc("5927", "4")
def test_an_error_about_what_we_never_sent_is_counted_and_forgotten(lan, ends):
    endpoint, packet = talking(lan, ends)
    local = 20 if len(ends[0]) == 4 else 40
    forged = bytearray(packet)
    forged[10 + local + 1] ^= 1  # another local port
    lan.give(
        unreachable(ends, bytes(forged), 3, 4),
        build.icmp(*ends, *((3, 3) if len(ends[0]) == 4 else (1, 4)), 0, closed_port(ends)[10:]),
        unreachable(ends, packet, 3, 4, quote=local + 7),
    )
    assert endpoint.error == 0
    assert lan["NuseIcmpUnmatched"] == 3


def test_an_error_that_quotes_no_packet_is_malformed(lan, ends):
    kind = 3 if len(ends[0]) == 4 else 1
    lan.give(build.icmp(*ends, kind, 1, 0, b""), build.icmp(*ends, kind, 1, 0, bytes(60)))
    assert lan["NuseInMalformed"] >= 1


def too_big(ends, packet, mtu):
    if len(ends[0]) == 4:
        return build.icmp_about(packet, ends[0], 3, 4, mtu)
    return build.icmp_about(packet, ends[0], 2, 0, mtu)


@pytest.mark.rfc("1191", "4")
@pytest.mark.rfc("8201", "4")
def test_a_packet_too_big_teaches_the_path_mtu(lan, ends):
    endpoint, packet = talking(lan, ends, bytes(1400))
    lan.give(too_big(ends, packet, 1300))
    assert lan.stack.route(ends[0]).mtu == 1300
    with pytest.raises(OSError, match="EMSGSIZE"):
        endpoint.sendto(bytes(1400), None, 0)
    endpoint.sendto(bytes(1400), None, 0)
    assert [len(packet) <= 1310 for packet in lan.raw()] == [True, True]
    lan.pass_time(600 * SEC)
    assert lan.stack.route(ends[0]).mtu == 1500


def test_a_router_without_rfc_1191_names_no_mtu(lan):
    _endpoint, packet = talking(lan, ENDS["v4"], bytes(1400))
    lan.give(too_big(ENDS["v4"], packet, 0))
    assert lan.stack.route(PEER4).mtu == 1006  # the next plateau below the 1428 bytes that were quoted


def test_a_path_mtu_is_learned_only_from_a_packet_of_ours(lan, ends):
    _endpoint, _packet = talking(lan, ends)
    lan.give(too_big(ends, closed_port((ends[1], ends[0])), 600))
    assert lan.stack.route(ends[0]).mtu == 1500
    assert lan["NuseIcmpUnmatched"] == 1


@pytest.mark.rfc("5927", "4.1")
@pytest.mark.parametrize(("seq", "believed"), [(0, True), (1, True), (-1, False), (2, False)])
def test_a_path_mtu_is_learned_from_segments_in_flight_only(lan, ends, seq, believed):
    conn = lan.stack.tcp.connect((ends[0], 80), 0)
    (syn,) = lan.raw()
    assert isinstance(conn.tcb, Tcb)
    at = 10 + (20 if len(ends[0]) == 4 else 40) + 4
    quoted = int.from_bytes(syn[at : at + 4], "big") + seq & 0xFFFFFFFF
    lan.give(too_big(ends, syn[:at] + quoted.to_bytes(4, "big") + syn[at + 4 :], 1300))
    assert lan.stack.route(ends[0]).mtu == (1300 if believed else 1500)
    assert conn.mtu == (1300 if believed else 1500)


def test_a_connection_attempt_fails_with_the_errno_of_the_error(lan, ends):
    conn = lan.stack.tcp.connect((ends[0], 80), 0)
    (syn,) = lan.raw()
    lan.give(unreachable(ends, syn, 1, 3))
    assert conn.error == errno.EHOSTUNREACH
    assert lan.stack.poll_event()[1] & FAILED


def test_redirects_change_nothing(lan):
    before = [(entry.prefix, entry.length, entry.link) for entry in lan.stack.routes.entries()]
    _endpoint, packet = talking(lan, ENDS["v4"])
    lan.give(build.icmp_about(packet, PEER4, 5, 1, int.from_bytes(parse_addr("10.64.0.66"), "big")))
    lan.give(build.icmp(PEER6, US6, 137, 0, 0, bytes(32)))
    assert [(entry.prefix, entry.length, entry.link) for entry in lan.stack.routes.entries()] == before
    assert (lan["IcmpInRedirects"], lan["Icmp6InRedirects"]) == (1, 1)


def test_errnos_are_linux_ones():
    assert [errno4(wire.UNREACHABLE, code) for code in (0, 1, 2, 3, 13)] == [
        (errno.ENETUNREACH, False),
        (errno.EHOSTUNREACH, False),
        (errno.ENOPROTOOPT, True),
        (errno.ECONNREFUSED, True),
        (errno.EHOSTUNREACH, True),
    ]
    assert errno4(wire.UNREACHABLE, 16) is None
    assert errno4(wire.TIME_EXCEEDED, 0) == (errno.EHOSTUNREACH, False)
    assert errno6(wire.UNREACHABLE6, 4) == (errno.ECONNREFUSED, True)
    assert errno6(wire.UNREACHABLE6, 1) == (errno.EACCES, True)
    assert errno6(wire.UNREACHABLE6, 99) == errno6(wire.PARAM_PROBLEM6, 0) == (errno.EPROTO, True)


@given(sampled_from(["v4", "v6"]), integers(0, 15), integers(0, 20), integers(0, 2**32 - 1), binary(max_size=150))
def test_whatever_an_error_quotes_nothing_worse_than_a_counter_comes_of_it(family, kind, code, rest, quote):
    lan, ends = Lan(), ENDS[family]
    lan.give(build.icmp(*ends, kind, code, rest, quote))


@given(integers(0, 127), binary(min_size=1, max_size=1))
def test_a_quote_with_a_wrong_byte_is_no_worse(at, byte):
    for ends in ENDS.values():
        lan = Lan()
        _endpoint, packet = talking(lan, ends)
        forged = bytearray(packet)
        forged[10 + at % (len(packet) - 10)] = byte[0]
        try:
            error = unreachable(ends, bytes(forged), 3, 4)
        except dpkt.UnpackError:  # the forged packet is none that dpkt would carry
            continue
        lan.give(error)
