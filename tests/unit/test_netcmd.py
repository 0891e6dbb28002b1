"""Routes and links changed in the words of ip-route(8), on a real stack."""

import errno

import pytest

from nuse.netcmd import change_link, change_route, parse_route
from nuse.show import route_lines
from nuse.snapshot import route_row
from stack import Stack
from stack.errors import StackError
from stack.ip.addr import parse_addr


@pytest.fixture
def stack():
    made = Stack(secret=bytes(32))
    made.add_link("tun0", [(parse_addr("10.64.0.2"), 24), (parse_addr("fd64::2"), 64)])
    made.add_link("tun1", [(parse_addr("10.64.1.2"), 24)])
    return made


def obey(stack, line):
    verb, *words = line.split()
    change_route(stack, verb, words)
    return shown(stack)


def shown(stack):
    return route_lines(route_row(entry) for entry in stack.routes.entries())


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("192.0.2.0/24 dev tun1", "192.0.2.0/24 dev tun1"),
        ("192.0.2.7 via 10.64.1.9 metric 5", "192.0.2.7/32 via 10.64.1.9 dev tun1 metric 5"),
        ("unicast 192.0.2.0/24 dev tun0 src 10.64.1.2 mtu 1400", "192.0.2.0/24 dev tun0 src 10.64.1.2 mtu 1400"),
        ("192.0.2.0/24 dev tun1 advmss 900", "192.0.2.0/24 dev tun1 advmss 900"),
        ("default via 10.64.1.1 metric 1", "default via 10.64.1.1 dev tun1 metric 1"),
        ("2001:db8::/32 via fd64::1", "2001:db8::/32 via fd64::1 dev tun0 metric 1024"),
        ("default via fd64::9 metric 3", "default via fd64::9 dev tun0 metric 3"),
        ("blackhole 192.0.2.0/24", "blackhole 192.0.2.0/24 dev lo"),
        ("prohibit ::/0 metric 9", "prohibit default dev lo metric 9"),
    ],
)
def test_a_route_is_shown_as_it_was_said_and_goes_as_it_came(stack, said, line):
    before = shown(stack)
    assert line in obey(stack, f"add {said}")
    with pytest.raises(StackError) as caught:
        obey(stack, f"add {said}")
    assert caught.value.errno == errno.EEXIST
    words = parse_route(said.split())
    stack.routes.delete(words.prefix, words.length, metric=words.metric)
    assert shown(stack) == before


def test_the_source_and_the_mtu_of_a_route_are_used(stack):
    obey(stack, "add 192.0.2.0/24 dev tun0 src 10.64.1.2 mtu 1400")
    way = stack.route(parse_addr("192.0.2.9"))
    assert (way.link.name, way.src, way.mtu) == ("tun0", parse_addr("10.64.1.2"), 1400)
    stack.remove_addr(stack.links["tun1"], parse_addr("10.64.1.2"))
    assert stack.route(parse_addr("192.0.2.9")).src == parse_addr("10.64.0.2")


def test_replace_changes_one_and_loses_none(stack):
    obey(stack, "replace 192.0.2.0/24 dev tun0")
    assert "192.0.2.0/24 dev tun1" in obey(stack, "replace 192.0.2.0/24 dev tun1")
    assert "192.0.2.0/24 dev tun0" not in shown(stack)
    with pytest.raises(StackError):
        obey(stack, "replace 192.0.2.0/24 dev tun1 mtu 30")
    assert "192.0.2.0/24 dev tun1" in shown(stack)
    with pytest.raises(StackError):
        obey(stack, "change 198.51.100.0/24 dev tun1")


def test_del_finds_by_what_is_said(stack):
    obey(stack, "add 192.0.2.0/24 dev tun0 metric 2")
    obey(stack, "add 192.0.2.0/24 dev tun1 metric 3")
    assert "192.0.2.0/24 dev tun0 metric 2" in obey(stack, "del 192.0.2.0/24 dev tun1")
    obey(stack, "add blackhole 192.0.2.0/24 metric 1")
    assert "192.0.2.0/24 dev tun0 metric 2" in obey(stack, "del blackhole 192.0.2.0/24")
    obey(stack, "delete 192.0.2.0/24 metric 2")
    with pytest.raises(StackError) as caught:
        obey(stack, "del 192.0.2.0/24")
    assert caught.value.errno == errno.ESRCH


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("add 192.0.2.0/24", errno.ENODEV),
        ("add 192.0.2.0/24 dev tun9", errno.ENODEV),
        ("add 192.0.2.1/24 dev tun0", errno.EINVAL),
        ("add 192.0.2.0/24 via 203.0.113.1", errno.ENETUNREACH),
        ("add 192.0.2.0/24 via 10.64.1.1 dev tun0", errno.ENETUNREACH),
        ("add 192.0.2.0/24 via fd64::1", errno.EINVAL),
        ("add 192.0.2.0/24 dev tun0 src 192.0.2.1", errno.EINVAL),
        ("add 192.0.2.0/33 dev tun0", errno.EINVAL),
        ("add 192.0.2/24 dev tun0", errno.EINVAL),
        ("add 192.0.2.0/24 dev tun0 metric x", errno.EINVAL),
        ("add 192.0.2.0/24 dev tun0 rto_min 500", errno.EINVAL),
        ("add 192.0.2.0/24 dev", errno.EINVAL),
        ("add", errno.EINVAL),
        ("flush all", errno.EINVAL),
    ],
)
def test_what_ip_would_refuse_is_refused(stack, line, code):
    before = shown(stack)
    with pytest.raises(StackError) as caught:
        obey(stack, line)
    assert caught.value.errno == code
    assert shown(stack) == before


def test_a_links_mtu_and_addresses(stack):
    link = stack.links["tun1"]
    change_link(stack, link, "mtu", ["1400"])
    change_link(stack, link, "addr", ["add", "198.51.100.2/24"])
    assert link.mtu == 1400
    assert "198.51.100.0/24 dev tun1" in shown(stack)
    change_link(stack, link, "addr", ["del", "198.51.100.2/24"])
    assert "198.51.100.0/24 dev tun1" not in shown(stack)
    for verb, words in (("mtu", ["5"]), ("mtu", ["x"]), ("addr", ["add"]), ("addr", ["del", "198.51.100.2/24"])):
        with pytest.raises(StackError):
            change_link(stack, link, verb, words)
