"""Error queues (IP_RECVERR, IPV6_RECVERR): what a program that asks is told of ICMP errors, and what others are not."""

import errno
from struct import pack

import pytest

from kit import build
from kit.lan import ENDS, PEER4
from stack import StackError
from stack.dgram_options import DO, DONT, INTERFACE, OMIT, PROBE
from stack.errqueue import ORIGIN_ICMP, ORIGIN_ICMP6, ORIGIN_LOCAL
from stack.events import FAILED
from stack.ip.addr import parse_addr

ROUTER = {4: parse_addr("192.0.2.254"), 16: parse_addr("2001:db8::fe")}


def asking(lan, ends, *, connected=True, payload=b"are you there", **options):
    """A UDP endpoint with IP_RECVERR, and the datagram it sent."""
    endpoint = lan.stack.udp.open(len(ends[0]) == 16)
    endpoint.options.recverr = endpoint.options.recverr6 = True
    for name, value in options.items():
        setattr(endpoint.options, name, value)
    if connected:
        endpoint.connect((ends[0], 33434))
    endpoint.sendto(payload, None if connected else (ends[0], 33434), 0)
    return endpoint, lan.raw()[0]


def error(ends, packet, kind4, kind6, rest=0, src=None, **kw):
    kind, code = kind4 if len(ends[0]) == 4 else kind6
    return build.icmp_about(packet, src or ROUTER[len(ends[0])], kind, code, rest, **kw)


EXCEEDED = ((11, 0), (3, 0))
REFUSED = ((3, 3), (1, 4))


@pytest.mark.rfc("1122", "4.1.3.3")
@pytest.mark.parametrize("connected", [True, False])
def test_an_error_is_queued_with_all_that_traceroute_needs(lan, ends, connected):
    endpoint, packet = asking(lan, ends, connected=connected)
    lan.give(error(ends, packet, *EXCEEDED))
    assert lan.stack.poll_event() == (endpoint, FAILED)
    report = endpoint.take_error_queue()
    v4 = len(ends[0]) == 4
    assert (report.errno, report.origin) == (errno.EHOSTUNREACH, ORIGIN_ICMP if v4 else ORIGIN_ICMP6)
    assert (report.kind, report.code, report.info) == (11 if v4 else 3, 0, 0)
    assert (report.offender, report.dst) == (ROUTER[len(ends[0])], (ends[0], 33434))
    assert report.payload == (b"" if v4 else b"are you there")  # as much as was quoted behind the UDP header
    assert report.link_index == lan.link.index
    assert endpoint.take_error_queue() is None
    assert endpoint.error == 0


def test_the_next_call_fails_and_the_queue_keeps_its_entry(lan, ends):
    endpoint, packet = asking(lan, ends)
    lan.give(error(ends, packet, *REFUSED))
    with pytest.raises(StackError, match="ECONNREFUSED"):
        endpoint.sendto(b"", None, 0)
    assert endpoint.take_error_queue().errno == errno.ECONNREFUSED


def test_the_pending_error_is_that_of_the_next_entry(lan, ends):
    endpoint, packet = asking(lan, ends)
    lan.give(error(ends, packet, *REFUSED), error(ends, packet, *EXCEEDED))
    assert endpoint.take_error_queue().errno == errno.ECONNREFUSED
    assert endpoint.error == errno.EHOSTUNREACH
    endpoint.take_error_queue()
    assert endpoint.take_error() == 0


def test_without_the_option_only_hard_errors_of_a_connected_endpoint_count(lan, ends):
    endpoint, packet = asking(lan, ends, recverr=False, recverr6=False)
    lan.give(error(ends, packet, *EXCEEDED))
    assert endpoint.error == 0
    lan.give(error(ends, packet, *REFUSED))
    assert endpoint.take_error() == errno.ECONNREFUSED
    assert endpoint.take_error_queue() is None


def test_the_queue_is_bounded_by_the_receive_buffer(lan, ends):
    endpoint, packet = asking(lan, ends, rcvbuf=2560)
    for _ in range(100):
        lan.stack.receive(error(ends, packet, *REFUSED), 0, lan.link)
    lan.stack.check()
    assert 5 < len(endpoint.errors) <= 10
    assert endpoint.drops == 100 - len(endpoint.errors)
    endpoint.close()
    lan.stack.check()


@pytest.mark.rfc("1191", "6.1")
@pytest.mark.rfc("8201", "5.4")
def test_the_path_mtu_is_in_the_entry(lan, ends):
    endpoint, packet = asking(lan, ends, payload=bytes(1400))
    lan.give(error(ends, packet, (3, 4), (2, 0), 1300))
    report = endpoint.take_error_queue()
    assert (report.errno, report.info) == (errno.EMSGSIZE, 1300)


def test_a_parameter_problem_says_where(lan, ends):
    endpoint, packet = asking(lan, ends)
    lan.give(error(ends, packet, (12, 0), (4, 0), 9 << 24 if len(ends[0]) == 4 else 9))
    report = endpoint.take_error_queue()
    assert (report.errno, report.info) == (errno.EPROTO, 9)


@pytest.mark.parametrize("mode", [DO, PROBE, INTERFACE])
def test_a_datagram_too_big_for_its_mode_is_an_error_of_our_own(lan, ends, mode):
    endpoint, _packet = asking(lan, ends, mtu_discover=mode, mtu_discover6=mode)
    with pytest.raises(StackError, match="EMSGSIZE"):
        endpoint.sendto(bytes(1480), None, 0)
    report = endpoint.take_error_queue()
    assert (report.errno, report.origin, report.info) == (errno.EMSGSIZE, ORIGIN_LOCAL, 1500)
    assert (report.offender, report.dst) == (None, (ends[0], 33434))
    assert endpoint.error == 0
    assert lan.raw() == []


def test_dont_does_not_even_report_too_big_over_ipv4(lan):
    endpoint, packet = asking(lan, ENDS["v4"], payload=bytes(1400), mtu_discover=DONT)
    lan.give(error(ENDS["v4"], packet, (3, 4), (2, 0), 1300))
    assert (endpoint.error, len(endpoint.errors)) == (0, 0)
    assert lan.stack.route(PEER4).mtu == 1300


@pytest.mark.parametrize("mode", [INTERFACE, OMIT])
def test_who_ignores_path_mtus_cannot_be_made_to_teach_one(lan, ends, mode):
    _endpoint, packet = asking(lan, ends, payload=bytes(1400), mtu_discover=mode, mtu_discover6=mode)
    lan.give(error(ends, packet, (3, 4), (2, 0), 1300))
    assert lan.stack.route(ends[0]).mtu == 1500
    assert lan["NuseIcmpUnmatched"] == 0


def test_a_ping_socket_gets_the_message_it_sent(lan, ends):
    endpoint = lan.stack.icmp.open_echo(len(ends[0]) == 16)
    endpoint.options.recverr = endpoint.options.recverr6 = True
    request = bytes((128 if len(ends[0]) == 16 else 8, 0, 0, 0, 0, 0)) + pack("!H", 1)
    endpoint.sendto(request, (ends[0], 0), 0)
    (packet,) = lan.raw()
    lan.give(error(ends, packet, *EXCEEDED))
    report = endpoint.take_error_queue()
    assert (report.errno, report.dst) == (errno.EHOSTUNREACH, (ends[0], 0))
    assert report.payload[4:] == pack("!HH", endpoint.local[1], 1)


@pytest.mark.rfc("5927", "4.1")
def test_tcp_reports_what_it_believes_to_whoever_asks(lan, ends):
    conn = lan.stack.tcp.connect((ends[0], 80), 0)
    (syn,) = lan.raw()
    told = []
    lan.stack.tcp.on_report = lambda *args: told.append(args)
    at = 10 + (20 if len(ends[0]) == 4 else 40) + 4
    forged = syn[:at] + bytes(4) + syn[at + 4 :]
    lan.give(error(ends, forged, *REFUSED), error(ends, syn, *REFUSED))
    ((who, report),) = told
    assert who is conn
    assert (report.errno, report.dst) == (errno.ECONNREFUSED, (ends[0], 80))
