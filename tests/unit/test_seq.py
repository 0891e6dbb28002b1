"""Sequence numbers and timestamps across the 32-bit wrap."""

import pytest

from stack.seq import HALF32, MASK32, ts_before, unwrap, wrap


@pytest.mark.rfc("9293", "3.4")
@pytest.mark.parametrize(
    ("bits", "near", "wanted"),
    [
        (0, 0, 0),
        (1, MASK32, MASK32 + 2),  # just past the wrap
        (MASK32, MASK32 + 2, MASK32),  # just before it
        (5, 3 << 32, (3 << 32) + 5),
        (MASK32, 3 << 32, (3 << 32) - 1),
        (0, HALF32 - 1, 0),
        (0, HALF32, 0),  # exactly half a turn: the older one
        (0, HALF32 + 1, 1 << 32),
    ],
)
def test_unwrap_finds_the_nearest(bits, near, wanted):
    assert unwrap(bits, near) == wanted


def test_wrap_keeps_32_bits():
    assert wrap((7 << 32) + 9) == 9
    assert wrap(-1) == MASK32


@pytest.mark.rfc("7323", "5.2")
def test_timestamps_compare_across_the_wrap():
    assert ts_before(1, 2)
    assert not ts_before(2, 1)
    assert not ts_before(5, 5)
    assert ts_before(MASK32, 0)
    assert not ts_before(0, MASK32)
