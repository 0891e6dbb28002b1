"""Event bits."""

from stack import events


def test_bits_are_distinct_powers_of_two():
    bits = [getattr(events, name) for name in dir(events) if name.isupper()]
    assert len(bits) == len(set(bits))
    assert all(bit & (bit - 1) == 0 and bit > 0 for bit in bits)
