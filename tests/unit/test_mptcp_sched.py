"""Schedulers alone: which path takes the next bytes."""

import errno
from dataclasses import dataclass

import pytest

from mptcp.sched import DEFAULT, SCHEDULERS, make_scheduler
from mptcp.sched.base import SendState
from stack.errors import StackError
from stack.units import MSEC, SEC

MSS = 1000
MUCH = SendState(window=1 << 30, queued=1 << 30)


@dataclass(eq=False)
class FakePath:
    """A path whose facts a test sets."""

    id: int
    srtt: int = 0
    cwnd: int = 10 * MSS
    in_flight: int = 0
    rttvar: int = 0
    mss: int = MSS
    weight: int = 1
    window: int = 1 << 30  # the subflow's own limits but cwnd

    @property
    def room(self) -> int:
        room = min(self.cwnd, self.window) - self.in_flight
        return room if room >= self.mss else 0


def test_the_default_is_least_round_trip():
    assert DEFAULT == "minrtt"
    assert all(name == kind.name for name, kind in SCHEDULERS.items())


def test_an_unknown_scheduler_is_enoent():
    with pytest.raises(StackError) as caught:
        make_scheduler("maxrtt")
    assert caught.value.errno == errno.ENOENT


def test_minrtt_fills_the_faster_first():
    slow, fast = FakePath(1, 40 * MSEC), FakePath(2, 10 * MSEC)
    sched = make_scheduler("minrtt")
    took = []
    while (path := sched.pick([slow, fast], MUCH, 0)) is not None:
        took.append(path.id)
        path.in_flight += MSS
    assert took == [2] * 10 + [1] * 10


def test_minrtt_takes_an_unmeasured_path_last():
    new, slow = FakePath(1), FakePath(2, SEC)
    sched = make_scheduler("minrtt")
    assert sched.pick([new, slow], MUCH, 0) is slow
    slow.in_flight = slow.cwnd
    assert sched.pick([new, slow], MUCH, 0) is new


def test_minrtt_takes_the_elder_of_two_equals():
    paths = [FakePath(n, 10 * MSEC) for n in (3, 1, 2)]
    assert make_scheduler("minrtt").pick(paths, MUCH, 0).id == 1
