"""Blocking estimation: a slow path gets nothing that would hold up the fast one at the edge of the peer's window.

Ferlin, Alay, Mehani, Boreli, "BLEST: Blocking Estimation-based MPTCP Scheduler for Heterogeneous Networks", IFIP
Networking 2016. Text on a slow path holds the window from its place on for a round trip of that path. Meanwhile the
fast path would send X bytes; if they do not fit beside what the slow one has, its text would block, so it waits instead
for the fast one. X is scaled by a factor that learns: it rises where the window was exhausted although we waited,
and falls while that does not happen.

Deviations: the window as a whole is the free part and what is in flight, for a scheduler sees no sequence numbers; the
factor rises when text fills the window to the brim, not with the connection's retransmissions.
"""

from collections.abc import Sequence

from mptcp.sched.base import Path, Scheduler, SendState, fastest
from stack.units import Nanos

START, LEAST, MOST = 1.2, 1.0, 1.3  # of the factor; all as in the Linux implementation
FALL, RISE = 0.01, 0.04
MOST_ROUNDS = 64  # beyond, the estimate means nothing


class Blest(Scheduler):
    """minrtt that may wait for the fastest."""

    name = "blest"

    def __init__(self) -> None:
        self._factor = START
        self._updated: Nanos = 0
        self._exhausted = False
        self._window = 0  # free when somebody was last picked
        self._queued = 0

    def pick(self, usable: Sequence[Path], state: SendState, now: Nanos) -> Path | None:
        """The fastest if it has room, or if the next would block it; else the next."""
        self._window, self._queued = state.window, state.queued
        fast, best = fastest(usable)
        if best is None or best is fast or not best.srtt or not fast.in_flight:
            return best
        self._learn(best, now)
        total = state.window + sum(path.in_flight for path in usable)
        left = total - best.in_flight - best.mss
        return fast if self._factor * sends_within(fast, best.srtt) > left else best

    def on_sent(self, path: Path, size: int, now: Nanos) -> None:
        """Was that the last that the peer's window takes, with more to send?"""
        if self._window - size < path.mss and self._queued > size:
            self._exhausted = True
        self._window -= size
        self._queued -= size

    def _learn(self, slow: Path, now: Nanos) -> None:
        """Once a round trip of the slow path."""
        if now - self._updated < slow.srtt:
            return
        step = RISE if self._exhausted else -FALL
        self._factor = min(max(self._factor + step, LEAST), MOST)
        self._exhausted = False
        self._updated = now


def sends_within(path: Path, time: Nanos) -> float:
    """Bytes that `path` sends in `time`, at a segment more each round trip."""
    rounds = min(time / path.srtt, MOST_ROUNDS)
    return (path.cwnd + path.mss * (rounds - 1) / 2) * rounds
