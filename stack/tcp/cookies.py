"""SYN cookies, RFC 4987 §3.6, in Linux's layout: a SYN-ACK whose numbers are all that is remembered of the SYN.

The ISS is a keyed hash of the flow, plus the peer's sequence number, plus the minute and an MSS index masked by a
second hash. An ACK brings it back within two minutes. With timestamps, the six low bits of our TSval say what else the
SYN offered: window scale, SACK, ECN; without them these are given up.
"""

from hashlib import blake2b

from stack.seq import MASK32
from stack.units import MSEC, SEC, Nanos

MSS4 = (536, 1300, 1440, 1460)
MSS6 = (1220, 1420, 1440, 8940)
PERIOD = 60 * SEC
MAX_AGE = 2  # periods
VALID: Nanos = MAX_AGE * PERIOD  # after the last cookie was sent, bare ACKs are not even looked at
BITS = 24
LOW = (1 << BITS) - 1
TS_MASK = 0x3F
NO_SCALE = 0xF
SACK_BIT = 0x10
ECN_BIT = 0x20


class CookieJar:
    """Makes and reads cookies with one secret."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        self._key = blake2b(secret, digest_size=32, person=b"nuse syncookie").digest()

    def _hashes(self, flow: bytes, count: int) -> tuple[int, int]:
        """A number for the flow, and a mask for the flow in this minute."""
        first = blake2b(flow, digest_size=4, key=self._key).digest()
        second = blake2b(flow + count.to_bytes(8, "big"), digest_size=3, key=self._key).digest()
        return int.from_bytes(first, "big"), int.from_bytes(second, "big")

    def make(self, flow: bytes, peer_seq: int, mss: int, now: Nanos) -> tuple[int, int]:
        """(ISS, MSS that it remembers): the largest of the table that is not above the peer's."""
        table = MSS4 if len(flow) == 12 else MSS6
        index = max((i for i, each in enumerate(table) if each <= mss), default=0)
        count = now // PERIOD
        whose, mask = self._hashes(flow, count)
        return (whose + peer_seq + (count << BITS) + ((mask + index) & LOW)) & MASK32, table[index]

    def read(self, flow: bytes, peer_seq: int, cookie: int, now: Nanos) -> int:
        """The MSS if `cookie` is one that we gave this flow lately for a SYN of this number; else 0."""
        table = MSS4 if len(flow) == 12 else MSS6
        count = now // PERIOD
        whose, _mask = self._hashes(flow, count)
        rest = (cookie - whose - peer_seq) & MASK32
        age = (count - (rest >> BITS)) & 0xFF
        if age >= MAX_AGE:
            return 0
        _whose, mask = self._hashes(flow, count - age)
        index = (rest - mask) & LOW
        return table[index] if index < len(table) else 0


def stamp(now: Nanos, wscale: int | None, sack: bool, ecn: bool) -> Nanos:
    """A time at or just before `now` whose timestamp says what the SYN offered, once our offset is added."""
    bits = (NO_SCALE if wscale is None else wscale) | (SACK_BIT if sack else 0) | (ECN_BIT if ecn else 0)
    ticks = now // MSEC
    marked = ticks & ~TS_MASK | bits
    return (marked if marked <= ticks else marked - TS_MASK - 1) * MSEC


def read_stamp(ecr: int) -> tuple[int | None, bool, bool]:
    """(window scale, SACK, ECN) from the echoed timestamp, our offset taken off."""
    scale = ecr & NO_SCALE
    return (None if scale == NO_SCALE else scale), bool(ecr & SACK_BIT), bool(ecr & ECN_BIT)
