"""Echo endpoints: what the stack adds to a ping, and whose reply it is."""

import errno

import pytest
from hypothesis import given
from hypothesis.strategies import binary, sampled_from

from kit import build
from kit.lan import ENDS, PEER4, PEER6, US4, US6, Lan, refused
from stack.events import FAILED, READABLE
from stack.ip.addr import ANY4, LOOPBACK4, LOOPBACK6

REQUEST, REPLY = {4: 8, 16: 128}, {4: 0, 16: 129}


def opened(lan, ends):
    return lan.stack.icmp.open_echo(len(ends[0]) == 16)


def request(ends, body=b"abc"):
    return bytes((REQUEST[len(ends[0])], 0)) + b"\xde\xad\xbe\xef\0\x01" + body


def reply(ends, ident, body=b"abc"):
    return build.icmp(ends[0], ends[1], REPLY[len(ends[0])], 0, ident << 16 | 1, body)


@given(sampled_from(["v4", "v6"]), binary(max_size=3000))
def test_a_ping_leaves_with_our_identifier_and_checksum_and_its_reply_comes_back(family, body):
    lan, ends = Lan(), ENDS[family]
    endpoint = opened(lan, ends)
    endpoint.sendto(request(ends, body), (ends[0], 0), 0)
    (packet,) = lan.take()
    ident = endpoint.local[1]
    assert packet.payload[4:] == ident.to_bytes(2, "big") + b"\0\x01" + body
    if len(body) < 1400:
        lan.give(reply(ends, ident, body))
        assert lan.stack.poll_event() == (endpoint, READABLE)
        got = endpoint.recv()
        assert bytes(got.data[4:]) == packet.payload[4:]
        assert (got.addr, got.dst) == ends


def test_what_is_no_echo_request_is_refused(lan, ends):
    endpoint = opened(lan, ends)
    for bad in (b"", request(ends)[:7], b"\x05" + request(ends)[1:], request(ends)[:1] + b"\x01" + request(ends)[2:]):
        with refused(errno.EINVAL):
            endpoint.sendto(bad, (ends[0], 0), 0)
    with refused(errno.EDESTADDRREQ):
        endpoint.sendto(request(ends), None, 0)
    with refused(errno.EMSGSIZE):
        endpoint.sendto(request(ends) + bytes(65535), (ends[0], 0), 0)
    assert lan.raw() == []


def test_families_do_not_mix(lan):
    with refused(errno.EAFNOSUPPORT):
        opened(lan, ENDS["v4"]).sendto(request(ENDS["v4"]), (PEER6, 0), 0)
    with refused(errno.ENETUNREACH):
        opened(lan, ENDS["v6"]).sendto(request(ENDS["v6"]), (PEER4, 0), 0)


def test_each_endpoint_gets_its_own_replies(lan, ends):
    one, other = opened(lan, ends), opened(lan, ends)
    one.bind(ends[1], 100)
    other.connect((ends[0], 0))
    lan.give(reply(ends, 100), reply(ends, other.local[1]), reply(ends, 7))
    assert (one.queued, other.queued) == (1, 1)
    with refused(errno.EADDRINUSE):
        opened(lan, ends).bind(ends[1], 100)
    one.close()
    lan.give(reply(ends, 100))
    opened(lan, ends).bind(ends[1], 100)
    lan.stack.check()


def test_a_connected_endpoint_ignores_replies_of_others(lan):
    endpoint = opened(lan, ENDS["v4"])
    endpoint.bind(ANY4, 100)
    endpoint.connect((bytes((10, 64, 0, 9)), 0))
    lan.give(reply(ENDS["v4"], 100))
    assert endpoint.queued == 0
    endpoint.disconnect()
    assert endpoint.local == (ANY4, 100)
    lan.give(reply(ENDS["v4"], 100))
    assert endpoint.queued == 1


def test_an_unreachable_host_fails_a_connected_endpoint_if_the_error_is_hard(lan):
    endpoint = opened(lan, ENDS["v4"])
    endpoint.connect((PEER4, 0))
    endpoint.sendto(request(ENDS["v4"]), None, 0)
    (packet,) = lan.raw()
    lan.give(build.icmp_about(packet, PEER4, 3, 1))
    assert endpoint.error == 0
    lan.give(build.icmp_about(packet, PEER4, 3, 13))
    assert endpoint.take_error() == errno.EHOSTUNREACH
    assert lan.stack.poll_event() == (endpoint, FAILED)


@pytest.mark.parametrize("dst", [LOOPBACK4, LOOPBACK6, US4, US6])
def test_we_can_ping_ourselves(lan, dst):
    endpoint = lan.stack.icmp.open_echo(len(dst) == 16)
    message = bytes((REQUEST[len(dst)], 0)) + bytes(6) + b"me"
    endpoint.sendto(message, (dst, 0), 0)
    assert lan.raw() == []
    got = endpoint.recv()
    assert (got.addr, bytes(got.data[:2]), bytes(got.data[8:])) == (dst, bytes((REPLY[len(dst)], 0)), b"me")


def test_identifiers_run_out(lan):
    table = lan.stack.icmp.echo
    for ident in range(1, 65536):
        table.claim(table.open(False), ident)
    with refused(errno.EADDRINUSE):
        opened(lan, ENDS["v4"]).connect((PEER4, 0))
