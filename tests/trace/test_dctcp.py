"""DCTCP's feedback on the wire, RFC 8257 §3: each ACK tells whether the text it acknowledges met congestion."""

import pytest

from kit.link import Link
from kit.oracle import Packet, decode
from kit.pair import Pair
from stack.tcp.ecn import DctcpEcn, Ecn
from stack.tcp.options import TcpOptions
from stack.units import MSEC, SEC
from stack.wire.tcp import ACK, CWR, ECE, SYN

ECT0, CE = 2, 3
MSS = 1448
DCTCP = {"net.ipv4.tcp_congestion_control": "dctcp"}
Seen = list[tuple[str, Packet]]


def dctcp_pair(link: Link | None = None, *, v6: bool = False) -> tuple[Pair, Seen]:
    pair = Pair(link or Link(), v6=v6, sysctl=DCTCP)
    seen: Seen = []
    pair.taps.append(lambda name, packet, _now: seen.append((name, decode([packet]))))
    return pair, seen


def acks_of(seen: Seen, start: int) -> list[tuple[int, bool]]:
    """(segments newly acknowledged, ECE) of each ACK of `b` after the handshake."""
    acks = [
        (packet.ack - start, bool(packet.flags & ECE))
        for name, packet in seen
        if name == "b" and packet.flags == packet.flags & ~SYN
    ]
    at, out = 0, []
    for ack, echo in acks:
        if ack > at:
            out.append(((ack - at) // MSS, echo))
            at = ack
    return out


@pytest.mark.rfc("8257", "3.1")
@pytest.mark.parametrize("v6", [False, True])
def test_it_asks_for_ecn_by_itself_and_all_but_syns_is_ecn_capable(v6: bool) -> None:
    pair, seen = dctcp_pair(Link(loss={4}), v6=v6)
    client, server = pair.connect()
    client.send(b"x" * 20_000)
    pair.flush()
    pair.idle(SEC)
    assert server.readable == 20_000
    assert [packet.flags for _name, packet in seen[:2]] == [SYN | ECE | CWR, SYN | ACK | ECE]
    assert client.info(pair.clock.now).total_retrans == 1
    for _name, packet in seen:
        assert packet.tos & 3 == (0 if packet.flags & SYN else ECT0)


@pytest.mark.rfc("8257", "3.2")
@pytest.mark.parametrize(
    "marked",
    [{4}, {4, 5}, {4, 6}, {3, 4, 5, 6, 7}, {8}, {11}, {5, 6, 9, 10}, set(range(2, 12)), set(range(3, 12, 2))],
    ids=str,
)
def test_the_acks_tell_exactly_which_text_was_marked(marked: set[int]) -> None:
    """Packets 0 and 1 are of the handshake, 2 to 11 the first window."""
    pair, seen = dctcp_pair(Link(marks=marked))
    client, server = pair.connect()
    client.send(b"x" * (10 * MSS))
    start = client.tcb.snd_una & 0xFFFF_FFFF
    pair.flush()
    pair.idle(SEC)
    assert server.readable == 10 * MSS
    told = [echo for segments, echo in acks_of(seen, start) for _ in range(segments)]
    assert told == [2 + n in marked for n in range(10)]
    assert client.ecn.delivered_ce == len(marked)


@pytest.mark.rfc("8257", "3.2")
def test_a_change_is_told_at_once_and_a_delayed_ack_goes_first_with_the_old_state() -> None:
    pair, seen = dctcp_pair(Link(marks={2 + 12}))
    client, _server = pair.connect()
    client.send(b"x" * (12 * MSS))  # quick ACKs are over after this
    pair.flush()
    pair.idle(SEC)
    del seen[:]
    before = pair.clock.now
    start = client.tcb.snd_una & 0xFFFF_FFFF
    client.set_option("nodelay", True)
    client.send(b"x" * 100)  # unmarked: its ACK is delayed …
    pair.link.marks = {pair.link._number + 1}
    pair.flush()
    client.send(b"y" * 100)  # … until this marked one
    pair.flush()
    pair.idle(30 * MSEC)
    acks = [(packet.ack - start, bool(packet.flags & ECE)) for name, packet in seen if name == "b"]
    assert acks == [(100, False), (200, True)]
    assert pair.clock.now - before <= 30 * MSEC


@pytest.mark.rfc("8257", "3.2")
def test_cwr_does_not_end_the_echo() -> None:
    """A sender by RFC 3168 says CWR with its next text; what is marked then is still told."""
    pair, seen = dctcp_pair(Link(marks=set(range(2, 60))))
    client, server = pair.connect()
    client.send(b"x" * (30 * MSS))
    start = client.tcb.snd_una & 0xFFFF_FFFF
    pair.flush()
    pair.idle(2 * SEC)
    assert server.readable == 30 * MSS
    assert any(packet.flags & CWR and packet.payload for name, packet in seen if name == "a")
    assert all(echo for _segments, echo in acks_of(seen, start))


@pytest.mark.rfc("8257", "3.2")
def test_a_program_that_changes_to_dctcp_and_back_changes_the_echo() -> None:
    pair = Pair(sysctl={"net.ipv4.tcp_ecn": "1", "net.ipv4.tcp_allowed_congestion_control": "reno cubic dctcp"})
    client, server = pair.connect()
    assert type(client.ecn) is type(server.ecn) is Ecn
    server.set_option("congestion", "dctcp")
    assert type(server.ecn) is DctcpEcn
    server.set_option("congestion", "cubic")
    assert type(server.ecn) is Ecn


@pytest.mark.rfc("8257", "3.2")
def test_a_listener_with_dctcp_makes_connections_that_echo_so() -> None:
    pair = Pair(sysctl={"net.ipv4.tcp_ecn": "1"})
    pair.b.sysctl.tcp_allowed_congestion_control = "reno cubic dctcp"
    _client, server = pair.connect(server_options=TcpOptions(congestion="dctcp"))
    assert type(server.ecn) is DctcpEcn
