"""Explicit Congestion Notification on the wire, RFC 3168 §6.1."""

import pytest

from kit.link import Link
from kit.oracle import Packet, decode
from kit.pair import Pair
from stack.units import MSEC, SEC
from stack.wire.tcp import ACK, CWR, ECE, SYN

ECT0, CE = 2, 3
ASKING = {"net.ipv4.tcp_ecn": "1"}
Seen = list[tuple[str, Packet]]


def ecn_pair(link: Link | None = None, *, v6: bool = False, sysctl: dict[str, str] | None = None) -> tuple[Pair, Seen]:
    pair = Pair(link or Link(), v6=v6, sysctl=ASKING if sysctl is None else sysctl)
    seen: Seen = []
    pair.taps.append(lambda name, packet, _now: seen.append((name, decode([packet]))))
    return pair, seen


@pytest.mark.rfc("3168", "6.1.1")
@pytest.mark.parametrize("v6", [False, True])
def test_the_handshake_agrees_and_text_is_ecn_capable(v6: bool) -> None:
    pair, seen = ecn_pair(v6=v6)
    client, server = pair.connect()
    client.send(b"x" * 4000)
    pair.flush()
    pair.idle(SEC)
    assert [packet.flags for _name, packet in seen[:2]] == [SYN | ECE | CWR, SYN | ACK | ECE]
    assert "ecn" in client.info(pair.clock.now).options
    assert "ecnseen" in server.info(pair.clock.now).options
    for _name, packet in seen:
        assert packet.tos & 3 == (ECT0 if packet.payload else 0)  # §6.1.4: never on a bare ACK


@pytest.mark.rfc("3168", "6.1.1")
def test_by_default_it_is_accepted_but_not_asked_for() -> None:
    pair, seen = ecn_pair(sysctl={})
    client, _server = pair.connect()
    assert seen[0][1].flags == SYN
    assert client.ecn is None


@pytest.mark.rfc("3168", "6.1.1.1")
def test_a_syn_sent_again_asks_no_more() -> None:
    pair, seen = ecn_pair(Link(loss={0}))
    client, _server = pair.connect()
    syns = [packet.flags for name, packet in seen if name == "a" and packet.flags & SYN]
    assert syns == [SYN | ECE | CWR, SYN]
    assert client.ecn is None


@pytest.mark.rfc("3168", "6.1.3")
def test_a_mark_is_echoed_until_cwr_and_shrinks_the_window_once() -> None:
    pair, seen = ecn_pair(Link(delay=5 * MSEC, marks={2 + 4, 2 + 5}))
    client, server = pair.connect()
    before = client.cc.cwnd
    client.send(b"x" * 40_000)
    pair.flush()
    pair.idle(SEC)
    assert server.readable == 40_000
    assert client.cc.cwnd < before
    echoes = [packet for name, packet in seen if name == "b" and packet.flags & ECE and not packet.flags & SYN]
    cwrs = [packet for name, packet in seen if name == "a" and packet.flags & CWR and not packet.flags & SYN]
    assert echoes
    assert len(cwrs) == 1
    assert cwrs[0].payload
    after = [packet for name, packet in seen if name == "b"][-1]
    assert not after.flags & ECE  # the peer said CWR, so the echo ended
    assert client.info(pair.clock.now).total_retrans == 0


@pytest.mark.rfc("3168", "6.1.5")
def test_a_retransmission_is_not_ecn_capable() -> None:
    pair, seen = ecn_pair(Link(loss={4}))
    client, server = pair.connect()
    client.send(b"x" * 10_000)
    pair.flush()
    pair.idle(SEC)
    assert server.readable == 10_000
    sent: set[int] = set()
    for name, packet in seen:
        if name == "a" and packet.payload:
            assert packet.tos & 3 == (0 if packet.seq in sent else ECT0)
            sent.add(packet.seq)


@pytest.mark.rfc("3168", "5")
def test_a_marking_queue_keeps_the_link_busy_without_loss() -> None:
    link = Link(rate=50_000_000, delay=10 * MSEC, queue=400_000, mark_over=60_000)
    pair, _seen = ecn_pair(link)
    report = pair.transfer(4_000_000)
    assert report.intact
    assert report.retrans_segs == 0
    assert link.marked
    assert report.goodput > 35_000_000
