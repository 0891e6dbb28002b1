"""Least round trip first: the fastest path until its window is full, then the next. The default, as Linux's was."""

from collections.abc import Sequence

from mptcp.sched.base import Path, Scheduler, SendState, fastest
from stack.units import Nanos


class MinRtt(Scheduler):
    """Of those with room the one with the least srtt."""

    name = "minrtt"

    def pick(self, usable: Sequence[Path], state: SendState, now: Nanos) -> Path | None:
        """None only if no path has room."""
        return fastest(usable)[1]
