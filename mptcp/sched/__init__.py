"""Schedulers by name. A new one is a class in a file here and a line in this dict."""

import errno

from mptcp.sched.base import Scheduler
from mptcp.sched.minrtt import MinRtt
from stack.errors import StackError

SCHEDULERS: dict[str, type[Scheduler]] = {kind.name: kind for kind in (MinRtt,)}
DEFAULT = MinRtt.name


def make_scheduler(name: str) -> Scheduler:
    """A fresh instance for one connection. Raises StackError(ENOENT) for an unknown name."""
    found = SCHEDULERS.get(name)
    if found is None:
        raise StackError(errno.ENOENT, f"no scheduler {name!r}")
    return found()
