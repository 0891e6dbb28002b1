"""Shares: each path carries bytes in proportion to its weight, also where all of them are full.

Stride scheduling: the path that is furthest behind its share is next. If it has no room the connection waits for it, so
a weight of nine to one holds for a bulk transfer as for a trickle; that may leave the other path idle, which is what
was asked for. It does not wait for a path that is silent for PATIENCE round trips, or has nothing in flight that an
ACK could answer. Who comes back, or comes late, need not make up for more than a window of its own.
"""

from collections.abc import Sequence

from mptcp.sched.base import Path, Scheduler, SendState, with_room
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
        """Who is furthest behind; a path without room if it is worth the wait."""
        self._stride = {path.id: self._behind(path) for path in usable}
        self._full_since = {path.id: self._full(path, now) for path in usable if path.room <= 0}
        able = with_room(usable)
        if not able:
            return None
        waited = [path for path in usable if path.room <= 0 and self._worth_waiting(path, now)]
        return min(able + waited, key=lambda path: (self._stride[path.id], path.id))

    def on_sent(self, path: Path, size: int, now: Nanos) -> None:
        """It has come closer to its share."""
        stride = self._stride.get(path.id, self._clock)
        self._clock = max(self._clock, stride)
        self._stride[path.id] = stride + size / path.weight

    def _behind(self, path: Path) -> float:
        return max(self._stride.get(path.id, self._clock), self._clock - path.cwnd / path.weight)

    def _full(self, path: Path, now: Nanos) -> tuple[Nanos, int]:
        since = self._full_since.get(path.id)
        return since if since is not None and since[1] == path.in_flight else (now, path.in_flight)

    def _worth_waiting(self, path: Path, now: Nanos) -> bool:
        return path.in_flight > 0 and now - self._full_since[path.id][0] <= max(PATIENCE * path.srtt, LEAST)
