"""unwrap undoes wrap, near anything within half a turn; checksums equal the naive sum."""

from hypothesis import given
from hypothesis.strategies import binary, integers, lists

from stack.checksum import finish, ones_sum
from stack.seq import MASK32, ts_before, unwrap, wrap


@given(near=integers(2**31, 2**48), delta=integers(-(2**31), 2**31 - 1))
def test_unwrap_finds_the_nearest(near, delta):
    assert unwrap(wrap(near + delta), near) == near + delta


@given(wire=integers(0, MASK32), near=integers(0, 2**63))
def test_unwrap_keeps_the_low_bits_and_stays_near(wire, near):
    value = unwrap(wire, near)
    assert wrap(value) == wire
    assert -(2**31) <= value - near < 2**31


@given(a=integers(0, MASK32), delta=integers(1, 2**31 - 1))
def test_timestamps_have_an_order(a, delta):
    later = (a + delta) & MASK32
    assert ts_before(a, later)
    assert not ts_before(later, a)


def naive_checksum(data: bytes) -> int:
    """RFC 1071 §4.1, word by word."""
    total = 0
    for at in range(0, len(data) - 1, 2):
        total += data[at] << 8 | data[at + 1]
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(binary(max_size=3000))
def test_checksum_equals_the_naive_sum(data):
    ours, naive = finish(ones_sum(data)), naive_checksum(data)
    assert ours == naive or (not any(data) and ours == 0)  # all zero: both spellings of zero are right


@given(lists(binary(max_size=200).map(lambda b: b + bytes(len(b) % 2)), max_size=6))
def test_sums_of_even_pieces_add_up(pieces):
    assert sum(map(ones_sum, pieces)) % 0xFFFF == ones_sum(b"".join(pieces))
