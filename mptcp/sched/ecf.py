"""Earliest completion first: a slow path helps only if the transfer ends sooner with it.

Lim, Nahum, Towsley, Gibbens, "ECF: An MPTCP Path Scheduler to Manage Heterogeneous Paths", CoNEXT 2017, §4. When the
fastest path is full and another has room, the k bytes that wait could go to the fast one in about 1 + k/cwnd of its
round trips. If that is sooner than one round trip of the slow path, and the slow one would need longer than two of the
fast one's, waiting wins. Once it waits it goes on a little longer (BETA), so that it does not flap.
"""

from collections.abc import Sequence

from mptcp.sched.base import Path, Scheduler, SendState, fastest
from stack.units import Nanos

BETA = 0.25


class Ecf(Scheduler):
    """minrtt that may wait for the fastest."""

    name = "ecf"

    def __init__(self) -> None:
        self._waiting = False

    def pick(self, usable: Sequence[Path], state: SendState, now: Nanos) -> Path | None:
        """The fastest if it has room or is worth the wait, else the next."""
        fast, best = fastest(usable)
        if best is None or best is fast or not best.srtt or not fast.in_flight:
            return best
        return fast if self._wait(fast, best, state.queued) else best

    def _wait(self, fast: Path, slow: Path, queued: int) -> bool:
        margin = max(fast.rttvar, slow.rttvar)
        by_fast = fast.srtt * (1 + max(queued / fast.cwnd, 1))
        if by_fast >= (1 + BETA * self._waiting) * (slow.srtt + margin):
            self._waiting = False
            return False
        if slow.srtt * max(queued / slow.cwnd, 1) < 2 * fast.srtt + margin:
            return False
        self._waiting = True
        return True
