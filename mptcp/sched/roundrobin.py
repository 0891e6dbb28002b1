"""Turns: each path that has room takes one super-segment after another path has. For tests and comparisons.

Turns, not bytes, are even, and a path without room is passed over: what is filled completely carries what its window
lets it. Where shares matter `weighted` keeps to them.
"""

from collections.abc import Sequence

from mptcp.sched.base import Path, Scheduler, SendState
from stack.units import Nanos


class RoundRobin(Scheduler):
    """The next by number, after the one that took something last."""

    name = "roundrobin"

    def __init__(self) -> None:
        self._last = -1

    def pick(self, usable: Sequence[Path], state: SendState, now: Nanos) -> Path | None:
        """None only if no path has room."""
        turns = sorted(usable, key=lambda path: (path.id <= self._last, path.id))
        return next((path for path in turns if path.room > 0), None)

    def on_sent(self, path: Path, size: int, now: Nanos) -> None:
        """Its turn is over."""
        self._last = path.id
