"""UDP endpoints: who may bind, who receives, what is sent, what is refused."""

import errno
import random
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis.strategies import binary, sampled_from

from kit import build
from kit.lan import BROADCAST4, ENDS, PEER4, PEER6, SECRET, US4, US6, Lan, bound, refused
from stack import Stack, StackError
from stack.config import Sysctl
from stack.events import READABLE
from stack.ip.addr import ANY4, ANY6, LOOPBACK4, LOOPBACK6, parse_addr
from stack.ip.output import OUTBOX_LIMIT

MORE4 = parse_addr("10.64.0.3")


def to_us(ends, payload=b"data", port=7, sport=9):
    return build.udp((ends[0], sport), (ends[1], port), payload)


# --- sending


@given(sampled_from(["v4", "v6"]), sampled_from([True, False]), binary(max_size=3000))
def test_what_we_send_is_what_dpkt_reads(family, offload, payload):
    lan, (peer, us) = Lan(offload=offload), ENDS[family]
    endpoint = bound(lan, us)
    endpoint.sendto(payload, (peer, 99), 0)
    (packet,) = lan.take()
    assert (packet.src, packet.sport, packet.dst, packet.dport) == (us, 7, peer, 99)
    assert packet.payload == payload
    assert packet.partial_checksum == (offload and len(payload) + (28 if family == "v4" else 48) <= 1500)
    assert packet.ttl == 64


@pytest.mark.parametrize(("family", "most"), [("v4", 65507), ("v6", 65527)])
def test_the_largest_datagram_leaves_in_fragments_and_a_larger_one_is_refused(lan, family, most):
    peer, us = ENDS[family]
    endpoint = bound(lan, us)
    endpoint.sendto(random.Random(3).randbytes(most), (peer, 99), 0)
    assert len(lan.raw()) == 45 + (family == "v6")
    with refused(errno.EMSGSIZE):
        endpoint.sendto(bytes(most + 1), (peer, 99), 0)


def test_a_datagram_that_fits_bears_df_and_one_that_is_cut_does_not(lan):
    endpoint = bound(lan, US4)
    for size in (1472, 1473):
        endpoint.sendto(bytes(size), (PEER4, 99), 0)
    assert [packet[16] for packet in lan.raw()] == [0x40, 0x20, 0x00]


def test_ip_no_pmtu_disc_leaves_df_off():
    lan = Lan(sysctl=Sysctl(ip_no_pmtu_disc=1))
    bound(lan, US4).sendto(b"", (PEER4, 99), 0)
    assert lan.raw()[0][16] == 0


@pytest.mark.rfc("768", "fields")
def test_a_checksum_of_zero_is_written_as_ones():
    lan = Lan(offload=False)
    endpoint = bound(lan, US4)
    sums = []
    payload = b"\0\0"
    for _ in range(2):
        endpoint.sendto(payload, (PEER4, 99), 0)
        payload = lan.raw()[0][36:38]  # the complement of the sum: as payload it makes the sum zero
        sums.append(payload)
    assert sums[0] != sums[1] == b"\xff\xff"


def test_ttl_and_tos_are_the_programs(lan, ends):
    endpoint = bound(lan, ends[1])
    endpoint.options.ttl, endpoint.options.tos = 3, 0x2E << 2
    endpoint.sendto(b"", (ends[0], 99), 0)
    (packet,) = lan.take()
    assert (packet.ttl, packet.tos) == (3, 0x2E << 2)


def test_what_sendto_refuses(lan):
    endpoint = lan.stack.udp.open(False)
    with refused(errno.EDESTADDRREQ):
        endpoint.sendto(b"", None, 0)
    with refused(errno.EINVAL):
        endpoint.sendto(b"", (PEER4, 0), 0)
    with refused(errno.EAFNOSUPPORT):
        endpoint.sendto(b"", (PEER6, 9), 0)
    with refused(errno.EACCES):
        endpoint.sendto(b"", (BROADCAST4, 9), 0)
    only6 = bound(lan, ANY6, 8, v6only=True)
    with refused(errno.ENETUNREACH):
        only6.sendto(b"", (PEER4, 9), 0)
    lan.stack.set_link_up(lan.link, False)
    with refused(errno.ENETUNREACH):
        endpoint.sendto(b"", (PEER4, 9), 0)
    assert lan["IpOutNoRoutes"] == 1
    endpoint.close()
    with refused(errno.EBADF):
        endpoint.sendto(b"", (PEER4, 9), 0)


def test_broadcast_leaves_after_so_broadcast(lan):
    endpoint = bound(lan, ANY4)
    endpoint.options.broadcast = True
    endpoint.sendto(b"all", (BROADCAST4, 9), 0)
    endpoint.sendto(b"all", (parse_addr("255.255.255.255"), 9), 0)
    assert [packet.src for packet in lan.take()] == [US4, US4]


def test_a_full_outbox_loses_datagrams_and_counts_them(lan):
    endpoint = bound(lan, ANY4)
    for _ in range(OUTBOX_LIMIT + 5):
        endpoint.sendto(b"", (PEER4, 9), 0)
    assert lan["UdpSndbufErrors"] == lan["NuseOutboxDrops"] == lan.link.stats.tx_dropped == 5
    assert len(lan.raw()) == OUTBOX_LIMIT


# --- receiving


def test_a_datagram_arrives_with_all_that_recvmsg_tells(lan, ends):
    endpoint = bound(lan)
    lan.give(build.udp((ends[0], 9), (ends[1], 7), b"data", ttl=33, tos=4))
    assert lan.stack.poll_event() == (endpoint, READABLE)
    assert (endpoint.queued, endpoint.next_size) == (1, 4)
    got = endpoint.recv()
    assert (bytes(got.data), got.addr, got.port, got.dst) == (b"data", ends[0], 9, ends[1])
    assert (got.ttl, got.tos, got.link) == (33, 4, lan.link)
    assert endpoint.recv() is None


def test_an_empty_datagram_is_one(lan, ends):
    endpoint = bound(lan)
    lan.give(to_us(ends, b""))
    assert bytes(endpoint.recv().data) == b""


@pytest.mark.parametrize(
    ("family", "field", "value", "counters"),
    [
        ("v4", 4, 7, {"UdpInErrors"}),
        ("v4", 4, 200, {"UdpInErrors"}),
        ("v4", 6, 0x1234, {"UdpInErrors", "UdpInCsumErrors"}),
        ("v6", 4, 0, {"Udp6InErrors"}),
        ("v6", 6, 0x1234, {"Udp6InErrors", "Udp6InCsumErrors"}),
        ("v6", 6, 0, {"Udp6InErrors", "Udp6InCsumErrors"}),
    ],
)
def test_broken_datagrams_are_counted(lan, family, field, value, counters):
    endpoint = bound(lan)
    packet = bytearray(to_us(ENDS[family]))
    at = 30 if family == "v4" else 50
    packet[at + field : at + field + 2] = pack("!H", value)
    lan.give(bytes(packet))
    assert endpoint.queued == 0
    assert {name: lan[name] for name in counters} == dict.fromkeys(counters, 1)


def test_ipv4_may_go_without_a_checksum_and_the_kernel_may_vouch(lan):
    endpoint = bound(lan)
    packet = bytearray(to_us(ENDS["v4"]))
    packet[36:38] = b"\0\0"
    wrong = bytearray(to_us(ENDS["v6"]))
    wrong[56:58] = b"\x12\x34"
    lan.give(bytes(packet), b"\x01" + bytes(wrong[1:]), b"\x02" + bytes(wrong[1:]))
    assert endpoint.queued == 3


def test_a_shorter_udp_length_cuts_the_padding(lan):
    endpoint = bound(lan)
    packet = bytearray(to_us(ENDS["v4"], b"data and more"))
    packet[34:36] = pack("!H", 12)
    packet[36:38] = b"\0\0"
    lan.give(bytes(packet))
    assert bytes(endpoint.recv().data) == b"data"


def test_a_super_datagram_of_the_kernel_is_split(lan, ends):
    endpoint = bound(lan)
    body = random.Random(4).randbytes(5500)
    lan.give(pack("=BBHHHH", 1, 5, 0, 1000, 0, 0) + to_us(ends, body)[10:])
    pieces = [bytes(endpoint.recv().data) for _ in range(6)]
    assert [len(piece) for piece in pieces] == [1000] * 5 + [500]
    assert b"".join(pieces) == body
    assert endpoint.recv() is None


def test_a_full_receive_buffer_drops_and_counts():
    lan = Lan(sysctl=Sysctl(rmem_default=10_000))
    endpoint = bound(lan)
    for _ in range(10):
        lan.give(to_us(ENDS["v4"], bytes(1400)), to_us(ENDS["v6"], bytes(1400)))
    assert endpoint.queued == 5
    assert (lan["UdpRcvbufErrors"], lan["Udp6RcvbufErrors"], endpoint.drops) == (7, 8, 15)
    endpoint.recv()
    lan.give(to_us(ENDS["v4"], bytes(1400)))
    assert endpoint.queued == 5


def test_one_datagram_larger_than_the_buffer_gets_in_alone():
    lan = Lan(sysctl=Sysctl(rmem_default=2304))
    endpoint = bound(lan)
    lan.give(to_us(ENDS["v4"], bytes(1400) * 3), to_us(ENDS["v4"], b"x"))
    assert endpoint.queued == 1


def test_broadcast_and_multicast_go_to_all_whose_address_matches(lan):
    group = parse_addr("239.1.2.3")
    wild = bound(lan, ANY4, reuseaddr=True)
    also = bound(lan, ANY4, reuseaddr=True)
    unicast = bound(lan, US4, reuseaddr=True)
    member = bound(lan, group, reuseaddr=True)
    member.join(group)
    lan.raw()
    lan.give(build.udp((PEER4, 9), (BROADCAST4, 7), b"all"), build.udp((PEER4, 9), (group, 7), b"group"))
    assert [endpoint.queued for endpoint in (wild, also, unicast, member)] == [2, 2, 0, 1]


# --- who receives


def receiver(lan, packet, *endpoints):
    lan.give(packet)
    (got,) = [endpoint for endpoint in endpoints if endpoint.queued]
    got.recv()
    return got


def test_the_most_specific_endpoint_receives(lan):
    wild6 = bound(lan, ANY6, reuseaddr=True)
    wild4 = bound(lan, ANY4, reuseaddr=True)
    exact = bound(lan, US4, reuseaddr=True)
    connected = bound(lan, US4, reuseaddr=True)
    connected.connect((PEER4, 9))
    everybody = (wild6, wild4, exact, connected)
    packet4 = to_us(ENDS["v4"])
    assert receiver(lan, packet4, *everybody) is connected
    assert receiver(lan, to_us(ENDS["v4"], sport=10), *everybody) is exact
    assert receiver(lan, to_us(ENDS["v6"]), *everybody) is wild6
    connected.close()
    exact.close()
    assert receiver(lan, packet4, *everybody) is wild4
    wild4.close()
    assert receiver(lan, packet4, *everybody) is wild6


def test_a_connected_endpoint_hears_its_remote_only(lan, ends):
    endpoint = bound(lan)
    endpoint.connect((ends[0], 9))
    lan.give(to_us(ends, sport=10))
    assert endpoint.queued == 0
    assert lan["UdpNoPorts"] + lan["Udp6NoPorts"] == 1
    lan.give(to_us(ends))
    assert endpoint.queued == 1
    endpoint.disconnect()
    lan.give(to_us(ends, sport=10))
    assert endpoint.queued == 2


def test_reuseport_spreads_by_sender_and_is_steady(lan):
    group = [bound(lan, ANY4, reuseport=True) for _ in range(4)]
    seen = {}
    for sport in range(1, 200):
        seen[sport] = receiver(lan, to_us(ENDS["v4"], sport=sport), *group)
    assert set(seen.values()) == set(group)
    assert all(receiver(lan, to_us(ENDS["v4"], sport=sport), *group) is one for sport, one in seen.items())


def test_v6only_leaves_ipv4_to_others(lan):
    only6 = bound(lan, ANY6, v6only=True)
    only4 = bound(lan, ANY4)
    assert receiver(lan, to_us(ENDS["v4"]), only6, only4) is only4
    assert receiver(lan, to_us(ENDS["v6"]), only6, only4) is only6


# --- binding


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ((ANY4, {}), (ANY4, {}), True),
        ((ANY4, {}), (US4, {}), True),
        ((US4, {}), (ANY6, {}), True),
        ((ANY6, {}), (ANY4, {}), True),
        ((US4, {}), (MORE4, {}), False),
        ((US4, {}), (US6, {}), False),
        ((ANY4, {}), (US6, {}), False),
        ((ANY4, {}), (ANY6, {"v6only": True}), False),
        ((ANY6, {"v6only": True}), (US6, {}), True),
        ((ANY4, {"reuseaddr": True}), (ANY4, {"reuseaddr": True}), False),
        ((ANY4, {"reuseaddr": True}), (ANY4, {}), True),
        ((ANY4, {"reuseport": True}), (ANY6, {"reuseport": True}), False),
        ((ANY4, {"reuseport": True}), (ANY4, {"reuseaddr": True}), True),
    ],
)
def test_who_may_share_a_port_is_decided_as_in_linux(lan, first, second, clash):
    lan.stack.add_addr(lan.link, MORE4, 24)
    for one, other in ((first, second), (second, first)):
        holder = bound(lan, one[0], 7, **one[1])
        if clash:
            with refused(errno.EADDRINUSE):
                bound(lan, other[0], 7, **other[1])
        else:
            bound(lan, other[0], 7, **other[1])
        for endpoint in lan.stack.udp.endpoints():
            endpoint.close()
        lan.stack.check()
        assert holder.closed


def test_what_bind_refuses(lan):
    with refused(errno.EADDRNOTAVAIL):
        bound(lan, PEER4)
    with refused(errno.EAFNOSUPPORT):
        lan.stack.udp.open(False).bind(US6, 7)
    endpoint = bound(lan)
    with refused(errno.EINVAL):
        endpoint.bind(ANY6, 8)


def test_a_bind_that_failed_can_be_tried_again(lan):
    bound(lan)
    endpoint = lan.stack.udp.open(True)
    with refused(errno.EADDRINUSE):
        endpoint.bind(ANY6, 7)
    endpoint.bind(ANY6, 8)
    assert endpoint.local == (ANY6, 8)


@pytest.mark.rfc("6056", "3.3.1")
def test_ephemeral_ports_are_unpredictable_and_run_out():
    lan = Lan(sysctl=Sysctl(ip_local_port_range=(40000, 40099)))
    ports = [bound(lan, ANY4, 0).local[1] for _ in range(100)]
    assert sorted(ports) == list(range(40000, 40100))
    assert ports != sorted(ports)
    with refused(errno.EADDRINUSE):
        bound(lan, ANY4, 0)
    with refused(errno.EAGAIN):
        lan.stack.udp.open(False).connect((PEER4, 9))
    lan.stack.check()


def test_connect_names_the_local_end_and_disconnect_forgets_it(lan, ends):
    endpoint = lan.stack.udp.open(True)
    endpoint.connect((ends[0], 9))
    assert endpoint.local[0] == ends[1]
    assert 32768 <= endpoint.local[1] <= 60999
    endpoint.disconnect()
    assert endpoint.local == (ANY6, 0)
    endpoint.bind(ANY6, 7)
    endpoint.connect((ends[0], 9))
    endpoint.disconnect()
    assert endpoint.local == (ANY6, 7)
    lan.stack.check()


# --- to ourselves


@pytest.mark.parametrize("dst", [LOOPBACK4, LOOPBACK6, US4, US6, ANY4, ANY6])
def test_datagrams_to_ourselves_come_back_inside_poll_transmit(lan, dst):
    server = bound(lan)
    client = lan.stack.udp.open(True)
    payload = random.Random(5).randbytes(9000)
    client.sendto(payload, (dst, 7), 0)
    assert lan.raw() == []
    got = server.recv()
    assert bytes(got.data) == payload
    server.sendto(b"answer", (got.addr, got.port), 0)
    assert lan.raw() == []
    assert bytes(client.recv().data) == b"answer"


def test_a_closed_port_of_our_own_refuses(lan):
    client = lan.stack.udp.open(False)
    client.connect((LOOPBACK4, 4))
    client.sendto(b"", None, 0)
    assert lan.raw() == []
    assert client.take_error() == errno.ECONNREFUSED
    assert client.take_error() == 0


def test_the_same_secret_gives_the_same_bytes():
    def run(secret):
        lan = Lan()
        lan.stack = type(lan.stack)(secret=secret)
        lan.link = lan.stack.add_link("tun0", [(US4, 24)])
        lan.stack.udp.open(False).sendto(bytes(3000), (PEER4, 9), 0)
        return lan.raw()

    assert run(SECRET) == run(SECRET)
    assert unpack("!H", run(SECRET)[0][30:32]) != unpack("!H", run(bytes(32))[0][30:32])


def test_what_is_wrong_with_a_datagram_is_told_before_an_earlier_error():
    """As in Linux, where the pending error is looked at when memory for the packet is taken."""
    stack = Stack(secret=bytes(32))
    stack.add_link("tun0", [(parse_addr("10.64.0.2"), 24)])
    for entry in list(stack.routes.entries()):
        if not entry.length:
            stack.routes.remove(entry)
    udp = stack.udp.open(False)
    udp.fail(errno.ECONNREFUSED)
    for dest, size, wrong in (
        (("192.0.2.1", 1), 1, errno.ENETUNREACH),
        (("10.64.0.1", 0), 1, errno.EINVAL),
        (("10.64.0.1", 1), 70_000, errno.EMSGSIZE),
        (("10.64.0.1", 1), 1, errno.ECONNREFUSED),
    ):
        with pytest.raises(StackError) as raised:
            udp.sendto(bytes(size), (parse_addr(dest[0]), dest[1]), 0)
        assert raised.value.errno == wrong
    udp.sendto(b"x", (parse_addr("10.64.0.1"), 1), 0)


def test_connected_to_port_zero_every_port_of_that_host_is_heard():
    lan = Lan()
    ours = bound(lan, US4, 7)
    ours.connect((PEER4, 0))
    lan.give(build.udp((PEER4, 9), (US4, 7), b"any port"))
    lan.give(build.udp((MORE4, 9), (US4, 7), b"another host"))
    assert bytes(ours.recv().data) == b"any port"
    assert ours.recv() is None


def test_once_connected_over_ipv4_an_ipv6_socket_reaches_no_ipv6():
    """As in Linux, until it is connected to nothing: its own address is an IPv4 one, mapped."""
    lan = Lan()
    ours = lan.stack.udp.open(True)
    ours.connect((PEER4, 9))
    for reach in (ours.connect, lambda there: ours.sendto(b"x", there, 0)):
        with pytest.raises(StackError) as raised:
            reach((PEER6, 9))
        assert raised.value.errno == errno.EAFNOSUPPORT
    ours.disconnect()
    ours.connect((PEER6, 9))
    assert ours.local[0] == US6
