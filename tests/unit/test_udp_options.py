"""What options and ancillary data make of a datagram: TTL, path MTU modes, GSO and GRO, flow labels, links, buffers."""

import errno
import random
from struct import pack

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers, sampled_from

from kit import build
from kit.lan import ENDS, PEER4, PEER6, US4, US6, Lan, bound, refused
from kit.oracle import decode, segments
from stack.config import Sysctl
from stack.dgram_options import DO, DONT, INTERFACE, OMIT, PROBE, WANT, SendControl
from stack.events import WRITABLE
from stack.ip.addr import ANY4, LOOPBACK4, parse_addr

OTHER4 = parse_addr("10.64.1.2")


# --- path MTU discovery modes (IP_MTU_DISCOVER)


@pytest.mark.rfc("1191", "3")
@pytest.mark.parametrize(
    ("mode", "fits", "fits_link", "too_big"),
    [
        # DF of a datagram that fits the path of 1300; packets that one makes which fits the link only, or not even that
        (DONT, False, 2, 2),
        (WANT, True, 2, 2),
        (DO, True, None, None),
        (PROBE, True, 1, None),
        (INTERFACE, False, 1, None),
        (OMIT, False, 1, 2),
    ],
)
def test_path_mtu_modes_over_ipv4(lan, mode, fits, fits_link, too_big):
    lan.stack.pmtu.learn(PEER4, 1300, 1500, 0)
    endpoint = bound(lan, US4)
    endpoint.options.mtu_discover = mode
    endpoint.sendto(bytes(100), (PEER4, 9), 0)
    assert decode(lan.raw()[0]).df is fits
    for size, outcome in ((1400, fits_link), (1480, too_big)):
        if outcome is None:
            with refused(errno.EMSGSIZE):
                endpoint.sendto(bytes(size), (PEER4, 9), 0)
        else:
            endpoint.sendto(bytes(size), (PEER4, 9), 0)
            assert len(lan.raw()) == outcome


@pytest.mark.rfc("8201", "5.1")
@pytest.mark.parametrize(("mode", "sent"), [(DONT, 2), (WANT, 2), (DO, 0), (PROBE, 1), (INTERFACE, 1), (OMIT, 1)])
def test_path_mtu_modes_over_ipv6(lan, mode, sent):
    lan.stack.pmtu.learn(PEER6, 1300, 1500, 0)
    endpoint = bound(lan, US6)
    endpoint.options.mtu_discover6 = mode
    if sent:
        endpoint.sendto(bytes(1400), (PEER6, 9), 0)
        assert len(lan.raw()) == sent
    else:
        with refused(errno.EMSGSIZE):
            endpoint.sendto(bytes(1400), (PEER6, 9), 0)


@pytest.mark.rfc("8900", "6.1")
def test_one_datagram_may_forbid_its_fragmentation(lan, ends):
    endpoint = bound(lan, ends[1])
    with refused(errno.EMSGSIZE):
        endpoint.sendto(bytes(1480), (ends[0], 9), 0, SendControl(dontfrag=True))
    endpoint.sendto(bytes(1480), (ends[0], 9), 0)
    assert len(lan.raw()) == 2


# --- ancillary data


def test_ancillary_data_beats_the_options_for_one_datagram(lan, ends):
    endpoint = bound(lan, ends[1])
    endpoint.options.ttl = 9
    endpoint.sendto(b"", (ends[0], 9), 0, SendControl(ttl=3, tos=0x48))
    endpoint.sendto(b"", (ends[0], 9), 0)
    assert [(packet.ttl, packet.tos) for packet in lan.take()] == [(3, 0x48), (9, 0)]


def test_ancillary_data_chooses_the_source_and_the_link(lan):
    other = lan.stack.add_link("tun1", [(OTHER4, 24)])
    endpoint = bound(lan, ANY4)
    endpoint.sendto(b"", (PEER4, 9), 0, SendControl(src=OTHER4))
    endpoint.sendto(b"", (PEER4, 9), 0, SendControl(link=other))
    endpoint.sendto(b"", (PEER4, 9), 0)
    sent = [lan.stack.poll_transmit(0) for _ in range(3)]
    assert [link for link, _ in sent] == [other, other, lan.link]
    assert [decode(iovec).src for _, iovec in sent] == [OTHER4, OTHER4, US4]


def test_an_endpoint_bound_to_a_link_uses_and_hears_that_one_only(lan):
    other = lan.stack.add_link("tun1", [(OTHER4, 24)])
    endpoint = bound(lan, ANY4)
    endpoint.sendto(b"", (PEER4, 9), 0)
    endpoint.options.link = other
    endpoint.sendto(b"", (PEER4, 9), 0)
    assert [lan.stack.poll_transmit(0)[0] for _ in range(2)] == [lan.link, other]
    lan.give(build.udp((PEER4, 9), (US4, 7), b"wrong link"))
    lan.stack.receive(build.udp((PEER4, 9), (OTHER4, 7), b"right link"), 0, other)
    assert bytes(endpoint.recv().data) == b"right link"
    rest = bound(lan, ANY4, 8)
    assert rest.queued == endpoint.queued == 0


def test_a_link_bound_endpoint_is_more_specific(lan):
    plain = bound(lan, ANY4, reuseaddr=True)
    linked = bound(lan, ANY4, reuseaddr=True)
    linked.options.link = lan.link
    newest = bound(lan, ANY4, reuseaddr=True)
    lan.give(build.udp((PEER4, 9), (US4, 7), b""))
    assert [one.queued for one in (plain, linked, newest)] == [0, 1, 0]


def test_a_remembered_route_is_forgotten_when_anything_changes(lan, ends):
    endpoint = bound(lan, ends[1])
    endpoint.options.mtu_discover = endpoint.options.mtu_discover6 = DO
    endpoint.connect((ends[0], 9))
    endpoint.sendto(bytes(1400), None, 0)
    lan.stack.pmtu.learn(ends[0], 1300, 1500, 0)
    with refused(errno.EMSGSIZE):
        endpoint.sendto(bytes(1400), None, 0)
    lan.pass_time(600 * 10**9)
    endpoint.sendto(bytes(1400), None, 0)
    lan.stack.set_link_mtu(lan.link, 1300)
    with refused(errno.EMSGSIZE):
        endpoint.sendto(bytes(1400), None, 0)
    lan.stack.set_link_up(lan.link, False)
    with refused(errno.ENETUNREACH):
        endpoint.sendto(b"", None, 0)


# --- UDP_SEGMENT and UDP_GRO


@given(sampled_from(["v4", "v6"]), booleans(), integers(1, 1400), integers(1, 9000))
def test_udp_segment_cuts_alike_with_and_without_offload(family, offload, size, total):
    lan, (peer, us) = Lan(offload=offload), ENDS[family]
    endpoint = bound(lan, us)
    payload = random.Random(total).randbytes(total)
    endpoint.options.gso_size = size
    if total > size * 128:
        with refused(errno.EINVAL):
            endpoint.sendto(payload, (peer, 9), 0)
        return
    endpoint.sendto(payload, (peer, 9), 0)
    raw = lan.raw()
    if offload:
        assert len(raw) == 1
        assert decode(raw[0], mtu=1500).gso_size == (size if total > size else 0)
    wire = [decode(piece) for packet in raw for piece in segments(packet)]
    assert [packet.payload for packet in wire] == [payload[at : at + size] for at in range(0, total, size)]
    assert {(packet.sport, packet.dport, packet.src, packet.dst) for packet in wire} == {(7, 9, us, peer)}


def test_what_udp_segment_refuses(lan, ends):
    endpoint = bound(lan, ends[1])
    for size, total in ((1481, 3000), (10, 1290)):
        with refused(errno.EINVAL):
            endpoint.sendto(bytes(total), (ends[0], 9), 0, SendControl(gso_size=size))


def test_udp_gro_takes_a_super_datagram_whole(lan, ends):
    endpoint = bound(lan)
    endpoint.options.gro = True
    body = random.Random(4).randbytes(5500)
    packet = build.udp((ends[0], 9), (ends[1], 7), body)[10:]
    lan.give(pack("=BBHHHH", 1, 5, 0, 1000, 0, 0) + packet, build.udp((ends[0], 9), (ends[1], 7), b"single"))
    whole, single = endpoint.recv(), endpoint.recv()
    assert (bytes(whole.data), whole.segment) == (body, 1000)
    assert (bytes(single.data), single.segment) == (b"single", 0)


@pytest.mark.parametrize("gro", [True, False])
def test_a_super_datagram_to_ourselves_arrives_as_it_would_from_elsewhere(lan, gro):
    server, client = bound(lan, ANY4), lan.stack.udp.open(False)
    server.options.gro = gro
    client.sendto(bytes(2500), (LOOPBACK4, 7), 0, SendControl(gso_size=1000))
    assert lan.raw() == []
    sizes = [len(server.recv().data) for _ in range(server.queued)]
    assert sizes == ([2500] if gro else [1000, 1000, 500])


# --- flow labels


@pytest.mark.rfc("6437", "3")
def test_each_flow_has_a_label_of_its_own(lan):
    labels = {}
    endpoint = bound(lan, US6)
    for port in (1, 2, 3, 1):
        endpoint.sendto(bytes(3000) if port == 3 else b"", (PEER6, port), 0)
        for raw in lan.raw():
            label = int.from_bytes(raw[10:14], "big") & 0xFFFFF
            assert labels.setdefault(port, label) == label != 0
    assert len(set(labels.values())) == 3


@pytest.mark.parametrize(
    ("knob", "wish", "labelled"),
    [
        (0, None, False),
        (0, True, False),
        (1, None, True),
        (1, False, False),
        (2, None, False),
        (2, True, True),
        (3, False, True),
    ],
)
def test_auto_flowlabels(knob, wish, labelled):
    lan = Lan(sysctl=Sysctl(auto_flowlabels=knob))
    endpoint = bound(lan, US6)
    endpoint.options.autoflowlabel = wish
    endpoint.sendto(b"", (PEER6, 9), 0)
    assert bool(lan.take()[0].ident) is labelled


# --- the rest


@pytest.mark.rfc("768", "fields")
def test_so_no_check_leaves_the_checksum_out_over_ipv4_only(lan):
    for peer, us, zero in ((PEER4, US4, True), (PEER6, US6, False)):
        endpoint = bound(lan, us)
        endpoint.options.no_check = True
        endpoint.sendto(b"data", (peer, 9), 0)
        at = 36 if zero else 56
        assert (lan.raw()[0][at : at + 2] == b"\0\0") is zero
        endpoint.close()


def test_the_send_buffer_says_when_to_wait_and_when_to_go_on(lan, ends):
    endpoint = bound(lan, ends[1])
    endpoint.options.sndbuf = 10_000
    sent = 0
    while endpoint.send_space > 0:
        endpoint.sendto(bytes(1000), (ends[0], 9), 0)
        sent += 1
    assert sent == 8
    assert lan.stack.poll_event() is None
    lan.raw()
    assert lan.stack.poll_event() == (endpoint, WRITABLE)
    assert endpoint.send_space == 10_000
    lan.raw()
    assert lan.stack.poll_event() is None


def test_every_address_of_127_can_be_bound_and_reached(lan):
    one, two = parse_addr("127.1.2.3"), parse_addr("127.255.0.9")
    server, client = bound(lan, one), bound(lan, two, 8)
    client.sendto(b"hello", (one, 7), 0)
    assert lan.raw() == []
    got = server.recv()
    assert (got.addr, got.port, got.dst) == (two, 8, one)
    server.sendto(b"answer", (two, 8), 0)
    lan.raw()
    assert client.recv().addr == one
    conns = lan.stack.tcp.listen(lan.stack.tcp.bind(two, 80), 5)
    conn = lan.stack.tcp.connect((two, 80), 0, local_addr=one)
    lan.raw()
    assert conn.established
    assert conns.accept().remote[0] == one


def test_reuseport_takes_the_whole_four_tuple_into_account(lan):
    group = [bound(lan, ANY4, reuseport=True) for _ in range(4)]
    lan.stack.add_addr(lan.link, parse_addr("10.64.0.3"), 24)
    seen = set()
    for dst in (US4, parse_addr("10.64.0.3")):
        for sport in range(1, 60):
            lan.give(build.udp((PEER4, sport), (dst, 7), b""))
            (got,) = [one for one in group if one.queued]
            got.recv()
            seen.add((dst, sport, group.index(got)))
    choices = {dst: [index for d, _s, index in sorted(seen) if d == dst] for dst, _s, _i in seen}
    assert len(set(map(tuple, choices.values()))) == 2


def test_a_connected_member_of_a_reuseport_group_is_preferred(lan):
    group = [bound(lan, US4, reuseport=True) for _ in range(3)]
    group[0].connect((PEER4, 9))
    for _ in range(5):
        lan.give(build.udp((PEER4, 9), (US4, 7), b""))
    lan.give(*[build.udp((PEER4, sport), (US4, 7), b"") for sport in range(20, 40)])
    assert group[0].queued == 5
    assert group[1].queued + group[2].queued == 20
