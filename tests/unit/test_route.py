"""Routes and source selection, on stacks with several links."""

import errno

import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers

from kit.lan import PEER4, SECRET, US4, US6
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
