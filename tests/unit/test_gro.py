"""Coalescing a batch: nothing of the stream is lost, changed or reordered, and what must stay apart does."""

import random

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.supersegment import ip_packet, super_segment
from nuse.gro import coalesce
from nuse.gso import VNET_VOUCHED, cut_for_writev, tcp_checksum_ok, wire_packets
from nuse.softoffload import SoftwareOffload
from stack.checksum import finish, ones_sum
from stack.wire.vnet import DATA_VALID, GSO_TCPV4, VNET, VNET_NONE

ACK, PSH, FIN = dpkt.tcp.TH_ACK, dpkt.tcp.TH_PUSH, dpkt.tcp.TH_FIN
ECE, CWR = dpkt.tcp.TH_ECE, dpkt.tcp.TH_CWR
TS = b"\1\1\x08\x0a" + bytes(8)
SACK = TS + b"\1\1\x05\x0a" + bytes(8)


def segment(
    seq: int, payload: bytes = b"", *, ack: int = 7, flags: int = ACK, opts: bytes = TS, port: int = 1, version: int = 4
) -> bytes:
    """A wire packet with right checksums that nobody vouches for."""
    tcp = dpkt.tcp.TCP(sport=port, dport=2, seq=seq & 0xFFFF_FFFF, ack=ack & 0xFFFF_FFFF, flags=flags, opts=opts)
    tcp.off = 5 + len(opts) // 4
    tcp.data = payload
    raw = bytearray(bytes(tcp))
    raw[16:18] = bytes(2)
    packet = ip_packet(version, raw, 6)
    addresses = packet[12:20] if version == 4 else packet[8:40]
    raw[16:18] = finish(ones_sum(addresses) + 6 + len(raw) + ones_sum(raw)).to_bytes(2, "big")
    return VNET_NONE + ip_packet(version, raw, 6)


def l4_of(packet: bytes) -> int:
    return 30 if packet[10] >> 4 == 4 else 50


def read(packet: bytes) -> tuple[int, int, int, bytes]:
    """(seq, ack, flags, payload)."""
    l4 = l4_of(packet)
    tcp = dpkt.tcp.TCP(packet[l4:])
    return tcp.seq, tcp.ack, tcp.flags, bytes(tcp.data)


def test_what_gso_cuts_gro_joins() -> None:
    for version in (4, 6):
        whole = super_segment(version, random.Random(1).randbytes(10_000), 1448, flags=ACK | PSH)
        (joined,) = coalesce(wire_packets(whole))
        assert read(joined) == read(whole)
        l4 = l4_of(joined)
        flags, kind, _, size, _, _ = VNET.unpack_from(joined)
        assert (flags, size) == (DATA_VALID, 1448)
        if version == 4:
            assert kind == GSO_TCPV4
            assert ones_sum(joined[10:l4]) == 0
        assert len(dpkt.ip.IP(joined[10:]) if version == 4 else dpkt.ip6.IP6(joined[10:])) == len(joined) - 10


def test_a_gap_another_ack_or_other_options_end_a_run() -> None:
    apart = [
        [segment(0, b"a" * 100), segment(101, b"b" * 100)],
        [segment(0, b"a" * 100), segment(100, b"b" * 100, ack=8)],
        [segment(0, b"a" * 100), segment(100, b"b" * 100, opts=TS[:-1] + b"\1")],
        [segment(0, b"a" * 100), segment(100, b"b" * 101)],
        [segment(0, b"a" * 100, flags=ACK | PSH), segment(100, b"b" * 100)],
        [segment(0, b"a" * 100), segment(100, b"b" * 100, flags=ACK | FIN)],
        [segment(0, b"a" * 100), segment(100, b"b" * 100, flags=ACK | dpkt.tcp.TH_ECE)],
        [segment(0, b"a" * 100), segment(100, b"b" * 100, port=9)],
    ]
    for batch in apart:
        assert [read(packet) for packet in coalesce(batch)] == [read(packet) for packet in batch]


def with_tos(packet: bytes, tos: int) -> bytes:
    """IPv4 with another TOS; the TCP checksum does not cover it."""
    raw = bytearray(packet)
    raw[11] = tos
    raw[20:22] = bytes(2)
    raw[20:22] = finish(ones_sum(raw[10:30])).to_bytes(2, "big")
    return bytes(raw)


AE = 0x100
ACES = [0, ECE, CWR, AE | ECE, AE | ECE | CWR]


def with_ace(packet: bytes, ace: int) -> bytes:
    """The checksum is vouched for: what `segment` builds knows no AE."""
    raw = bytearray(packet)
    raw[:10] = VNET_VOUCHED
    raw[42] |= ace >> 8
    raw[43] |= ace & 0xFF
    return bytes(raw)


@pytest.mark.rfc("9768", "3.2.2.2")
@pytest.mark.parametrize("text", [b"", b"a" * 100], ids=["ack", "text"])
@pytest.mark.parametrize("ace", ACES)
@pytest.mark.parametrize("other", ACES)
def test_only_equal_counters_become_one(text: bytes, ace: int, other: int) -> None:
    first = with_ace(segment(0, text, ack=7), ace)
    second = with_ace(segment(len(text), text, ack=7 if text else 8), other)
    out = coalesce([first, second])
    if ace == other:
        (joined,) = out
        assert int.from_bytes(joined[42:44], "big") & 0x1C0 == ace
    else:
        assert out == [first, second]


@pytest.mark.rfc("9768", "3.2.2.2")
def test_marked_acks_stay_as_many_as_came() -> None:
    acks = [with_tos(segment(0, ack=7 + n), 3) for n in range(3)]
    assert len(coalesce(acks)) == 3
    assert len(coalesce([with_tos(packet, 2) for packet in acks])) == 1
    texts = [with_tos(segment(100 * n, b"a" * 100), 3) for n in range(3)]
    (joined,) = coalesce(texts)  # the size of one wire packet in its vnet header tells how many
    assert VNET.unpack_from(joined)[3] == 100


@pytest.mark.rfc("9768", "3.2.3")
def test_acks_with_an_accecn_option_pass() -> None:
    option = b"\1" + bytes((172, 11)) + bytes(9)
    acks = [segment(0, ack=7 + n, opts=option) for n in range(3)]
    assert len(coalesce(acks)) == 3


def test_a_short_segment_is_the_last_of_its_run() -> None:
    batch = [segment(0, b"a" * 100), segment(100, b"b" * 50), segment(150, b"c" * 50)]
    assert [read(packet)[3] for packet in coalesce(batch)] == [b"a" * 100 + b"b" * 50, b"c" * 50]


def test_flows_that_take_turns_are_joined_each() -> None:
    batch = [segment(at * 10, bytes(10), port=port) for at in range(4) for port in (1, 2, 3)]
    assert [len(read(packet)[3]) for packet in coalesce(batch)] == [40, 40, 40]


def test_a_syn_overtakes_nothing() -> None:
    batch = [segment(5, ack=9), segment(1, flags=dpkt.tcp.TH_SYN, port=3), segment(5, b"text", ack=9)]
    assert [read(each) for each in coalesce(batch)] == [read(each) for each in batch]


def test_the_last_of_many_pure_acks_stands_for_all() -> None:
    for version in (4, 6):
        batch = [segment(5, ack=0xFFFF_FF00 + at * 100, version=version) for at in range(10)]
        (last,) = coalesce(batch)
        assert read(last) == read(batch[-1])


def test_duplicate_acks_and_sacks_are_all_kept() -> None:
    for batch in (
        [segment(5, ack=100), segment(5, ack=100), segment(5, ack=100)],
        [segment(5, ack=100), segment(5, ack=50)],
        [segment(5, ack=100), segment(5, ack=200, opts=SACK)],
        [segment(5, ack=100, opts=SACK), segment(5, ack=200, opts=SACK)],
        [segment(5, ack=100), segment(6, ack=200)],
        [segment(5, b"data", ack=100), segment(9, ack=200)],
    ):
        assert [read(packet) for packet in coalesce(batch)] == [read(packet) for packet in batch]


DATA_ACKS = {
    "32 bits": lambda n: TS + b"\x1e\x08\x20\x01" + (900 + n).to_bytes(4, "big"),
    "64 bits": lambda n: TS + b"\x1e\x0c\x20\x03" + (900 + n).to_bytes(8, "big"),
    "no timestamps": lambda n: b"\x1e\x08\x20\x01" + (900 + n).to_bytes(4, "big"),
}


@pytest.mark.rfc("8684", "3.3.2")
@pytest.mark.parametrize("kind", DATA_ACKS)
def test_the_last_of_many_data_acks_stands_for_all(kind: str) -> None:
    batch = [segment(5, ack=100 + n, opts=DATA_ACKS[kind](n)) for n in range(4)]
    (last,) = coalesce(batch)
    assert last[10:] == batch[-1][10:]


def test_an_ack_that_says_more_of_mptcp_than_a_data_ack_passes() -> None:
    fin = TS + b"\x1e\x0c\x20\x05" + bytes(8)  # a mapping
    echo = TS + b"\x1e\x08\x31\x01" + bytes(4)  # ADD_ADDR
    plain = DATA_ACKS["32 bits"](0)
    for said in (fin, echo):
        for batch in ([said, plain], [plain, said], [said, said]):
            acks = [segment(5, ack=100 + n, opts=opts) for n, opts in enumerate(batch)]
            assert [read(packet) for packet in coalesce(acks)] == [read(packet) for packet in acks]


def test_a_bad_checksum_is_never_joined_nor_vouched_for() -> None:
    good, bad = segment(0, b"a" * 100), bytearray(segment(100, b"b" * 100))
    bad[-1] ^= 1
    first, second = coalesce([good, bytes(bad)])
    assert first[0] == DATA_VALID
    assert (second, second[0]) == (bytes(bad), 0)
    assert coalesce([bytes(bad), segment(200, b"c" * 100)])[0] == bytes(bad)
    bad_ack = bytearray(segment(5, ack=300))
    bad_ack[-1] ^= 1
    assert len(coalesce([segment(5, ack=200), bytes(bad_ack)])) == 2


@given(st.lists(st.binary(min_size=10, max_size=100), max_size=6))
def test_garbage_passes(batch: list[bytes]) -> None:
    assert coalesce(batch) == batch


@given(st.integers(0, 2**32), st.integers(1, 12), st.booleans(), st.sampled_from([4, 6]))
def test_no_byte_is_lost_or_reordered_whatever_the_batch(seed: int, pieces: int, push: bool, version: int) -> None:
    rng = random.Random(seed)
    stream = rng.randbytes(5000)
    batch, at = [], 0
    for _ in range(pieces):
        at = max(0, at + rng.choice([0, 0, 0, 0, 100, -50]))
        size = rng.choice([100, 100, 100, 40])
        flags = ACK | (PSH if push and rng.random() < 0.2 else 0)
        batch.append(segment(at, stream[at : at + size], flags=flags, version=version))
        at += size
    told = [(seq + i, byte) for seq, _, _, data in map(read, batch) for i, byte in enumerate(data)]
    out = coalesce(batch)
    assert [(seq + i, byte) for seq, _, _, data in map(read, out) for i, byte in enumerate(data)] == told
    assert all(tcp_checksum_ok(packet, l4_of(packet)) or packet[0] == DATA_VALID for packet in out)


def test_cutting_in_place_gives_the_same_packets() -> None:
    whole = super_segment(4, random.Random(2).randbytes(7001), 1000, flags=ACK | PSH | FIN | dpkt.tcp.TH_CWR)
    pieces = cut_for_writev([whole[:62], memoryview(whole)[62:3000], whole[3000:]])
    assert pieces is not None
    assert [bytes(header) + bytes(payload) for header, payload in pieces] == wire_packets(whole)


def test_software_offload_cuts_and_reports_drops() -> None:
    class Wire:
        def __init__(self) -> None:
            self.sent: list[bytes] = []

        def fileno(self) -> int:
            return -1

        def read(self) -> bytes | None:
            return None

        def write(self, iovec: object) -> bool:
            self.sent.append(b"".join(iovec))  # type: ignore[call-overload]
            return len(self.sent) != 3

        def close(self) -> None:
            pass

    wire = Wire()
    device = SoftwareOffload(wire)
    whole = super_segment(6, bytes(5000), 1000)
    assert device.write((whole,)) is False
    assert wire.sent == wire_packets(whole)
    plain = segment(0, b"plain")
    assert device.write((plain,)) is True
    assert wire.sent[-1] == plain
