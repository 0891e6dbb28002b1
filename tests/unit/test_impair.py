"""Impairment: the words, and what they do to packets on a virtual clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuse.impair import ImpairError, ImpairSpec, parse_impair
from nuse.impair_path import ImpairedPath

MS = 1_000_000
VNET = bytes(10)


def packet(number: int, size: int = 1500) -> bytes:
    return VNET + number.to_bytes(4, "big") + bytes(size - 4)


def number(raw: bytes) -> int:
    return int.from_bytes(raw[10:14], "big")


def run(words: str, count: int, every: int = 0, size: int = 1500) -> tuple[ImpairedPath, list[tuple[int, int]]]:
    """Offer `count` packets, one each `every` ns; (time, number) of what comes out, on a clock that jumps."""
    path = ImpairedPath(parse_impair(words))
    out: list[tuple[int, int]] = []

    def drain(until: int) -> None:
        while (due := path.deadline()) is not None and due <= until:
            raw = path.take(due)
            assert raw is not None
            out.append((due, number(raw)))

    for i in range(count):
        drain(i * every)
        path.offer(packet(i, size), i * every)
    drain(1 << 62)
    return path, out


# --- words


def test_the_words_of_the_documentation_are_understood() -> None:
    spec = parse_impair(
        "delay 20ms 5ms rate 50mbit limit 1000 loss 1% duplicate 0.1% reorder 5% gap 3 "
        "corrupt 0.1% mark 2% seed 7 egress"
    )
    assert spec == ImpairSpec(
        delay=20 * MS,
        jitter=5 * MS,
        rate=50_000_000,
        limit=1000,
        loss=0.01,
        duplicate=0.001,
        reorder=0.05,
        gap=3,
        corrupt=0.001,
        mark=0.02,
        seed=7,
        egress=True,
        ingress=False,
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "nothing said"),
        ("dealy 20ms", "unknown word 'dealy'; known are delay"),
        ("delay", "'delay' needs a value"),
        ("delay 20", "a time such as 20ms, not '20'"),
        ("delay 5ms 6ms", "jitter cannot exceed"),
        ("rate 0mbit", "use loss 100%"),
        ("rate fast", "a rate such as 50mbit"),
        ("loss 1", "a share such as 1%, not '1'"),
        ("loss 101%", "a share such as 1%"),
        ("loss nan%", "a share such as 1%"),
        ("loss pattern 012", "zeros and ones"),
        ("limit 10", "give a rate"),
        ("reorder 5%", "needs a delay"),
        ("rate 1mbit limit 0", "a number from 1"),
        ("delay 1ms delay 2ms", "'delay' is said twice"),
        ("delay 1ms egress ingress", "both is the default"),
    ],
)
def test_a_wrong_word_is_named(words: str, complaint: str) -> None:
    with pytest.raises(ImpairError, match=complaint):
        parse_impair(words)


shares = st.integers(0, 1000).map(lambda n: n / 1000)
specs = st.builds(
    ImpairSpec,
    delay=st.integers(10**6, 10**10),
    jitter=st.integers(0, 10**6),
    rate=st.integers(1, 10**11),
    limit=st.integers(1, 10**6),
    loss=shares,
    gemodel=st.none() | st.tuples(shares, shares, shares, shares),
    pattern=st.text("01", max_size=9),
    duplicate=shares,
    reorder=shares.filter(bool),
    gap=st.integers(0, 9),
    corrupt=shares,
    mark=shares,
    mark_over=st.integers(0, 9),
    ecn=st.booleans(),
    seed=st.integers(0, 2**31),
    egress=st.booleans(),
)


@given(specs)
def test_show_says_what_was_parsed(spec: ImpairSpec) -> None:
    again = parse_impair(spec.show())
    for name in ImpairSpec.__slots__:
        if name not in ("egress", "ingress"):
            assert getattr(again, name) == pytest.approx(getattr(spec, name)), name
    assert again.egress == (spec.egress or spec.egress == spec.ingress)


def test_without_a_seed_one_is_drawn_and_told() -> None:
    spec = parse_impair("loss 1%")
    assert f"seed {spec.seed}" in spec.show()


@pytest.mark.parametrize(("words", "cut"), [("delay 5ms", False), ("loss 1%", True), ("rate 1mbit", True)])
def test_only_a_constant_delay_leaves_super_segments_whole(words: str, cut: bool) -> None:
    assert parse_impair(words).per_packet is cut


# --- deeds


def test_delay_keeps_order_and_spacing() -> None:
    _, out = run("delay 20ms", 5, every=MS)
    assert out == [((20 + i) * MS, i) for i in range(5)]


def test_jitter_stays_within_bounds_and_is_used() -> None:
    _, out = run("delay 20ms 5ms seed 1", 500, every=100 * MS)
    delays = [at - 100 * MS * i for at, i in out]
    assert 15 * MS <= min(delays) < 16 * MS
    assert 24 * MS < max(delays) <= 25 * MS


def test_rate_spaces_packets_by_their_length() -> None:
    _, out = run("rate 12mbit", 4)
    assert [at for at, _ in out] == [MS, 2 * MS, 3 * MS, 4 * MS]


def test_limit_drops_the_tail_of_the_rates_queue_only() -> None:
    path, out = run("rate 12mbit limit 3 delay 50ms", 5)
    assert [i for _, i in out] == [0, 1, 2]
    assert path.stats.overlimit == 2
    path, out = run("rate 12mbit limit 3 delay 50ms", 100, every=MS)
    assert len(out) == 100, "packets in flight do not count"


def test_random_loss_is_near_its_share_and_repeats_with_its_seed() -> None:
    path, out = run("loss 10% seed 3", 5000)
    assert 400 < path.stats.lost < 600
    assert len(out) == 5000 - path.stats.lost
    assert out == run("loss 10% seed 3", 5000)[1]
    assert out != run("loss 10% seed 4", 5000)[1]


def test_the_directions_of_one_seed_differ() -> None:
    spec = parse_impair("loss 50% seed 3")
    fates = []
    for salt in ("egress", "ingress"):
        path = ImpairedPath(spec, salt)
        for i in range(100):
            path.offer(packet(i), 0)
        fates.append([number(raw) for raw in iter(lambda p=path: p.take(0), None)])  # type: ignore[misc]
    assert fates[0] != fates[1]


def test_pattern_loses_exactly_those_packets() -> None:
    _, out = run("loss pattern 0010", 9)
    assert [i for _, i in out] == [0, 1, 3, 4, 5, 7, 8]


def test_gilbert_elliott_loses_in_bursts() -> None:
    path, out = run("loss gemodel 1% 25% seed 5", 20000)
    got = {i for _, i in out}
    bursts, length = [], 0
    for i in range(20000):
        if i not in got:
            length += 1
        elif length:
            bursts.append(length)
            length = 0
    share = path.stats.lost / 20000
    assert 0.025 < share < 0.055  # p / (p + r) = 3.8 %
    assert 3 < sum(bursts) / len(bursts) < 5  # 1 / r = 4


def test_duplicates_come_twice() -> None:
    path, out = run("duplicate 100%", 3)
    assert [i for _, i in out] == [0, 0, 1, 1, 2, 2]
    assert path.stats.duplicated == 3


def test_reordered_packets_skip_the_delay() -> None:
    path, out = run("delay 10ms reorder 100% gap 3", 6, every=MS)
    assert [i for _, i in out] == [2, 5, 0, 1, 3, 4]
    assert path.stats.reordered == 2


def test_corruption_flips_one_bit_and_vouches_for_nothing() -> None:
    path = ImpairedPath(parse_impair("corrupt 100% seed 1"))
    vouched = b"\x02" + bytes(9) + bytes(100)
    path.offer(vouched, 0)
    raw = path.take(0)
    assert raw is not None
    assert raw[:10] == VNET
    assert sum(byte.bit_count() for byte in raw[10:]) == 1


def ect(number: int) -> bytes:
    ip = bytearray(packet(number))
    ip[10], ip[11] = 0x45, 0x02
    return bytes(ip)


def test_ecn_turns_losses_of_capable_packets_into_marks() -> None:
    path = ImpairedPath(parse_impair("loss 100% ecn"))
    path.offer(ect(0), 0)
    path.offer(b"\0" * 10 + b"\x45\x00" + bytes(100), 0)
    raw = path.take(0)
    assert raw is not None
    assert raw[11] & 3 == 3
    assert path.take(0) is None
    assert (path.stats.marked, path.stats.lost) == (1, 1)


def test_mark_over_marks_when_the_queue_is_longer() -> None:
    path = ImpairedPath(parse_impair("rate 12mbit mark over 2"))
    for i in range(4):
        path.offer(ect(i), 0)
    marks = [raw[11] & 3 for raw in iter(lambda: path.take(1 << 62), None)]
    assert marks == [2, 2, 3, 3]
