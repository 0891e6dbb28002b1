"""Routes and source selection, on stacks with several links."""

import errno

import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers

from kit.lan import PEER4, SECRET, US4, US6, refused
from stack import Stack, StackError
from stack.ip.addr import LOOPBACK4, LOOPBACK6, common_bits, parse_addr, show_addr
from stack.ip.route import Entry, network

FAR4, FAR6 = parse_addr("192.0.2.7"), parse_addr("2001:db8::7")


@pytest.fixture
def stack():
    stack = Stack(secret=SECRET)
    stack.add_link("tun0", [(US4, 24), (US6, 64)])
    stack.add_link("tun1", [(parse_addr("10.64.1.2"), 24), (parse_addr("fd64:1::2"), 64)], mtu=1400)
    return stack


def via(stack, dst, src=None):
    route = stack.route(parse_addr(dst), parse_addr(src) if src else None)
    return route.link.name, show_addr(route.src), route.mtu


def test_a_connected_prefix_beats_the_default_route(stack):
    assert via(stack, "10.64.1.1") == ("tun1", "10.64.1.2", 1400)
    assert via(stack, "fd64:1::1") == ("tun1", "fd64:1::2", 1400)


def test_the_default_route_is_the_first_links(stack):
    assert via(stack, "192.0.2.7") == ("tun0", "10.64.0.2", 1500)
    assert via(stack, "2001:db8::7") == ("tun0", "fd64::2", 1500)


def test_a_source_address_chooses_its_own_link(stack):
    assert via(stack, "192.0.2.7", "10.64.1.2") == ("tun1", "10.64.1.2", 1400)
    assert via(stack, "10.64.0.1", "10.64.1.2") == ("tun1", "10.64.1.2", 1400)
    assert via(stack, "fd64::1", "fd64:1::2") == ("tun1", "fd64:1::2", 1400)


def test_a_link_that_is_down_is_passed_over(stack):
    stack.set_link_up(stack.links["tun0"], False)
    assert via(stack, "192.0.2.7") == ("tun1", "10.64.1.2", 1400)
    stack.set_link_up(stack.links["tun1"], False)
    with pytest.raises(StackError) as refused:
        stack.route(FAR4)
    assert refused.value.errno == errno.ENETUNREACH


def test_own_addresses_and_all_of_127_are_reached_over_lo(stack):
    assert via(stack, "10.64.1.2") == ("lo", "10.64.1.2", 65535)
    assert via(stack, "127.9.9.9") == ("lo", "127.0.0.1", 65535)
    assert via(stack, "::1") == ("lo", "::1", 65535)
    assert via(stack, "10.64.0.2", "127.0.0.1") == ("lo", "127.0.0.1", 65535)


def test_a_host_without_links_reaches_itself_only():
    stack = Stack(secret=SECRET)
    assert stack.route(LOOPBACK4).link is stack.lo
    assert stack.route(LOOPBACK6).link is stack.lo
    for dst in (FAR4, FAR6):
        with pytest.raises(StackError) as refused:
            stack.route(dst)
        assert refused.value.errno == errno.ENETUNREACH


def test_a_family_without_addresses_has_no_route():
    stack = Stack(secret=SECRET)
    stack.add_link("tun0", [(US4, 24)])
    assert stack.route(FAR4).src == US4
    with pytest.raises(StackError):
        stack.route(FAR6)


@pytest.mark.rfc("6724", "5")
@pytest.mark.parametrize(
    ("dst", "src"),
    [
        ("fe80::99", "fe80::2"),  # rule 2: scope
        ("2001:db8:1::9", "2001:db8:1::2"),  # rule 8: longest match
        ("2001:db8:2::9", "2001:db8:2::2"),
        ("fd64::9", "fd64::2"),  # rule 6: label
        ("fd99::9", "fd64::2"),
        ("2a00::1", "2001:db8:1::2"),  # ULA would be unanswerable
        ("ff02::1", "fe80::2"),
        ("ff0e::1", "2001:db8:1::2"),
    ],
)
def test_ipv6_source_selection(dst, src):
    stack = Stack(secret=SECRET)
    addrs = ["fe80::2", "fd64::2", "2001:db8:1::2", "2001:db8:2::2"]
    stack.add_link("tun0", [(parse_addr(addr), 64) for addr in addrs])
    assert show_addr(stack.route(parse_addr(dst)).src) == src


def test_ipv4_takes_the_address_of_the_destinations_subnet():
    stack = Stack(secret=SECRET)
    stack.add_link("tun0", [(parse_addr("10.1.0.2"), 24), (parse_addr("10.2.0.2"), 24)])
    assert via(stack, "10.2.0.9") == ("tun0", "10.2.0.2", 1500)
    assert via(stack, "10.9.0.9") == ("tun0", "10.1.0.2", 1500)


def test_a_static_route_is_longer_than_the_default_and_dies_with_its_link(stack):
    stack.routes.add(Entry(parse_addr("192.0.2.0"), 24, stack.links["tun1"]))
    assert via(stack, "192.0.2.7") == ("tun1", "10.64.1.2", 1400)
    stack.remove_link(stack.links["tun1"])
    assert via(stack, "192.0.2.7") == ("tun0", "10.64.0.2", 1500)
    assert len(stack.routes.entries()) == 6  # two of lo, two connected, two default
    stack.check()


def test_the_path_mtu_cache_lowers_a_route(stack):
    stack.pmtu.learn(PEER4, 1300, 1500, 0)
    assert via(stack, "10.64.0.1") == ("tun0", "10.64.0.2", 1300)


def test_addresses_come_and_go(stack):
    link = stack.links["tun0"]
    stack.add_addr(link, parse_addr("198.51.100.2"), 24)
    assert via(stack, "198.51.100.1") == ("tun0", "198.51.100.2", 1500)
    stack.remove_addr(link, parse_addr("198.51.100.2"))
    assert via(stack, "198.51.100.1") == ("tun0", "10.64.0.2", 1500)
    with pytest.raises(StackError) as refused:
        stack.remove_addr(link, parse_addr("198.51.100.2"))
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_the_first_address_of_a_family_brings_its_default_route():
    stack = Stack(secret=SECRET)
    link = stack.add_link("tun0", [(US4, 24)])
    stack.add_addr(link, US6, 64)
    stack.add_addr(link, parse_addr("fd64::3"), 64)
    assert stack.route(FAR6).src == US6
    assert [entry.prefix for entry in stack.routes.entries() if not entry.length] == [bytes(4), bytes(16)]


@given(addr=binary(min_size=16, max_size=16), length=integers(0, 128))
def test_a_network_covers_its_hosts(addr, length):
    net = network(addr, length)
    assert common_bits(net, addr) >= length
    assert network(net, length) == net


# --- routes that somebody adds


def add(stack, prefix, length, link="tun0", **more):
    entry = Entry(parse_addr(prefix), length, stack.links[link], **more)
    stack.routes.add(entry)
    return entry


def test_the_longest_prefix_wins_then_the_lowest_metric(stack):
    add(stack, "192.0.2.0", 24, "tun1", metric=10)
    add(stack, "192.0.2.0", 24, "tun0", metric=20)
    assert via(stack, "192.0.2.7")[0] == "tun1"
    add(stack, "192.0.2.0", 25, "tun0", metric=99)
    assert via(stack, "192.0.2.7")[0] == "tun0"
    assert via(stack, "192.0.2.200")[0] == "tun1"


def test_routes_are_deleted_by_what_is_known_of_them(stack):
    for metric, link in ((10, "tun1"), (20, "tun0")):
        add(stack, "192.0.2.0", 24, link, metric=metric)
    assert stack.routes.delete(parse_addr("192.0.2.0"), 24, metric=20).link is stack.links["tun0"]
    assert stack.routes.delete(parse_addr("192.0.2.0"), 24).metric == 10
    with refused(errno.ESRCH):
        stack.routes.delete(parse_addr("192.0.2.0"), 24)
    with refused(errno.ESRCH):
        stack.routes.delete(bytes(4), 0, link=stack.lo)
    assert via(stack, "192.0.2.7")[0] == "tun0"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("blackhole", errno.EINVAL),
        ("unreachable", errno.EHOSTUNREACH),
        ("prohibit", errno.EACCES),
        ("throw", errno.ENETUNREACH),
    ],
)
def test_a_route_may_refuse_with_linuxs_errno(stack, kind, code):
    for prefix, length, dst in (("192.0.2.0", 24, FAR4), ("2001:db8::", 32, FAR6)):
        stack.routes.add(Entry(parse_addr(prefix), length, stack.lo, kind=kind))
        with refused(code):
            stack.route(dst)
        with refused(code):
            stack.udp.open(True).sendto(b"", (dst, 9), 0)
        with refused(code):
            stack.tcp.connect((dst, 9), 0)
    assert via(stack, "198.51.100.1")[0] == "tun0"
    add(stack, "192.0.2.7", 32)
    assert via(stack, "192.0.2.7")[0] == "tun0"


def test_a_routes_mtu_bounds_its_path(stack):
    add(stack, "192.0.2.0", 24, mtu=1400)
    assert via(stack, "192.0.2.7")[2] == 1400
    stack.set_link_mtu(stack.links["tun0"], 1300)
    assert via(stack, "192.0.2.7")[2] == 1300
    stack.set_link_mtu(stack.links["tun0"], 9000)
    stack.pmtu.learn(FAR4, 1350, 1400, 0)
    assert via(stack, "192.0.2.7")[2] == 1350


def test_what_is_no_route_is_refused(stack):
    add(stack, "192.0.2.0", 24)
    for code, prefix, length, more in (
        (errno.EEXIST, "192.0.2.0", 24, {}),
        (errno.EINVAL, "192.0.2.1", 24, {}),
        (errno.EINVAL, "192.0.3.0", 24, {"kind": "nowhere"}),
        (errno.EINVAL, "192.0.3.0", 24, {"mtu": 67}),
    ):
        with refused(code):
            add(stack, prefix, length, **more)


def test_a_link_named_by_the_program_needs_no_route(stack):
    link = stack.links["tun1"]
    assert stack.routes.route(FAR4, None, link).link is link
    stack.routes.delete(bytes(4), 0, link=link)
    assert stack.routes.route(FAR4, None, link).link is link
    stack.set_link_up(link, False)
    with refused(errno.ENETUNREACH):
        stack.routes.route(FAR4, None, link)


# --- RFC 6724 §5, one table per rule; the first address that the stack has is never the answer


@pytest.mark.rfc("6724", "5")
@pytest.mark.parametrize(
    ("rule", "have", "flags", "dst", "src"),
    [
        (2, "2001:db8:1::1 fe80::1", {}, "fe80::9", "fe80::1"),
        (2, "fe80::1 2001:db8:1::1", {}, "2001:db8:3::9", "2001:db8:1::1"),
        (2, "fe80::1 fec0::1", {}, "2001:db8:3::9", "fec0::1"),  # the largest of those that are too small
        (2, "2001:db8:1::1 fec0::1", {}, "fec0::9", "fec0::1"),
        (2, "fe80::1 2001:db8:1::1", {}, "ff05::1", "2001:db8:1::1"),
        (2, "2001:db8:1::1 fe80::1", {}, "ff02::1", "fe80::1"),
        (3, "2001:db8:1::1 2001:db8:2::1", {"deprecated": 0}, "2001:db8:1::9", "2001:db8:2::1"),
        (3, "fe80::1 2001:db8:1::1", {"deprecated": 1}, "2001:db8:3::9", "2001:db8:1::1"),  # rule 2 comes first
        (6, "fd00::1 2001:db8:1::1", {}, "2001:db8:3::9", "2001:db8:1::1"),
        (6, "2001:db8:1::1 fd00::1", {}, "fdff::9", "fd00::1"),
        (6, "2001:db8:1::1 2002:c633:6401::1", {}, "2002:c633:6402::9", "2002:c633:6401::1"),
        (6, "2002:c633:6401::1 2001:db8:1::1", {}, "2001:db8:3::9", "2001:db8:1::1"),
        (6, "2001:db8:1::1 2001:0:1::1", {}, "2001:0:2::9", "2001:0:1::1"),
        (6, "2001:db8:1::1 3ffe::1", {}, "3ffe:1::9", "3ffe::1"),
        (7, "2001:db8:1::1 2001:db8:1::2", {"temporary": 1}, "2001:db8:3::9", "2001:db8:1::2"),
        (7, "2001:db8:3::1 2001:db8:1::2", {"temporary": 1}, "2001:db8:3::9", "2001:db8:1::2"),
        (8, "2001:db8:1::1 2001:db8:3::1", {}, "2001:db8:3::9", "2001:db8:3::1"),
        (8, "2001:db8:8::1 2001:db8:2::1", {}, "2001:db8:3::9", "2001:db8:2::1"),
    ],
)
def test_source_selection_rule_by_rule(rule, have, flags, dst, src):
    stack = Stack(secret=SECRET)
    addrs = [parse_addr(addr) for addr in have.split()]
    link = stack.add_link("tun0", [(addr, 64) for addr in addrs])
    for flag, index in flags.items():
        stack.set_addr_flags(link, addrs[index], **{flag: True})
    assert show_addr(stack.route(parse_addr(dst)).src) == src, f"rule {rule}"


@pytest.mark.rfc("6724", "5")
def test_rule_1_an_own_address_is_reached_from_itself():
    stack = Stack(secret=SECRET)
    stack.add_link("tun0", [(parse_addr("2001:db8:1::1"), 64), (parse_addr("2001:db8:1::2"), 64)])
    assert show_addr(stack.route(parse_addr("2001:db8:1::2")).src) == "2001:db8:1::2"


@pytest.mark.rfc("6724", "5")
def test_rule_5_prefers_the_outgoing_link_and_labels_do_not_matter_more(stack):
    stack.add_addr(stack.links["tun1"], parse_addr("2001:db8:1::1"), 64)
    assert via(stack, "2001:db8:3::9")[:2] == ("tun0", "fd64::2")


@pytest.mark.rfc("6724", "4")
def test_link_local_and_group_destinations_take_sources_of_their_link_only(stack):
    stack.add_addr(stack.links["tun1"], parse_addr("fe80::2"), 64)
    route = stack.routes.route(parse_addr("ff02::1"), None, stack.links["tun0"])
    assert show_addr(route.src) == "fd64::2"


def test_an_address_comes_with_its_flags_and_takes_them_along(stack):
    link, addr = stack.links["tun0"], parse_addr("2001:db8:1::1")
    stack.add_addr(link, addr, 64, deprecated=True, temporary=True)
    assert addr in link.deprecated
    assert addr in link.temporary
    stack.set_addr_flags(link, addr, deprecated=False)
    assert addr not in link.deprecated
    stack.remove_addr(link, addr)
    assert not link.temporary
