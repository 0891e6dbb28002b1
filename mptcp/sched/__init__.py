"""Schedulers by name. A new one is a class in a file here and a word in this list, or a call of `register`."""

import errno

from mptcp.sched.base import Scheduler
from mptcp.sched.blest import Blest
from mptcp.sched.ecf import Ecf
from mptcp.sched.minrtt import MinRtt
from mptcp.sched.redundant import Redundant
from mptcp.sched.roundrobin import RoundRobin
from mptcp.sched.weighted import Weighted
from stack.errors import StackError

SCHEDULERS: dict[str, type[Scheduler]] = {
    kind.name: kind for kind in (MinRtt, RoundRobin, Redundant, Blest, Ecf, Weighted)
}
DEFAULT = MinRtt.name


def register(kind: type[Scheduler]) -> None:
    """Let connections use `kind` under its name, from now on."""
    SCHEDULERS[kind.name] = kind


def make_scheduler(name: str) -> Scheduler:
    """A fresh instance for one connection. Raises StackError(ENOENT) for an unknown name."""
    found = SCHEDULERS.get(name)
    if found is None:
        raise StackError(errno.ENOENT, f"no scheduler {name!r}")
    return found()
