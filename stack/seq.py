"""Sequence numbers: the one place that knows they have 32 bits on the wire.

Inside the stack a sequence number is an unbounded int whose low 32 bits are the wire value ("unwrapped"), so plain
`<` is right. A field is unwrapped once, on arrival, to the value nearest to one already known (RFC 9293 §3.4).
"""

MASK32 = 0xFFFF_FFFF
HALF32 = 0x8000_0000


def wrap(seq: int) -> int:
    """The 32 bits that go on the wire."""
    return seq & MASK32


def unwrap(wire: int, near: int) -> int:
    """The unwrapped number with low 32 bits `wire` that lies nearest to `near`: −2³¹ ≤ result − near < 2³¹."""
    return near + (((wire - near) & MASK32) ^ HALF32) - HALF32


def ts_before(a: int, b: int) -> bool:
    """True if 32-bit timestamp `a` is strictly older than `b`, RFC 7323 §5.2."""
    return ((a - b) & MASK32) >= HALF32
