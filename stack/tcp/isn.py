"""Initial sequence numbers and timestamp offsets, RFC 6528 §3 and RFC 7323 §5.4, from one injected secret."""

from hashlib import blake2b

from stack.seq import MASK32
from stack.units import Nanos


class IsnGenerator:
    """Keyed hash of the 4-tuple, plus a clock that ticks every 4.096 µs."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        self._key = blake2b(secret, digest_size=32, person=b"nuse isn").digest()

    def _hash(self, flow: bytes) -> bytes:
        return blake2b(flow, digest_size=12, key=self._key).digest()

    def iss_and_ts_offset(self, flow: bytes, now: Nanos) -> tuple[int, int]:
        """(ISS, timestamp offset) for a flow key; 32 bits each."""
        digest = self._hash(flow)
        iss = int.from_bytes(digest[:4], "big") + (now >> 12)
        return iss & MASK32, int.from_bytes(digest[4:8], "big")

    def port_offset(self, tuple3: bytes) -> int:
        """Where the search for an ephemeral port towards this peer starts, RFC 6056 §3.3.3."""
        return int.from_bytes(self._hash(b"port" + tuple3)[:4], "big")
