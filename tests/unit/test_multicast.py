"""Groups: who hears what, and which reports that makes. IGMPv3 (RFC 3376), MLDv2 (RFC 3810) and their predecessors.

Reports are read here by hand: dpkt knows IGMPv1 only; tests/live/test_multicast_live.py asks the kernel.
"""

import errno
from struct import pack, unpack

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, integers, lists, sampled_from, sets, tuples

from kit import build
from kit.lan import PEER4, PEER6, US4, US6, Lan, refused
from stack.config import Sysctl
from stack.ip.addr import ANY4, ANY6, parse_addr
from stack.units import MSEC, SEC

GROUP4, GROUP6 = parse_addr("239.1.2.3"), parse_addr("ff05::1:3")
SOURCES4 = [parse_addr(f"10.64.0.{n}") for n in range(10, 90)]
SOURCES6 = [parse_addr(f"fd64::{n}") for n in range(10, 90)]
LINK_LOCAL = parse_addr("fe80::1")
IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = 1, 2, 3, 4, 5, 6


class Side:
    """One address family: its addresses, and how its messages are read and written."""

    def __init__(self, v6):
        self.v6 = v6
        self.us, self.peer = (US6, PEER6) if v6 else (US4, PEER4)
        self.any, self.group = (ANY6, GROUP6) if v6 else (ANY4, GROUP4)
        self.sources = SOURCES6 if v6 else SOURCES4

    def records(self, lan):
        """Records of all v3/v2 reports that the stack has to send: (kind, group, sources)."""
        found = []
        for raw in lan.raw():
            body = self.message(raw)
            assert body[0] == (143 if self.v6 else 0x22)
            size, at = (16 if self.v6 else 4), 8
            for _ in range(unpack("!H", body[6:8])[0]):
                kind, _aux, count = unpack("!BBH", body[at : at + 4])
                addrs = [body[at + 4 + i * size : at + 4 + (i + 1) * size] for i in range(count + 1)]
                found.append((kind, addrs[0], addrs[1:]))
                at += 4 + size * (count + 1)
            assert at == len(body)
        return found

    def message(self, raw):
        """What follows the headers, which are checked."""
        net = raw[10:]
        if self.v6:
            assert net[6:8] == b"\0\x01", "hop-by-hop options, hop limit 1"
            assert net[40:48] == bytes.fromhex("3a000502 00000100"), "router alert"
            covered = net[8:40] + pack("!II", len(net) - 48, 58) + net[48:]
            assert word_sum(covered) == 0
            return net[48:]
        assert (net[0], net[1], net[8], net[9]) == (0x46, 0xC0, 1, 2)
        assert net[20:24] == b"\x94\x04\0\0", "router alert"
        assert word_sum(net[:24]) == word_sum(net[24:]) == 0
        return net[24:]

    def query(self, group=b"", sources=(), code=None, qrv=2):
        """A v3/v2 query; `code` is the maximum response code, one second if not given."""
        group = group or bytes(len(self.us))
        if self.v6:
            body = pack("!BBHHH", 130, 0, 0, 1000 if code is None else code, 0) + group
            body += pack("!BBH", qrv, 125, len(sources)) + b"".join(sources)
            dst = parse_addr("ff02::1") if not any(group) else group
            return mld(LINK_LOCAL, dst, body)
        body = pack("!BBH", 0x11, 10 if code is None else code, 0) + group + pack("!BBH", qrv, 125, len(sources))
        return igmp(self.peer, b"".join([body, *sources]))


def word_sum(data):
    return int.from_bytes(data + bytes(len(data) & 1), "big") % 0xFFFF


def igmp(src, body, dst="224.0.0.1"):
    body = body[:2] + (-word_sum(body) % 0xFFFF).to_bytes(2, "big") + body[4:]
    return build.ip(src, parse_addr(dst), 2, body, ttl=1)


def mld(src, dst, body, hops=1, alert=b"\x3a\0\x05\x02\0\0\x01\0"):
    total = word_sum(src + dst + pack("!II", len(body), 58) + body)
    body = body[:2] + (-total % 0xFFFF).to_bytes(2, "big") + body[4:]
    return build.ip(src, dst, 0, alert + body, ttl=hops)


@pytest.fixture(params=["v4", "v6"])
def side(request):
    return Side(request.param == "v6")


def opened(lan, side, port=7):
    endpoint = lan.stack.udp.open(side.v6)
    endpoint.bind(side.any, port, reuseaddr=True)
    return endpoint


def settled(lan):
    """Let all repetitions go by."""
    lan.pass_time(10 * SEC)
    lan.raw()


# --- joining and leaving


@pytest.mark.rfc("3376", "5.1")
@pytest.mark.rfc("3810", "6.1")
def test_a_join_is_reported_at_once_and_once_more_within_a_second(lan, side):
    opened(lan, side).join(side.group)
    assert side.records(lan) == [(TO_EX, side.group, [])]
    assert 0 < lan.stack.poll_timeout() <= SEC
    lan.pass_time(SEC)
    assert side.records(lan) == [(TO_EX, side.group, [])]
    assert lan.stack.poll_timeout() is None


@pytest.mark.rfc("3376", "5.1")
@pytest.mark.rfc("3810", "6.1")
def test_the_last_leave_is_reported_and_others_are_not(lan, side):
    first, second = opened(lan, side), opened(lan, side)
    first.join(side.group)
    settled(lan)
    second.join(side.group)
    first.leave(side.group)
    assert side.records(lan) == []
    second.close()
    assert side.records(lan) == [(TO_IN, side.group, [])]
    lan.pass_time(SEC)
    assert side.records(lan) == [(TO_IN, side.group, [])]
    assert lan.stack.multicast.groups() == []
    assert lan.stack.poll_timeout() is None


@pytest.mark.rfc("3376", "8.1")
@pytest.mark.rfc("3810", "9.1")
def test_the_robustness_variable_says_how_often():
    for side in (Side(False), Side(True)):
        lan = Lan(sysctl=Sysctl(igmp_qrv=4, mld_qrv=4))
        opened(lan, side).join(side.group)
        lan.pass_time(10 * SEC)
        assert len(side.records(lan)) == 4


@pytest.mark.rfc("3376", "5.1")
@pytest.mark.rfc("3810", "6.1")
def test_source_changes_are_reported_as_differences(lan, side):
    endpoint, (a, b, c, *_) = opened(lan, side), side.sources
    endpoint.join(side.group, source=a)
    assert side.records(lan) == [(ALLOW, side.group, [a])]
    settled(lan)
    endpoint.set_filter(side.group, [b, c], include=True)
    assert side.records(lan) == [(ALLOW, side.group, [b, c]), (BLOCK, side.group, [a])]
    settled(lan)
    endpoint.set_filter(side.group, [a], include=False)
    assert side.records(lan) == [(TO_EX, side.group, [a])]
    settled(lan)
    endpoint.block(side.group, b)
    assert side.records(lan) == [(BLOCK, side.group, [b])]
    settled(lan)
    endpoint.block(side.group, a, unblock=True)
    assert side.records(lan) == [(ALLOW, side.group, [a])]
    settled(lan)
    endpoint.set_filter(side.group, [c], include=True)
    assert side.records(lan) == [(TO_IN, side.group, [c])]
    settled(lan)
    endpoint.leave(side.group, source=c)
    assert side.records(lan) == [(BLOCK, side.group, [c])]


@pytest.mark.rfc("3376", "5.1")
def test_a_change_during_repetitions_joins_them(lan, side):
    endpoint, (a, b, *_) = opened(lan, side), side.sources
    endpoint.join(side.group, source=a)
    endpoint.join(side.group, source=b)
    assert side.records(lan) == [(ALLOW, side.group, [a]), (ALLOW, side.group, [a, b])]
    lan.pass_time(SEC)
    assert side.records(lan) == [(ALLOW, side.group, [b])]
    endpoint.set_filter(side.group, [], include=False)
    endpoint.block(side.group, a)
    assert side.records(lan) == [(TO_EX, side.group, []), (TO_EX, side.group, [a])]


@pytest.mark.rfc("3376", "3.2")
@pytest.mark.rfc("3810", "4.2")
@given(
    lists(tuples(sampled_from([True, False]), sets(integers(0, 7), max_size=5)), min_size=1, max_size=5),
    integers(0, 8),
    sampled_from([False, True]),
)
def test_the_links_filter_is_the_union_of_its_endpoints(filters, index, v6):
    side, lan = Side(v6), Lan()
    endpoints = [opened(lan, side) for _ in filters]
    for endpoint, (include, chosen) in zip(endpoints, filters, strict=True):
        if chosen or not include:
            endpoint.set_filter(side.group, [side.sources[i] for i in chosen], include=include)
    lan.stack.check()
    source = side.sources[index]
    wanted = [(index in chosen) is include for include, chosen in filters]
    assert lan.stack.multicast.accepts(side.group, source, lan.link) is any(wanted)
    joined = [bool(chosen) or not include for include, chosen in filters]
    comes_in = any(joined) if v6 else any(wanted)  # Linux looks at the source where it delivers, for IPv4 before too
    lan.give(build.udp((source, 9), (side.group, 7), b""))
    for endpoint, want, asked in zip(endpoints, wanted, joined, strict=True):
        assert endpoint.queued == (comes_in and (want or not asked))  # who never asked hears all (MULTICAST_ALL)
    for endpoint in endpoints:
        endpoint.close()
    settled(lan)
    lan.stack.check()
    assert lan.stack.poll_timeout() is None


def test_what_endpoints_are_refused(lan, side):
    endpoint, (a, b, *_) = opened(lan, side), side.sources
    other = Side(not side.v6)
    with refused(errno.EINVAL):
        endpoint.join(side.peer)
    with refused(errno.EINVAL):
        endpoint.join(other.group)
    with refused(errno.EADDRNOTAVAIL):
        endpoint.leave(side.group)
    endpoint.join(side.group)
    with refused(errno.EADDRINUSE):
        endpoint.join(side.group)
    with refused(errno.EINVAL):
        endpoint.join(side.group, source=a)
    with refused(errno.EINVAL):
        endpoint.leave(side.group, source=a)
    with refused(errno.EADDRNOTAVAIL):
        endpoint.block(side.group, a, unblock=True)
    endpoint.leave(side.group)
    endpoint.join(side.group, source=a)
    with refused(errno.EADDRNOTAVAIL):
        endpoint.join(side.group, source=a)
    with refused(errno.EADDRNOTAVAIL):
        endpoint.leave(side.group, source=b)
    with refused(errno.EINVAL):
        endpoint.block(side.group, b)
    with refused(errno.ENOBUFS):
        endpoint.set_filter(side.group, side.sources, include=True)
    lan.stack.check()


def test_memberships_are_bounded(lan, side):
    endpoint = opened(lan, side)
    for n in range(20):
        endpoint.join(side.group[:-1] + bytes((n,)))
    with refused(errno.ENOBUFS):
        endpoint.join(side.group[:-1] + b"\xff")
    with refused(errno.ENODEV):
        empty = Lan()
        empty.stack.remove_link(empty.link)
        opened(empty, side).join(side.group)


def test_lo_and_the_group_of_all_hosts_need_no_reports(lan, side):
    endpoint = opened(lan, side)
    endpoint.join(side.group, lan.stack.lo)
    endpoint.join(parse_addr("ff02::1" if side.v6 else "224.0.0.1"))
    if side.v6:
        endpoint.join(parse_addr("ff01::77"))
    assert lan.raw() == []
    assert lan.stack.poll_timeout() is None
    endpoint.close()
    lan.stack.check()


def test_a_link_takes_its_groups_with_it(lan, side):
    endpoint = opened(lan, side)
    endpoint.join(side.group)
    lan.stack.remove_link(lan.link)
    assert lan.stack.multicast.groups() == []
    assert lan.stack.poll_timeout() is None
    endpoint.close()
    lan.stack.check()


@pytest.mark.rfc("3376", "5.1")
def test_a_link_that_comes_up_again_is_told_anew(lan, side):
    opened(lan, side).join(side.group)
    settled(lan)
    lan.stack.set_link_up(lan.link, False)
    lan.stack.set_link_up(lan.link, True)
    lan.stack.set_link_up(lan.link, True)
    assert side.records(lan) == [(TO_EX, side.group, [])]


# --- queries


@pytest.mark.rfc("3376", "5.2")
@pytest.mark.rfc("3810", "6.2")
def test_a_general_query_is_answered_for_all_groups_within_its_time(lan, side):
    endpoint, (a, *_) = opened(lan, side), side.sources
    endpoint.join(side.group)
    endpoint.set_filter(side.group[:-1] + b"\x77", [a], include=True)
    settled(lan)
    start = lan.now
    lan.give(side.query())
    assert lan.raw() == []
    assert start < lan.stack.poll_timeout() <= start + SEC
    lan.pass_time(SEC)
    assert side.records(lan) == [(IS_EX, side.group, []), (IS_IN, side.group[:-1] + b"\x77", [a])]
    assert lan.stack.poll_timeout() is None


@pytest.mark.rfc("3376", "5.2")
@pytest.mark.rfc("3810", "6.2")
def test_a_query_for_a_group_is_answered_for_that_group(lan, side):
    endpoint = opened(lan, side)
    endpoint.join(side.group)
    endpoint.join(side.group[:-1] + b"\x77")
    settled(lan)
    lan.give(side.query(side.group), side.query(side.group[:-1] + b"\x78"))
    lan.pass_time(SEC)
    assert side.records(lan) == [(IS_EX, side.group, [])]


@pytest.mark.rfc("3376", "5.2")
@pytest.mark.rfc("3810", "6.3")
@pytest.mark.parametrize(
    ("include", "mine", "asked", "answer"),
    [
        (True, (0, 1), (1, 2), (IS_IN, [1])),
        (True, (0,), (1, 2), None),
        (False, (0, 1), (1, 2), (IS_EX, [0, 1])),  # Linux; the RFC would say IS_IN 2
        (False, (1,), (1,), None),
    ],
)
def test_a_query_for_sources_is_answered_if_any_of_them_is_wanted(lan, side, include, mine, asked, answer):
    endpoint = opened(lan, side)
    endpoint.set_filter(side.group, [side.sources[i] for i in mine], include=include)
    settled(lan)
    lan.give(side.query(side.group, [side.sources[i] for i in asked]))
    lan.pass_time(SEC)
    wanted = [] if answer is None else [(answer[0], side.group, [side.sources[i] for i in answer[1]])]
    assert side.records(lan) == wanted


@pytest.mark.rfc("3376", "5.2")
def test_queries_for_sources_add_up_and_one_for_the_group_covers_them(lan, side):
    endpoint, (a, b, *_) = opened(lan, side), side.sources
    endpoint.set_filter(side.group, [a, b], include=True)
    settled(lan)
    lan.give(side.query(side.group, [a]), side.query(side.group, [b]))
    lan.pass_time(SEC)
    assert side.records(lan) == [(IS_IN, side.group, [a, b])]
    lan.give(side.query(side.group, [a]), side.query(side.group))
    lan.pass_time(SEC)
    assert side.records(lan) == [(IS_IN, side.group, [a, b])]


@pytest.mark.rfc("3376", "4.1.1")
@pytest.mark.rfc("3810", "5.1.3")
def test_long_response_times_are_floating_point(lan, side):
    opened(lan, side).join(side.group)
    settled(lan)
    start = lan.now
    lan.give(side.query(code=0x9234 if side.v6 else 0x92))  # 0x1234 << 4 ms; 0x12 << 4 tenths
    most = (0x1234 << 4) * MSEC if side.v6 else (0x12 << 4) * 100 * MSEC
    assert start < lan.stack.poll_timeout() <= start + most
    lan.pass_time(most)
    assert len(side.records(lan)) == 1


@pytest.mark.rfc("3376", "4.1.6")
@pytest.mark.rfc("3810", "5.1.8")
def test_a_querier_sets_the_robustness(lan, side):
    lan.give(side.query(qrv=3))
    settled(lan)
    opened(lan, side).join(side.group)
    lan.pass_time(10 * SEC)
    assert len(side.records(lan)) == 3


@pytest.mark.rfc("3376", "4.2.16")
def test_many_sources_make_several_reports():
    side = Side(True)
    lan = Lan(mtu=1280)
    group = [opened(lan, side) for _ in range(3)]
    for i, endpoint in enumerate(group):
        endpoint.set_filter(side.group, [parse_addr(f"fd64:{i}::{n}") for n in range(64)], include=True)
    settled(lan)
    lan.give(side.query())
    lan.pass_time(SEC)
    records = side.records(lan)
    assert [kind for kind, _group, _sources in records] == [IS_IN, IS_IN, IS_IN]
    assert len({source for _kind, _group, sources in records for source in sources}) == 192


@pytest.mark.rfc("3810", "6.2")
def test_mld_queries_from_afar_are_ignored(lan):
    side = Side(True)
    opened(lan, side).join(side.group)
    settled(lan)
    body = pack("!BBHHH", 130, 0, 0, 1000, 0) + bytes(16) + pack("!BBH", 2, 125, 0)
    everybody = parse_addr("ff02::1")
    lan.give(
        mld(PEER6, everybody, body),
        mld(LINK_LOCAL, everybody, body, hops=2),
        mld(LINK_LOCAL, everybody, body, alert=b"\x3a\0\x01\x04\0\0\0\0"),
    )
    assert lan.stack.poll_timeout() is None


@settings(max_examples=200)
@given(
    sampled_from([False, True]), sampled_from([0x11, 0x12, 0x16, 0x17, 0x22, 130, 131, 132, 143]), binary(max_size=64)
)
def test_whatever_a_message_holds_nothing_worse_than_a_counter_comes_of_it(v6, kind, rest):
    side, lan = Side(v6), Lan()
    opened(lan, side).join(side.group)
    body = bytes((kind, 0, 0, 0)) + rest
    lan.give(mld(LINK_LOCAL, parse_addr("ff02::1"), body) if v6 else igmp(PEER4, body))
    lan.pass_time(600 * SEC)
    lan.raw()


# --- older queriers


def old_query(side, group=b"", version=2):
    group = group or bytes(len(side.us))
    if side.v6:
        return mld(LINK_LOCAL, parse_addr("ff02::1"), pack("!BBHHH", 130, 0, 0, 1000, 0) + group)
    return igmp(side.peer, pack("!BBH", 0x11, 10 if version == 2 else 0, 0) + group)


def old_messages(lan, side):
    """(type, group, destination) of all messages in the older version's form."""
    return [
        (body[0], body[8:24] if side.v6 else body[4:8], raw[34:50] if side.v6 else raw[26:30])
        for raw in lan.raw()
        for body in [side.message(raw)]
    ]


@pytest.mark.rfc("3376", "7.2.1")
@pytest.mark.rfc("3810", "8.2.1")
def test_an_older_querier_is_answered_in_its_language(lan, side):
    report, leave = (131, 132) if side.v6 else (0x16, 0x17)
    routers = parse_addr("ff02::2" if side.v6 else "224.0.0.2")
    first, second = opened(lan, side), opened(lan, side)
    first.join(side.group)
    settled(lan)
    lan.give(old_query(side))
    lan.pass_time(SEC)
    assert old_messages(lan, side) == [(report, side.group, side.group)]
    other = side.group[:-1] + b"\x77"
    second.join(other)
    assert old_messages(lan, side) == [(report, other, other)]
    lan.pass_time(10 * SEC)
    assert old_messages(lan, side) == [(report, other, other)]
    second.leave(other)
    assert old_messages(lan, side) == [(leave, other, routers)]
    lan.pass_time(300 * SEC)  # the older querier has gone
    second.join(other)
    assert side.records(lan) == [(TO_EX, other, [])]


@pytest.mark.rfc("2236", "3")
@pytest.mark.rfc("2710", "4")
def test_a_report_that_somebody_else_sent_is_not_sent_again(lan, side):
    opened(lan, side).join(side.group)
    settled(lan)
    lan.give(old_query(side))
    body = (bytes((131,)) + bytes(7) if side.v6 else bytes((0x16, 0, 0, 0))) + side.group
    other = mld(LINK_LOCAL, side.group, body) if side.v6 else igmp(side.peer, body, "239.1.2.3")
    lan.give(other)
    lan.pass_time(20 * SEC)
    assert lan.raw() == []


@pytest.mark.rfc("3376", "7.2.1")
def test_an_igmpv1_querier_gets_version_1_reports_and_no_leave(lan):
    side = Side(False)
    endpoint = opened(lan, side)
    lan.give(old_query(side, version=1))
    endpoint.join(side.group)
    assert old_messages(lan, side) == [(0x12, side.group, side.group)]
    lan.pass_time(10 * SEC)
    lan.raw()
    endpoint.leave(side.group)
    assert old_messages(lan, side) == []


# --- datagrams


def test_a_group_that_nobody_joined_does_not_come_in(lan, side):
    endpoint = opened(lan, side)
    lan.give(build.udp((side.peer, 9), (side.group, 7), b""))
    assert (endpoint.queued, lan["NuseInNotJoined"]) == (0, 1)
    endpoint.join(side.group)
    lan.give(build.udp((side.peer, 9), (side.group, 7), b""))
    assert endpoint.recv().dst == side.group


def test_who_joined_nothing_hears_what_others_joined_unless_it_minds(lan, side):
    member, idle, minding = (opened(lan, side) for _ in range(3))
    minding.options.mcast_all = False
    member.join(side.group)
    lan.give(build.udp((side.peer, 9), (side.group, 7), b""))
    assert [one.queued for one in (member, idle, minding)] == [1, 1, 0]


def test_a_membership_is_one_links(lan, side):
    other = lan.stack.add_link("tun1", [(parse_addr("10.64.1.2"), 24), (parse_addr("fd64:1::2"), 64)])
    endpoint = opened(lan, side)
    endpoint.join(side.group, other)
    lan.give(build.udp((side.peer, 9), (side.group, 7), b""))
    assert endpoint.queued == 0
    lan.stack.receive(build.udp((side.peer, 9), (side.group, 7), b""), 0, other)
    assert endpoint.recv().link is other


@pytest.mark.rfc("1112", "6.1")
def test_datagrams_to_a_group_leave_with_ttl_1_and_come_back_to_members_here(lan, side):
    member, sender = opened(lan, side), opened(lan, side, 8)
    member.join(side.group)
    lan.raw()
    sender.sendto(b"all of you", (side.group, 7), 0)
    (packet,) = lan.take()
    assert (packet.dst, packet.ttl, packet.src, packet.payload) == (side.group, 1, side.us, b"all of you")
    got = member.recv()
    assert (bytes(got.data), got.addr, got.dst, got.link) == (b"all of you", side.us, side.group, lan.link)
    sender.options.mcast_loop = False
    sender.options.mcast_ttl = 9
    sender.sendto(b"others", (side.group, 7), 0)
    assert [packet.ttl for packet in lan.take()] == [9]
    assert member.queued == 0


@pytest.mark.rfc("1112", "6.1")
def test_a_ttl_of_0_stays_on_this_host(lan, side):
    member = opened(lan, side)
    member.join(side.group)
    lan.raw()
    member.options.mcast_ttl = 0
    member.sendto(bytes(3000), (side.group, 7), 0)  # in fragments, even
    assert lan.raw() == []
    assert len(member.recv().data) == 3000


def test_the_link_for_groups_is_the_programs_choice(lan, side):
    other = lan.stack.add_link("tun1", [(parse_addr("10.64.1.2"), 24), (parse_addr("fd64:1::2"), 64)])
    endpoint = opened(lan, side)
    endpoint.options.mcast_link = other
    endpoint.sendto(b"", (side.group, 9), 0)
    endpoint.sendto(b"", (side.peer, 9), 0)
    assert [lan.stack.poll_transmit(0)[0] for _ in range(2)] == [other, lan.link]
    if not side.v6:
        endpoint.options.mcast_link = None
        endpoint.options.mcast_addr = parse_addr("10.64.1.2")
        endpoint.sendto(b"", (side.group, 9), 0)
        assert lan.stack.poll_transmit(0)[0] is other


def test_a_broadcast_of_ours_is_heard_here_too(lan):
    side = Side(False)
    listener, sender = opened(lan, side), opened(lan, side, 8)
    sender.options.broadcast = True
    sender.sendto(b"all", (parse_addr("10.64.0.255"), 7), 0)
    assert len(lan.raw()) == 1
    assert bytes(listener.recv().data) == b"all"
