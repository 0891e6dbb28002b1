"""Reassembly: fragments in any order make the datagram, contradictions make nothing."""

import random

import pytest
from hypothesis import given
from hypothesis.strategies import data, integers, lists, randoms, sampled_from

from kit import build
from kit.lan import ENDS, Lan, fragment, fragments
from stack.config import Sysctl
from stack.units import SEC

PORT = 7


def listening(**options):
    lan = Lan(**options)
    endpoint = lan.stack.udp.open(True)
    endpoint.bind(bytes(16), PORT)
    endpoint.options.rcvbuf = 1 << 20
    return lan, endpoint


def datagram(ends, payload, **kw):
    return build.udp((ends[0], 9), (ends[1], PORT), payload, **kw)


def count(lan, ends, name):
    return lan[("Ip" if len(ends[0]) == 4 else "Ip6") + name]


PAYLOAD = random.Random(1).randbytes(3000)


def test_fragments_in_order_make_the_datagram(ends):
    lan, got = listening()
    lan.give(*fragments(datagram(ends, PAYLOAD), 1448))
    assert bytes(got.recv().data) == PAYLOAD
    assert (count(lan, ends, "ReasmReqds"), count(lan, ends, "ReasmOKs")) == (3, 1)
    assert lan.stack.poll_timeout() is None


@given(randoms(use_true_random=False), sampled_from(["v4", "v6"]), sampled_from([8, 64, 1448]))
def test_fragments_in_any_order_and_repeated_make_the_datagram(rng, family, size):
    lan, got = listening()
    pieces = fragments(datagram(ENDS[family], PAYLOAD), size)
    first, *others = rng.sample(pieces, len(pieces))
    # A repetition of what is already complete would begin a datagram of its own, so repeat before the end only.
    lan.stack.receive(first, 0, lan.link)
    for piece in others:
        lan.stack.receive(first, 0, lan.link)
        lan.stack.receive(piece, 0, lan.link)
    lan.stack.check()
    assert bytes(got.recv().data) == PAYLOAD
    assert got.queued == 0


@given(data(), lists(integers(0, 40), min_size=1, max_size=12))
def test_whatever_fragments_come_the_table_stays_sound_and_only_whole_data_passes(data, offsets):
    lan, got = listening()
    whole = datagram(ENDS["v4"], bytes(300))
    body = whole[30:]
    for offset in offsets:
        end = data.draw(integers(offset + 1, 42))
        cut = body[offset * 8 : end * 8]
        if cut:
            lan.give(fragment(whole, offset * 8, cut, data.draw(sampled_from([True, False]))))
    while (datagram_ := got.recv()) is not None:
        assert bytes(datagram_.data) == bytes(300)


@pytest.mark.rfc("5722", "4")
@pytest.mark.parametrize("at", [0, 8, 1440, 1456])
def test_any_overlap_kills_the_datagram(ends, at):
    lan, got = listening()
    packet = datagram(ends, PAYLOAD)
    first, second, third = fragments(packet, 1448)
    lan.give(first, second, fragment(packet, at, b"overlaps", True), third)
    assert got.queued == 0
    assert count(lan, ends, "ReasmFails") == 1


@pytest.mark.parametrize("case", ["two ends", "beyond the end", "end before others", "end with more to come"])
def test_fragments_that_disagree_about_the_end_kill_the_datagram(ends, case):
    lan, got = listening()
    packet = datagram(ends, PAYLOAD)
    first, _second, third = fragments(packet, 1448)
    liar = {
        "two ends": fragment(packet, 2896 + 160, b"12345678", False),
        "beyond the end": fragment(packet, 4000, b"12345678", True),
        "end before others": fragment(packet, 1448, b"12345678", False),
        "end with more to come": fragment(packet, 2896, bytes(112), True),
    }[case]
    lan.give(first, third, liar)
    assert got.queued == 0
    assert count(lan, ends, "ReasmFails") == 1
    assert lan.stack.poll_timeout() is None


def test_a_datagram_beyond_64_k_is_refused():
    lan, _got = listening()
    lan.give(fragment(datagram(ENDS["v4"], b""), 65528, b"12345678", True))
    assert lan["IpReasmFails"] == 1
    assert lan.stack.poll_timeout() is None


def test_different_identifications_protocols_and_senders_do_not_mix(ends):
    lan, got = listening()
    packet = datagram(ends, PAYLOAD)
    first, second, third = fragments(packet, 1448)
    other = fragments(packet, 1448, ident=8)
    lan.give(first, other[1], other[2], third)
    assert got.queued == 0
    lan.give(other[0], second)
    assert [bytes(got.recv().data) for _ in range(2)] == [PAYLOAD] * 2


@pytest.mark.rfc("792", "time exceeded")
@pytest.mark.parametrize(("family", "seconds", "kind"), [("v4", 30, 11), ("v6", 60, 3)])
def test_a_datagram_that_stays_incomplete_is_reported_if_its_first_fragment_came(family, seconds, kind):
    lan, got = listening()
    ends = ENDS[family]
    first, second, _third = fragments(datagram(ends, PAYLOAD), 1448)
    lan.give(first)
    lan.pass_time(seconds * SEC - 1)
    assert lan.take() == []
    lan.pass_time(1)
    (answer,) = lan.take()
    assert answer.payload[:2] == bytes((kind, 1))
    assert answer.payload[8:48] == first[10:50]
    lan.give(second)
    assert got.queued == 0
    lan.pass_time(seconds * SEC)
    assert lan.take() == []  # without the first fragment nobody could tell what it was
    assert count(lan, ends, "ReasmTimeout") == 2


def test_what_incomplete_datagrams_hold_is_bounded_and_the_oldest_goes_first(ends):
    lan, got = listening(sysctl=Sysctl(ipfrag_high_thresh=50_000, ip6frag_high_thresh=50_000))
    packet = datagram(ends, PAYLOAD)
    for ident in range(100):
        lan.give(fragments(packet, 1448, ident)[0])
    assert lan["NuseReasmEvicted"] == count(lan, ends, "ReasmFails") > 60
    lan.give(*fragments(packet, 1448, 99)[1:])
    assert bytes(got.recv().data) == PAYLOAD


def test_padding_behind_a_small_fragment_is_charged():
    lan, _got = listening(sysctl=Sysctl(ipfrag_high_thresh=100_000))
    packet = datagram(ENDS["v4"], PAYLOAD)
    for ident in range(5):
        lan.give(fragment(packet, 0, bytes(8), True, ident) + bytes(40_000))
    assert lan["NuseReasmEvicted"] == 3


@pytest.mark.rfc("3168", "5.3")
@pytest.mark.parametrize(
    ("marks", "outcome"), [((2, 3, 2), 3), ((2, 2, 2), 2), ((0, 0, 0), 0), ((2, 0, 2), 2), ((0, 3, 0), None)]
)
def test_ecn_marks_of_fragments_are_combined(ends, marks, outcome):
    lan, got = listening()
    for tos, number in zip(marks, range(3), strict=True):
        lan.give(fragments(datagram(ends, PAYLOAD, tos=tos), 1448)[number])
    found = got.recv()
    assert (found and found.tos & 3) == outcome


def test_a_reassembled_segment_reaches_tcp(ends):
    lan = Lan()
    packet = build.tcp((ends[0], 9), (ends[1], 81), build.SYN, 1, options=bytes((1,) * 12))
    lan.give(*fragments(packet, 24))
    (answer,) = lan.take()
    assert answer.flags == build.RST | build.ACK


def test_a_bad_checksum_is_found_after_reassembly(ends):
    lan, got = listening()
    pieces = fragments(datagram(ends, PAYLOAD), 1448)
    pieces[1] = pieces[1][:-1] + bytes((pieces[1][-1] ^ 1,))
    lan.give(*(bytes((2,)) + piece[1:] for piece in pieces))  # DATA_VALID vouches for no fragment
    assert got.queued == 0
    assert lan["UdpInCsumErrors"] + lan["Udp6InCsumErrors"] == 1
