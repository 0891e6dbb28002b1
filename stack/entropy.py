"""Unpredictable numbers from a secret, so that a run with the same secret replays byte for byte.

BLAKE2b keyed with the secret, in counter mode. The host gives real randomness as the secret, a test gives a constant.
Enough for ports, identifiers and nonces; ISS and cookies are keyed hashes of their own (RFC 6528, 4987).
"""

import hashlib

_BLOCK = 64


class Entropy:
    """An endless stream of secret bytes. About 0.3 µs a call, one hash every 64 bytes."""

    __slots__ = ("_block", "_counter", "_key", "_used")

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2b(secret, person=b"nuse entropy").digest()
        self._counter = 0
        self._block = b""
        self._used = 0

    def bytes(self, n: int) -> bytes:
        """The next `n` bytes."""
        start = self._used
        if start + n <= len(self._block):
            self._used = start + n
            return self._block[start : start + n]
        out = bytearray(self._block[start:])
        while len(out) < n:
            self._counter += 1
            self._block = hashlib.blake2b(self._counter.to_bytes(8, "big"), key=self._key).digest()
            out += self._block
        self._used = _BLOCK - (len(out) - n)
        return bytes(out[:n])

    def u16(self) -> int:
        """Uniform in 0..65535."""
        return int.from_bytes(self.bytes(2), "big")

    def u32(self) -> int:
        """Uniform in 0..2³²−1."""
        return int.from_bytes(self.bytes(4), "big")

    def below(self, n: int) -> int:
        """0..n−1; n up to 2³², bias below n/2⁶⁴."""
        return int.from_bytes(self.bytes(8), "big") % n
