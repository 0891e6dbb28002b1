"""Rules in words, and what they decide: at socket(), at connect, at listen."""

import socket

import pytest

from nuse.shim.rules import Rule, RuleError, decide, parse_rule, rules_of

HERE, THERE = socket.inet_aton("127.0.0.1"), socket.inet_aton("192.0.2.1")
THERE6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1")


def verdict(words, side="", addr=b"", port=0, kind="tcp", names=("curl", "/usr/bin/curl")):
    return decide([parse_rule(each) for each in words], kind, lambda: names, side, addr, port)


def test_without_rules_everything_is_the_stacks():
    assert verdict([]) == verdict([], "to", THERE, 80) == "stack"


def test_a_rule_without_an_address_decides_at_once():
    assert verdict(["kernel"]) == "kernel"
    assert verdict(["kernel udp"]) == "stack"
    assert verdict(["kernel udp"], kind="udp") == "kernel"
    assert verdict(["mptcp", "kernel"]) == "mptcp"
    assert verdict(["mptcp", "kernel"], kind="udp") == "kernel", "MPTCP is for streams"


def test_a_rule_with_an_address_decides_when_there_is_one():
    rules = ["kernel to 192.0.2.0/24 port 80-89", "mptcp port 443", "kernel listen port 22", "tcp"]
    assert verdict(rules) is None
    assert verdict(rules, "to", THERE, 80) == "kernel"
    assert verdict(rules, "to", HERE, 80) == "tcp"
    assert verdict(rules, "to", THERE6, 80) == "tcp"
    assert verdict(rules, "to", THERE6, 443) == "mptcp"
    assert verdict(rules, "listen", HERE, 443) == "tcp"
    assert verdict(rules, "listen", HERE, 22) == "kernel"
    assert verdict(["stack", *rules]) == "stack"
    assert verdict(rules, kind="udp") is None, "the destination may decide"


def test_a_rule_for_a_program():
    assert verdict(["kernel program curl"]) == "kernel"
    assert verdict(["kernel program /usr/bin/*"]) == "kernel"
    assert verdict(["kernel program wget"]) == "stack"
    assert verdict(["kernel program wget to 192.0.2.1"]) == "stack", "no address can change it"


def test_nobody_asks_for_names_in_vain():
    assert decide([parse_rule("kernel udp program dig")], "tcp", lambda: pytest.fail("asked"), "") == "stack"


def test_loopback_comes_last():
    rules = rules_of(["stack to 127.0.0.1 port 80"], "kernel")
    assert decide(rules, "tcp", tuple, "to", HERE, 80) == "stack"
    assert decide(rules, "tcp", tuple, "to", HERE, 81) == "kernel"
    assert decide(rules, "tcp", tuple, "listen", HERE, 80) == "kernel"
    assert decide(rules, "tcp", tuple, "listen", bytes(4), 80) == "stack"
    assert rules_of([], "stack") == ()


def test_listen_stands_alone_or_with_an_address():
    assert parse_rule("kernel listen") == Rule("kernel", side="listen")
    assert parse_rule("kernel listen port 80 tcp") == Rule("kernel", "tcp", side="listen", ports=(80, 80))
    assert parse_rule("kernel tcp listen ::1").prefix.version == 6


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "begins with stack, kernel, mptcp, tcp"),
        ("drop tcp", "begins with"),
        ("kernel sctp", "'sctp' is none of"),
        ("kernel port", "something belongs after 'port'"),
        ("kernel port http", "'http' is no port"),
        ("kernel port 90-80", "no range"),
        ("kernel port 70000", "no range"),
        ("kernel to example.org", "does not appear to be"),
        ("kernel to 10.0.0.1 listen", "says side twice"),
        ("kernel tcp udp", "says kind twice"),
        ("mptcp udp", "mptcp is for streams"),
        ("kernel ping port 7", "ping has no ports"),
    ],
)
def test_what_is_no_rule_is_refused_in_words(text, complaint):
    with pytest.raises(RuleError, match=complaint):
        parse_rule(text)
