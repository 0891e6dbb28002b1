"""The test kit itself: a judge that never convicts is worth nothing."""

import struct

import pytest

from kit import build
from kit.clock import parse_time, show_time
from kit.lawyer import Lawyer
from kit.link import Link
from kit.oracle import BadPacket, decode, segments
from kit.script import BadScript, parse_script
from kit.wire import pattern
from nuse.gso import wire_packets
from stack.units import MSEC, SEC

A, B = (b"\x0a\0\0\1", 1000), (b"\x0a\0\0\2", 80)
A6, B6 = (bytes(15) + b"\1", 1000), (bytes(15) + b"\2", 80)
ACK = 16


def super_segment(payload: bytes, mss: int, *, v6: bool = False, flags: int = ACK | 8) -> bytes:
    """As the stack would emit it: partial checksum, GSO header."""
    src, dst = (A6, B6) if v6 else (A, B)
    packet = bytearray(build.tcp(src, dst, flags, 1000, 5, payload=payload))
    l3 = 40 if v6 else 20
    net = bytes(packet[10:])
    pseudo = (net[8:40] if v6 else net[12:20]) + struct.pack("!II", 6, len(net) - l3)
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    packet[10 + l3 + 16 : 10 + l3 + 18] = total.to_bytes(2, "big")
    packet[:10] = struct.pack("=BBHHHH", 1, 4 if v6 else 1, l3 + 20, mss, l3, 16)
    return bytes(packet)


@pytest.mark.parametrize("v6", [False, True])
def test_a_super_segment_is_cut_like_the_kernel_cuts_it(v6):
    raw = super_segment(pattern(0, 3300), 1000, v6=v6, flags=ACK | 8 | 1 | 128)
    parts = [decode(part) for part in segments(raw)]  # decode verifies every checksum with dpkt
    assert [len(p.payload) for p in parts] == [1000, 1000, 1000, 300]
    assert b"".join(p.payload for p in parts) == pattern(0, 3300)
    assert [p.seq for p in parts] == [1000, 2000, 3000, 4000]
    assert [p.flags for p in parts] == [ACK | 128, ACK, ACK, ACK | 9]  # CWR on the first, FIN and PSH on the last


@pytest.mark.parametrize("v6", [False, True])
def test_two_cutters_agree(v6):
    raw = super_segment(pattern(0, 5000), 1400, v6=v6)
    assert [bytes(part)[10:] for part in wire_packets(raw)] == [part[10:] for part in segments(raw)]


def test_the_judge_finds_a_wrong_checksum():
    good = build.tcp(A, B, ACK, 1, 1, payload=b"hello")
    decode(good)
    for at in (10 + 20 + 16, len(good) - 1, 10 + 12):
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises(BadPacket):
            decode(bytes(bad))


@pytest.mark.parametrize(
    ("at", "value", "complaint"),
    [(0, 9, "flags"), (1, 4, "gso_type"), (2, 99, "hdr_len"), (4, 0, "gso_size 0"), (6, 30, "csum_start")],
)
def test_the_judge_reads_the_vnet_header(at, value, complaint):
    raw = bytearray(super_segment(pattern(0, 3000), 1000))
    raw[at : at + (1 if at < 2 else 2)] = value.to_bytes(1 if at < 2 else 2, "little")
    with pytest.raises(BadPacket, match=complaint):
        decode(bytes(raw))


def test_the_judge_knows_the_mtu():
    with pytest.raises(BadPacket, match="MTU"):
        decode(build.tcp(A, B, ACK, 1, 1, payload=bytes(1461)), mtu=1500)
    with pytest.raises(BadPacket, match="MTU"):
        decode(super_segment(pattern(0, 3000), 1461), mtu=1500)


def test_times():
    assert parse_time("5ms") == 5 * MSEC
    assert parse_time("1.5s") == 1_500_000_000
    assert parse_time("10us") == 10_000
    assert parse_time("2") == 2 * SEC
    assert show_time(5 * MSEC) == "+5ms"
    assert show_time(0) == "+0"


@pytest.mark.parametrize("line", ["+0 inn . 1:1", "+x in .", "0 in . 1:1", "+0 in Q 1:1", "+0 in . 1:1 <mss>x,foo 1>"])
def test_a_bad_line_is_an_error_of_the_script(line):
    with pytest.raises(BadScript):
        parse_script(line)


@pytest.mark.wire(only="v4")
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("+0 out . 1:1 ack 1002", "ack"),
        ("+0 out . 1:1 ack 1001 win 7", "win"),
        ("+0 out F. 1:1 ack 1001", "flags"),
        ("+0 out . 2:2 ack 1001", "seq"),
        ("+0 out . 1:2 ack 1001", "length"),
        ("+0 out . 1:1 ack 1001 <sack 1:2>", "option sack"),
        ("+30ms out . 1:1 ack 1001", "time"),
        ("+0 quiet", "unexpected"),
        ("+0 check state is ESTABLISHED", "unexpected"),
        ("+0 in . 1001:1002\n+0 out . ack 1002\n+0 out .", "nothing"),
        ("+0 out . ack 1001\n+0 check state is CLOSED", "ESTABLISHED"),
        ("+0 out . ack 1001\n+0 app recv 1001", "1001 bytes"),
        ("+0 out . ack 1001\n+0 app send 1 -> EPIPE", "success"),
    ],
)
def test_a_trace_that_lies_fails_and_says_where(wire, line, complaint):
    wire.established(role="server")
    with pytest.raises((pytest.fail.Exception, AssertionError), match="wire trace") as caught:
        wire.play("+0 in P. 1:1001\n" + line)
    assert ">>>" in str(caught.value)
    assert complaint in str(caught.value)


@pytest.mark.wire(only="v4")
def test_wrong_bytes_in_the_right_place_fail(wire):
    wire.established()
    wire.conn.send(b"z" * 100)
    wire.written = 100
    wire.stack.tcp.mark(wire.conn)
    with pytest.raises(pytest.fail.Exception, match="payload"):
        wire.play("+0 out P. 1:101")


def test_a_link_is_the_same_for_the_same_seed():
    def run(seed: int) -> list:
        link = Link(rate=10**7, loss=0.2, reorder=0.2, dup=0.2, corrupt=0.2, jitter=MSEC, seed=seed)
        return [link.send(bytes([n]) * 500, n * MSEC) for n in range(100)]

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_a_link_has_a_rate_and_a_queue():
    link = Link(rate=8_000_000, delay=0, queue=3000)  # a byte a µs
    arrivals = [link.send(bytes(1010), 0) for _ in range(5)]
    assert [when for got in arrivals for when, _ in got] == [MSEC, 2 * MSEC, 3 * MSEC]
    assert link.overflowed == 2


def test_a_mask_loses_exactly_what_it_says():
    link = Link(loss={1, 3})
    assert [bool(link.send(bytes(100), 0)) for _ in range(5)] == [True, False, True, False, True]


class Court:
    """Two sides and a lawyer; sequence numbers relative to 1000 and 5000."""

    def __init__(self) -> None:
        self.lawyer = Lawyer()
        self.says("a", 2, 0, options=build.opt_mss(500), win=4000)
        self.says("b", 18, 0, 1, options=build.opt_mss(500), win=4000)
        self.says("a", ACK, 1, 1, win=4000)

    def says(self, who, flags, seq, ack=0, **keywords):
        ends, isns = ((A, B), (1000, 5000)) if who == "a" else ((B, A), (5000, 1000))
        self.lawyer.sees(build.tcp(*ends, flags, isns[0] + seq, isns[1] + ack, **keywords))


def test_the_lawyer_lets_honest_people_go():
    court = Court()
    court.says("a", ACK, 1, 1, payload=b"x" * 500)
    court.says("a", ACK, 1, 1, payload=b"x" * 500)
    court.says("b", ACK, 1, 501, win=3500)
    court.says("a", ACK | 1, 501, 1)
    court.says("b", ACK, 1, 502)


@pytest.mark.parametrize(
    ("crime", "complaint"),
    [
        ({"seq": 1, "ack": 2}, "never sent"),
        ({"seq": 1, "ack": 1, "win": 3999}, "right edge"),
        ({"seq": 1, "ack": 1, "payload": b"x" * 501}, "MSS"),
        ({"seq": 3701, "ack": 1, "payload": b"x" * 400}, "beyond the window"),
        ({"seq": 101, "ack": 1, "payload": b"x" * 400}, "gap"),
        ({"seq": 1, "ack": 1, "options": build.opt_sack([(100, 50)])}, "SACK"),
        ({"seq": 1, "ack": 1, "options": build.opt_sack([(5001, 5002)])}, "SACK"),
    ],
)
def test_the_lawyer_convicts(crime, complaint):
    keywords = {"win": 4000} | crime
    with pytest.raises(BadPacket, match=complaint):
        Court().says("a", ACK, keywords.pop("seq"), keywords.pop("ack"), **keywords)


def test_the_lawyer_remembers():
    court = Court()
    court.says("a", ACK, 1, 1, payload=b"x" * 100)
    with pytest.raises(BadPacket, match="other bytes"):
        court.says("a", ACK, 50, 1, payload=b"y" * 100)
    court.says("b", ACK, 1, 101)
    with pytest.raises(BadPacket, match="went back"):
        court.says("b", ACK, 1, 51)
    court.says("a", ACK | 1, 101, 1)
    with pytest.raises(BadPacket, match="after FIN"):
        court.says("a", ACK, 101, 1, payload=b"z")
