"""Accurate ECN on the wire, RFC 9768. What breaks packets on the way is a link that rewrites them with dpkt."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import dpkt
import pytest

from kit.link import Link
from kit.oracle import Packet, decode
from kit.pair import Pair
from stack.tcp.accecn import AccEcn
from stack.units import MSEC, SEC, Nanos
from stack.wire.tcp import ACE, ACK, CWR, ECE, SYN, Segment

NOT_ECT, ECT1, ECT0, CE = range(4)
ACCURATE = {"net.ipv4.tcp_ecn": "3"}
ACE_OF = {NOT_ECT: 0b010, ECT1: 0b011, ECT0: 0b100, CE: 0b110}
Edit = Callable[[int, Any], None]
Seen = list[tuple[str, Packet]]


@dataclass(slots=True, eq=False)
class Meddler(Link):
    """A middlebox: `edit` gets the number of each packet (from 0) and the packet, and may change it."""

    edit: Edit = lambda _number, _ip: None
    seen: int = 0

    def send(self, packet: bytes, now: Nanos) -> list[tuple[Nanos, bytes]]:
        ip = dpkt.ip.IP(packet[10:])
        self.edit(self.seen, ip)
        self.seen += 1
        ip.sum = ip.data.sum = 0
        return Link.send(self, packet[:10] + bytes(ip), now)


def with_ecn(number: int, ecn: int) -> Edit:
    def edit(n: int, ip: Any) -> None:
        if n == number:
            ip.tos = ecn

    return edit


def with_ace(number: int, ace: int) -> Edit:
    def edit(n: int, ip: Any) -> None:
        if n == number:
            ip.data.flags = ip.data.flags & ~ACE | ace << 6

    return edit


def ace(packet: Packet) -> int:
    return packet.flags >> 6 & 7


def accecn_pair(
    link: Link | None = None, back: Link | None = None, *, v6: bool = False, a: int = 3, b: int = 3
) -> tuple[Pair, Seen]:
    pair = Pair(link or Link(), back, v6=v6)
    pair.a.sysctl.tcp_ecn, pair.b.sysctl.tcp_ecn = a, b
    seen: Seen = []
    pair.taps.append(lambda name, packet, _now: seen.append((name, decode([packet]))))
    return pair, seen


def send(pair: Pair, conn: Any, size: int) -> None:
    conn.send(b"x" * size)
    pair.flush()
    pair.idle(SEC)


# ---------------------------------------------------------------------- handshake


@pytest.mark.rfc("9768", "3.1.1")
@pytest.mark.parametrize("v6", [False, True])
def test_three_flags_ask_and_the_answer_says_how_the_syn_came(v6: bool) -> None:
    pair, seen = accecn_pair(v6=v6)
    client, server = pair.connect()
    pair.idle(SEC)
    assert [packet.flags for _name, packet in seen[:3]] == [SYN | ACE, SYN | ACK | CWR, ACK | CWR]
    for conn in (client, server):
        assert "accecn" in conn.info(pair.clock.now).options
    send(pair, client, 4000)
    send(pair, server, 4000)
    for _name, packet in seen:
        assert packet.tos & 3 == (NOT_ECT if packet.flags & SYN else ECT0)
    for _name, packet in seen[3:]:
        assert ace(packet) == 5


@pytest.mark.rfc("9768", "3.1.2")
@pytest.mark.rfc("9768", "3.2.2.3")
@pytest.mark.parametrize("field", [ECT1, ECT0, CE])
def test_a_syn_whose_ecn_field_was_changed_is_told_of_and_the_client_sends_no_ect(field: int) -> None:
    pair, seen = accecn_pair(Meddler(edit=with_ecn(0, field)))
    client, server = pair.connect()
    assert ace(seen[1][1]) == ACE_OF[field]
    send(pair, client, 4000)
    send(pair, server, 4000)
    assert {packet.tos & 3 for name, packet in seen if name == "a"} == {NOT_ECT}
    assert ECT0 in {packet.tos & 3 for name, packet in seen if name == "b"}  # the other half is not concerned


@pytest.mark.rfc("9768", "3.2.2.1")
@pytest.mark.parametrize("field", [NOT_ECT, ECT1, ECT0, CE])
def test_the_third_ack_says_how_the_syn_ack_came(field: int) -> None:
    pair, seen = accecn_pair(back=Meddler(edit=with_ecn(0, field)))
    _client, server = pair.connect()
    third, *_later = [packet for name, packet in seen if name == "a"][1:]
    assert not third.payload
    assert ace(third) == ACE_OF[field]
    send(pair, server, 4000)
    assert {packet.tos & 3 for name, packet in seen if name == "b" and packet.payload} == {0 if field else ECT0}
    assert server.ecn.delivered_ce == (field == CE)
    assert ace([packet for name, packet in seen if name == "a"][-1]) == (6 if field == CE else 5)


@pytest.mark.rfc("9768", "3.2.2.1")
def test_text_that_waits_goes_out_behind_the_third_ack() -> None:
    pair, seen = accecn_pair()
    binding = pair.b.tcp.bind(bytes((10, 64, 0, 2)), 7)
    pair.b.tcp.listen(binding, 1)
    client = pair.a.tcp.connect((bytes((10, 64, 0, 2)), 7), pair.clock.now)
    client.send(b"early")
    pair.flush()
    pair.idle(SEC)
    ours = [packet for name, packet in seen if name == "a"]
    assert [(bool(packet.payload), ace(packet)) for packet in ours[1:3]] == [(False, 0b010), (True, 5)]


@pytest.mark.rfc("9768", "3.1.2")
@pytest.mark.parametrize(
    ("a", "b", "flags", "kind"),
    [
        (3, 2, (ACE, ECE), "Ecn"),
        (3, 1, (ACE, ECE), "Ecn"),
        (3, 0, (ACE, 0), "NoneType"),
        (3, 5, (ACE, CWR), "AccEcn"),
        (3, 4, (ACE, CWR), "AccEcn"),
        (1, 3, (ECE | CWR, ECE), "Ecn"),
        (4, 3, (ECE | CWR, ECE), "Ecn"),
        (5, 3, (0, 0), "NoneType"),
        (2, 3, (0, 0), "NoneType"),
    ],
)
def test_both_ends_settle_on_what_both_can_do(a: int, b: int, flags: tuple[int, int], kind: str) -> None:
    pair, seen = accecn_pair(a=a, b=b)
    client, server = pair.connect()
    assert (seen[0][1].flags & ACE, seen[1][1].flags & ACE) == flags
    assert type(client.ecn).__name__ == type(server.ecn).__name__ == kind
    send(pair, client, 20_000)
    assert server.readable == 20_000


@pytest.mark.rfc("9768", "3.1.2")
@pytest.mark.parametrize(("reply", "kind"), [(0b111, "NoneType"), (0b000, "NoneType"), (0b101, "Ecn"), (0b001, "Ecn")])
def test_other_answers_mean_classic_ecn_or_none(reply: int, kind: str) -> None:
    pair, _seen = accecn_pair(back=Meddler(edit=with_ace(0, reply)))
    client, _server = pair.connect()
    assert type(client.ecn).__name__ == kind


@pytest.mark.rfc("9768", "3.1.3")
@pytest.mark.parametrize("odd", [0b001, 0b010, 0b100, 0b101, 0b110])
def test_a_syn_that_asks_in_an_unknown_way_is_taken_as_asking_for_accecn(odd: int) -> None:
    pair, seen = accecn_pair(Meddler(edit=with_ace(0, odd)))
    pair.connect()
    assert ace(seen[1][1]) == ACE_OF[NOT_ECT]


@pytest.mark.rfc("9768", "3.1.4.1")
def test_a_lost_syn_asks_once_more_and_then_for_nothing() -> None:
    pair, seen = accecn_pair(Link(loss={0, 1}))
    client, _server = pair.connect()
    syns = [packet.flags for name, packet in seen if name == "a" and packet.flags & SYN]
    assert syns == [SYN | ACE, SYN | ACE, SYN]
    assert client.ecn is None


# ---------------------------------------------------------------------- feedback


@pytest.mark.rfc("9768", "3.2.2.2")
@pytest.mark.parametrize("v6", [False, True])
def test_every_mark_is_counted_and_the_window_shrinks_once(v6: bool) -> None:
    link = Link(delay=5 * MSEC, marks={4, 5, 8, 9})
    pair, seen = accecn_pair(link, v6=v6)
    client, server = pair.connect()
    before = client.cc.cwnd
    send(pair, client, 40_000)
    assert server.readable == 40_000
    assert link.marked == client.ecn.delivered_ce == server.ecn.received_ce == 4
    assert client.cc.cwnd < before
    assert ace([packet for name, packet in seen if name == "b"][-1]) == 1  # 5 + 4, of which three bits
    assert client.info(pair.clock.now).total_retrans == 0
    assert client.ecn.sends_ect


@pytest.mark.rfc("9768", "3.2.2.5.1")
def test_the_first_mark_is_acknowledged_at_once() -> None:
    pair, seen = accecn_pair(Link(delay=5 * MSEC, marks={2}))
    client, _server = pair.connect()
    pair.idle(SEC)
    sent_at = pair.clock.now
    times: list[Nanos] = []
    pair.taps.append(lambda name, _packet, now: times.append(now) if name == "b" else None)
    send(pair, client, 100)
    assert times[0] - sent_at < 6 * MSEC
    assert ace([packet for name, packet in seen if name == "b"][-1]) == 6


@pytest.mark.rfc("9768", "3.2.2.4")
def test_a_counter_that_comes_zeroed_ends_ect_and_is_not_believed() -> None:
    pair, seen = accecn_pair(back=Meddler(edit=lambda n, ip: with_ace(n, 0)(n, ip) if n else None))
    client, server = pair.connect()
    send(pair, client, 4000)
    before, start = client.cc.cwnd, len(seen)
    send(pair, client, 40_000)
    assert server.readable == 44_000
    assert {packet.tos & 3 for name, packet in seen[start:] if name == "a"} == {NOT_ECT}
    assert client.cc.cwnd >= before
    assert client.ecn.delivered_ce == 0


@pytest.mark.rfc("9768", "3.2.2.4")
def test_a_third_ack_that_comes_zeroed_makes_the_server_send_no_ect() -> None:
    pair, seen = accecn_pair(Meddler(edit=with_ace(1, 0)))
    _client, server = pair.connect()
    send(pair, server, 4000)
    assert {packet.tos & 3 for name, packet in seen if name == "b"} == {NOT_ECT}


@pytest.mark.rfc("9768", "3.2.2.5.2")
@pytest.mark.parametrize(
    ("packets", "ace_now", "counted", "marks"),
    [
        (2, 5, None, 0),
        (7, 4, None, 7),
        (2, 7, None, 2),
        (10, 7, None, 10),  # 2 or 10: the most
        (20, 7, None, 18),
        (20, 5, 0, 0),  # the byte counter knows
        (20, 7, 2, 2),
        (20, 7, 10, 10),
        (20, 7, 18, 18),
        (20, 7, 11, 10),  # bytes are not packets: the nearest that ACE allows
    ],
)
def test_an_ack_for_many_packets_is_read_to_be_safe(
    packets: int, ace_now: int, counted: int | None, marks: int
) -> None:
    conn: Any = SimpleNamespace(tcb=SimpleNamespace(mss_cache=1000))
    ecn = AccEcn(NOT_ECT)
    seg = Segment(0, 0, ACK | ace_now << 6, 0, 0, memoryview(b""), 0, -1, 0, None, b"")
    if counted is not None:
        fields = (1 + 1000 * (packets - counted), 1000 * counted, 1)
        seg.accecn = (172, b"".join(each.to_bytes(3, "big") for each in fields))
    assert ecn.marks(conn, seg, packets * 1000) == marks


# ---------------------------------------------------------------------- options


@pytest.mark.rfc("9768", "3.2.3")
def test_options_are_on_the_syn_ack_and_on_acks_and_count_bytes() -> None:
    pair, seen = accecn_pair(Link(delay=5 * MSEC, marks={4}))
    client, _server = pair.connect()
    send(pair, client, 14_480)
    assert seen[0][1].option(172) is None
    assert seen[1][1].option(172) == bytes((0, 0, 1, 0, 0, 0, 0, 0, 1))
    last = [packet for name, packet in seen if name == "b"][-1].option(172)
    assert last is not None
    e0b, ceb, e1b = (int.from_bytes(last[at : at + 3], "big") for at in (0, 3, 6))
    assert (e0b + ceb, ceb, e1b) == (14_481, 1448, 1)
    assert client.ecn.delivered_bytes[1:] == [e1b, e0b, ceb]


@pytest.mark.rfc("9768", "3.2.3.3")
def test_few_options_where_few_are_wanted_and_none_where_none() -> None:
    counts = []
    for wanted in (0, 1, 2):
        pair, seen = accecn_pair(Link(delay=20 * MSEC, rate=20_000_000))
        pair.b.sysctl.tcp_ecn_option = wanted
        client, _server = pair.connect()
        send(pair, client, 300_000)
        acks = [packet for name, packet in seen if name == "b"]
        counts.append(sum(packet.option(172) is not None for packet in acks))
    assert counts[0] == 0
    assert 2 <= counts[1] < counts[2] // 2


@pytest.mark.rfc("9768", "3.2.3.2.2")
def test_a_syn_ack_sent_again_has_no_option() -> None:
    pair, seen = accecn_pair(back=Link(loss={0}))
    client, server = pair.connect()
    first, second = [packet for _name, packet in seen if packet.flags & (SYN | ACK) == SYN | ACK][:2]
    assert first.option(172)
    assert second.option(172) is None
    send(pair, client, 40_000)
    assert server.readable == 40_000


@pytest.mark.rfc("9768", "3.2.3.2.4")
def test_an_option_that_comes_zeroed_is_ignored() -> None:
    def zero(_number: int, ip: Any) -> None:
        at = ip.data.opts.find(bytes((172, 11)))
        if at >= 0:
            ip.data.opts = ip.data.opts[: at + 2] + bytes(9) + ip.data.opts[at + 11 :]

    pair, _seen = accecn_pair(Link(marks={5}), Meddler(edit=zero))
    client, _server = pair.connect()
    send(pair, client, 40_000)
    assert client.ecn.ignore_options
    assert client.ecn.delivered_ce & 7 == 1  # more where an ACK covered more than seven packets


# ---------------------------------------------------------------------- what is sent


@pytest.mark.rfc("9768", "3.2.2.2")
def test_no_super_segment_where_cutting_would_clear_a_bit_of_the_counter() -> None:
    pair, seen = accecn_pair(Link(marks={2}))
    client, server = pair.connect()
    pair.idle(SEC)
    send(pair, client, 100)
    start = len(seen)
    send(pair, server, 30_000)
    text = [packet for name, packet in seen[start:] if name == "b" and packet.payload]
    assert len(text) > 20
    assert {ace(packet) for packet in text} == {6}


def test_a_retransmission_is_ecn_capable_as_in_linux() -> None:
    pair, seen = accecn_pair(Link(loss={5}))
    client, server = pair.connect()
    send(pair, client, 10_000)
    assert server.readable == 10_000
    assert {packet.tos & 3 for name, packet in seen if name == "a" and packet.payload} == {ECT0}


def test_the_marks_of_a_queue_are_counted_exactly() -> None:
    link = Link(rate=50_000_000, delay=10 * MSEC, queue=400_000, mark_over=60_000)
    pair = Pair(link, sysctl=ACCURATE)
    client, server = pair.connect()
    client.send(b"x" * 2_000_000)
    pair.flush()
    read = 0
    while read < 2_000_000 and pair.step():
        size = server.readable
        server.consume(size)
        read += size
    pair.idle(SEC)
    assert read == 2_000_000
    assert client.info(pair.clock.now).total_retrans == 0
    assert link.marked == server.ecn.received_ce == client.ecn.delivered_ce > 0


@pytest.mark.rfc("3168", "5")
def test_a_marking_queue_keeps_the_link_busy_without_loss() -> None:
    link = Link(rate=50_000_000, delay=10 * MSEC, queue=400_000, mark_over=60_000)
    report = Pair(link, sysctl=ACCURATE).transfer(4_000_000)
    assert report.intact
    assert report.retrans_segs == 0
    assert link.marked
    assert report.goodput > 35_000_000


@pytest.mark.rfc("9768", "3.2.2.1")
def test_a_syn_ack_that_comes_again_is_answered_with_the_same_code() -> None:
    pair, seen = accecn_pair(Link(loss={1}))  # the third ACK
    client, server = pair.connect()
    ours = [packet for name, packet in seen if name == "a"]
    assert [ace(packet) for packet in ours[1:3]] == [0b010, 0b010]
    send(pair, client, 4000)
    assert server.readable == 4000
    assert server.ecn.sends_ect
