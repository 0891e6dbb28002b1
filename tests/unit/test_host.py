"""The façade: links, time, events, loopback, and that no bytes whatever make it raise."""

import errno
from struct import pack

from hypothesis import example, given, settings
from hypothesis.strategies import binary, booleans, data, integers, lists, sampled_from, tuples

from kit import build
from kit.lan import PEER4, PEER6, SECRET, US4, US6, Lan, fragments, refused
from stack import Malformed, Stack
from stack.entropy import Entropy
from stack.events import READABLE
from stack.host import LO_BUDGET
from stack.ip import input as ip_input
from stack.ip.addr import LOOPBACK4, LOOPBACK6, parse_addr
from stack.mib import mib_items
from stack.units import SEC

# --- links


def test_a_new_stack_has_lo():
    stack = Stack(secret=SECRET)
    lo = stack.links["lo"]
    assert (lo.addrs, lo.mtu, lo.loopback) == ([(LOOPBACK4, 8), (LOOPBACK6, 128)], 65535, True)
    stack.check()


def test_a_short_secret_is_refused():
    with refused(errno.EINVAL):
        Stack(secret=bytes(31))


def test_what_add_link_refuses(lan):
    stack = lan.stack
    for code, name, addrs, mtu in (
        (errno.EEXIST, "tun0", [], 1500),
        (errno.EEXIST, "tun1", [(US4, 24)], 1500),
        (errno.EINVAL, "tun1", [(US4[:3], 24)], 1500),
        (errno.EINVAL, "tun1", [(PEER4, 33)], 1500),
        (errno.EINVAL, "tun1", [], 67),
        (errno.EINVAL, "tun1", [], 65536),
        (errno.EINVAL, "tun1", [(PEER6, 64)], 1279),
    ):
        with refused(code):
            stack.add_link(name, addrs, mtu)
    assert list(stack.links) == ["lo", "tun0"]
    stack.check()


def test_links_are_numbered_and_removed(lan):
    stack = lan.stack
    other = stack.add_link("tun1", [(parse_addr("10.64.1.2"), 24)])
    assert (lan.link.index, other.index) == (2, 3)
    stack.remove_link(lan.link)
    assert stack.route(PEER4).link is other
    assert stack.add_link("tun0", [(US4, 24)]).index == 4
    for link in (lan.link, stack.lo):
        with refused(errno.EINVAL):
            stack.remove_link(link)
    stack.check()


def test_the_mtu_of_a_link_can_change(lan):
    conn = lan.stack.tcp.connect((PEER4, 80), 0)
    lan.stack.set_link_mtu(lan.link, 1300)
    assert lan.stack.route(PEER4).mtu == conn.mtu == 1300
    with refused(errno.EINVAL):
        lan.stack.set_link_mtu(lan.link, 1000)


def test_packets_for_a_link_that_went_down_are_dropped_and_counted(lan):
    lan.stack.udp.open(False).sendto(b"", (PEER4, 9), 0)
    lan.stack.set_link_up(lan.link, False)
    assert lan.raw() == []
    assert lan["NuseOutLinkDown"] == lan.link.stats.tx_dropped == 1


def test_links_count_packets_and_bytes(lan):
    lan.give(build.icmp(PEER4, US4, 8, 0, 1, b"1234"))
    lan.raw()
    stats = lan.link.stats
    assert (stats.rx_packets, stats.rx_bytes, stats.tx_packets, stats.tx_bytes) == (1, 32, 1, 32)


# --- events and time


def test_an_endpoint_with_much_news_is_told_once(lan):
    endpoint = lan.stack.udp.open(False)
    endpoint.bind(US4, 7)
    for _ in range(3):
        lan.give(build.udp((PEER4, 9), (US4, 7), b""))
    assert lan.stack.poll_event() == (endpoint, READABLE)
    assert lan.stack.poll_event() is None
    lan.give(build.udp((PEER4, 9), (US4, 7), b""))
    assert lan.stack.poll_event() == (endpoint, READABLE)


def test_the_next_deadline_is_the_earliest_of_all_organs(lan):
    stack = lan.stack
    assert stack.poll_timeout() is None
    stack.pmtu.learn(PEER4, 1300, 1500, 0)
    assert stack.poll_timeout() == 600 * SEC
    lan.give(fragments(build.udp((PEER6, 9), (US6, 7), bytes(3000)), 1448)[0])
    assert stack.poll_timeout() == 60 * SEC
    lan.give(fragments(build.udp((PEER4, 9), (US4, 7), bytes(3000)), 1448)[0])
    assert stack.poll_timeout() == 30 * SEC
    lan.pass_time(600 * SEC)
    assert stack.poll_timeout() is None


def test_a_storm_on_lo_returns_to_the_driver(lan):
    stack = lan.stack
    sink = stack.udp.open(False)
    sink.bind(LOOPBACK4, 7)
    source = stack.udp.open(False)
    for _ in range(LO_BUDGET + 10):
        source.sendto(b"", (LOOPBACK4, 7), 0)
    assert stack.poll_transmit(0) is None
    assert stack.poll_timeout() == 0
    stack.handle_timeout(0)
    assert stack.poll_transmit(0) is None
    assert stack.poll_timeout() is None
    assert lan["UdpInDatagrams"] + lan["UdpRcvbufErrors"] == LO_BUDGET + 10


def test_ids_are_unique_over_all_kinds(lan):
    stack = lan.stack
    ids = [stack.udp.open(False).id, stack.icmp.open_echo(True).id, stack.tcp.connect((PEER4, 80), 0).id]
    assert len(set(ids)) == 3


# --- entropy


@given(lists(integers(0, 200), max_size=20))
def test_entropy_is_one_stream_however_it_is_cut(sizes):
    whole = Entropy(SECRET).bytes(sum(sizes))
    parts = Entropy(SECRET)
    assert b"".join(parts.bytes(n) for n in sizes) == whole


def test_entropy_numbers_lie_in_their_range():
    entropy = Entropy(SECRET)
    assert all(0 <= entropy.below(7) < 7 for _ in range(100))
    assert len({entropy.u16() for _ in range(100)}) > 90
    assert len({entropy.u32() for _ in range(100)}) == 100


# --- hostile bytes

GROUP4 = parse_addr("239.1.2.3")
MLD_QUERY = "3a00050200000100" + "820079be03e80000" + "00" * 16 + "027d0000"
SEEDS = [
    build.tcp((PEER4, 9), (US4, 80), build.SYN, 1, options=build.opt_mss(1460) + build.opt_sack_ok()),
    build.tcp((PEER6, 9), (US6, 80), build.SYN, 1, options=build.opt_mss(1440) + build.opt_timestamps(1, 0)),
    build.tcp((PEER4, 9), (US4, 80), build.ACK, 2, 1, payload=b"data"),
    build.udp((PEER4, 9), (US4, 7), b"data"),
    build.udp((PEER6, 9), (US6, 7), b"data"),
    build.icmp(PEER4, US4, 8, 0, 1, b"ping"),
    build.icmp(PEER6, US6, 128, 0, 1, b"ping"),
    build.icmp(PEER4, US4, 3, 4, 1300, build.udp((US4, 7), (PEER4, 9), b"data")[10:]),
    build.icmp(PEER6, US6, 2, 0, 1300, build.udp((US6, 7), (PEER6, 9), b"data")[10:]),
    build.ip(PEER4, parse_addr("224.0.0.1"), 2, bytes.fromhex("110aecf50000000002000000"), ttl=1),
    build.ip(parse_addr("fe80::1"), parse_addr("ff02::1"), 0, bytes.fromhex(MLD_QUERY), ttl=1),
    build.udp((PEER4, 9), (GROUP4, 7), b"data"),
    *fragments(build.udp((PEER4, 9), (US4, 7), bytes(100)), 64),
    *fragments(build.udp((PEER6, 9), (US6, 7), bytes(100)), 64),
]


def serving():
    lan = Lan()
    lan.stack.tcp.listen(lan.stack.tcp.bind(bytes(16), 80), 16)
    lan.stack.udp.open(True).bind(bytes(16), 7)
    member = lan.stack.udp.open(False)
    member.join(GROUP4)
    lan.stack.raw.open(False, 1).options.recverr = True
    lan.stack.raw.open(True, 58).options.recverr6 = True
    lan.raw()
    return lan


def mended(packet):
    """The packet with a right IPv4 header checksum, so that it gets past the first gate."""
    if len(packet) < 30 or packet[10] >> 4 != 4:
        return packet
    end = 10 + max((packet[10] & 15) * 4, 20)
    head = packet[10:20] + b"\0\0" + packet[22:end]
    total = sum(int.from_bytes((head + b"\0")[i : i + 2], "big") for i in range(0, len(head), 2))
    return packet[:20] + (-total % 0xFFFF).to_bytes(2, "big") + packet[22:]


@given(binary(max_size=120))
@example(b"")
@example(bytes(10))
@example(b"\0" * 10 + b"\x45")
@example(b"\0" * 10 + b"\x60" + bytes(39))
def test_no_bytes_make_receive_raise(raw):
    lan = serving()
    lan.give(raw)
    lan.raw()


@settings(max_examples=300)
@given(
    lists(
        tuples(sampled_from(SEEDS), lists(tuples(integers(0, 150), integers(0, 255)), max_size=4), integers(0, 160)),
        min_size=1,
        max_size=8,
    ),
    booleans(),
)
def test_no_bent_packets_make_the_stack_raise_or_lose_its_invariants(packets, vouched):
    lan = serving()
    for seed, edits, cut in packets:
        packet = bytearray(seed)
        for at, value in edits:
            packet[at % len(packet)] = value
        if vouched:
            packet[0] |= 2
        if cut < len(packet):
            del packet[cut:]
        lan.give(mended(bytes(packet)))
        lan.raw()
        lan.pass_time(SEC)
    lan.pass_time(700 * SEC)
    lan.raw()


@settings(max_examples=300)
@given(data(), sampled_from(SEEDS[:3]))
def test_the_fast_path_only_skips_work_that_the_slow_path_would_do(data, seed):
    packet = bytearray(seed)
    header = 20 if seed[10] == 0x45 else 40
    for _ in range(data.draw(integers(0, 2))):
        packet[10 + data.draw(integers(0, header - 1))] = data.draw(
            sampled_from([0, 1, 2, 6, 10, 20, 60, 64, 127, 255])
        )
    packet += bytes(data.draw(sampled_from([0, 0, 6])))
    raw = mended(bytes(packet))
    fast, slow = serving(), serving()
    fast.give(raw)
    try:
        ip_input.receive(slow.stack, raw, 0, slow.link)
    except Malformed:
        slow.stack.mib.NuseInMalformed += 1
    assert mib_items(fast.stack.mib) == mib_items(slow.stack.mib)
    assert fast.raw() == slow.raw()


def test_a_gso_header_on_anything_is_harmless(lan):
    for seed in SEEDS:
        for gso_type in (1, 3, 4, 5, 0x81, 255):
            for gso_size in (0, 1, 65535):
                lan.give(pack("=BBHHHH", 1, gso_type, 65535, gso_size, 65535, 65535) + seed[10:])
    lan.raw()
