"""Shares: each path carries bytes in proportion to its weight, also where all of them are full.

Stride scheduling: the path that is furthest behind its share is next. If it has no room the connection waits for it, so
a weight of nine to one holds for a bulk transfer as for a trickle; that may leave the other path idle, which is what
was asked for. It does not wait for a path that is silent for PATIENCE round trips, or has nothing in flight that an
ACK could answer. Who comes back, or comes late, need not make up for more than a window of its own.
"""

from collections.abc import Sequence

from mptcp.sched.base import Path, Scheduler, SendState
from stack.units import MSEC, Nanos

PATIENCE = 2
LEAST: Nanos = 50 * MSEC  # … and as long as this, for an ACK may be delayed


class Weighted(Scheduler):
    """Bytes in the ratio of `Path.weight`, an int of at least one."""

    name = "weighted"

    def __init__(self) -> None:
        self._stride: dict[int, float] = {}  # bytes carried per weight
        self._clock = 0.0  # the stride of who took something last
        self._full_since: dict[int, tuple[Nanos, int]] = {}  # when it was first found full, with that much in flight

    def pick(self, usable: Sequence[Path], state: SendState, now: Nanos) -> Path | None:
        """Who is furthest behind; a path without room if it is worth the wait. None if nobody has room."""
        self._stride = {path.id: self._behind(path) for path in usable}
        full = self._full_since
        self._full_since = {}
        wait_for: Path | None = None
        for path in sorted(usable, key=lambda path: (self._stride[path.id], path.id)):
            if path.room > 0:
                return path if wait_for is None else wait_for
            since = full.get(path.id)
            if since is None or since[1] != path.in_flight:
                since = (now, path.in_flight)
            self._full_since[path.id] = since
            if wait_for is None and path.in_flight and now - since[0] <= max(PATIENCE * path.srtt, LEAST):
                wait_for = path
        return None

    def on_sent(self, path: Path, size: int, now: Nanos) -> None:
        """It has come closer to its share."""
        stride = self._stride.get(path.id, self._clock)
        self._clock = max(self._clock, stride)
        self._stride[path.id] = stride + size / path.weight

    def _behind(self, path: Path) -> float:
        return max(self._stride.get(path.id, self._clock), self._clock - path.cwnd / path.weight)
