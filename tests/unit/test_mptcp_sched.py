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


def test_only_redundant_duplicates():
    assert [name for name, kind in SCHEDULERS.items() if kind.duplicates] == ["redundant"]


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_nobody_is_picked_where_nobody_has_room(name):
    full = [FakePath(n, n * 10 * MSEC, in_flight=10 * MSS) for n in (1, 2)]
    sched = make_scheduler(name)
    for now in (0, SEC, 2 * SEC):
        path = sched.pick(full, MUCH, now)
        assert path is None or not path.room


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_the_only_path_is_picked_even_before_it_was_measured(name):
    only = FakePath(7)
    assert make_scheduler(name).pick([only], MUCH, 0) is only
    only.srtt = SEC
    assert make_scheduler(name).pick([only], MUCH, 0) is only


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_paths_may_come_and_go_between_calls(name):
    sched = make_scheduler(name)
    for n in range(1, 20):
        paths = [FakePath(n + k, (n + k) * MSEC) for k in range(1 + n % 3)]
        path = sched.pick(paths, MUCH, n * MSEC)
        assert path in paths
        sched.on_sent(path, MSS, n * MSEC)


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


def test_minrtt_takes_the_first_of_two_equals():
    paths = [FakePath(n, 10 * MSEC) for n in (3, 1, 2)]
    assert make_scheduler("minrtt").pick(paths, MUCH, 0).id == 3


def test_ecf_waits_for_few_bytes_and_not_for_many():
    fast, slow = FakePath(1, 10 * MSEC, in_flight=10 * MSS), FakePath(2, 100 * MSEC)
    sched = make_scheduler("ecf")
    assert sched.pick([fast, slow], SendState(1 << 30, 5 * MSS), 0) is fast  # 2 × 10 ms against 100
    assert sched.pick([fast, slow], SendState(1 << 30, 89 * MSS), 0) is fast  # 99 ms
    assert sched.pick([fast, slow], SendState(1 << 30, 110 * MSS), 0) is fast  # within the margin of who waits already
    assert make_scheduler("ecf").pick([fast, slow], SendState(1 << 30, 110 * MSS), 0) is slow
    assert sched.pick([fast, slow], SendState(1 << 30, 116 * MSS), 0) is slow


def test_ecf_does_not_wait_where_the_slow_path_is_hardly_slower():
    fast, slow = FakePath(1, 10 * MSEC, in_flight=10 * MSS), FakePath(2, 19 * MSEC, rttvar=4 * MSEC)
    assert make_scheduler("ecf").pick([fast, slow], SendState(1 << 30, MSS), 0) is slow


def test_blest_weighs_the_window_against_what_the_fast_path_would_send():
    # In 100 ms the fast path sends (10 + 4.5) × 10 segments, by 1.2 that is 174.
    fast, slow = FakePath(1, 10 * MSEC, in_flight=10 * MSS), FakePath(2, 100 * MSEC)
    paths = [fast, slow]
    assert make_scheduler("blest").pick(paths, SendState(164 * MSS, 1 << 30), 0) is fast
    assert make_scheduler("blest").pick(paths, SendState(166 * MSS, 1 << 30), 0) is slow
    slow.in_flight = 5 * MSS  # already on the slow path: part of the window, and held by it
    assert make_scheduler("blest").pick(paths, SendState(164 * MSS, 1 << 30), 0) is fast
    assert make_scheduler("blest").pick(paths, SendState(166 * MSS, 1 << 30), 0) is slow


def test_blest_learns_to_be_careful_and_forgets():
    fast, slow = FakePath(1, 10 * MSEC, in_flight=10 * MSS), FakePath(2, 100 * MSEC)
    sched, paths, now = make_scheduler("blest"), [fast, slow], 0
    for _ in range(5):  # the window is exhausted again and again
        now += SEC
        assert sched.pick(paths, SendState(165 * MSS, 1 << 30), now) is (slow if now == SEC else fast)
        sched.on_sent(slow, 165 * MSS, now)
    for _ in range(40):
        now += SEC
        sched.pick(paths, SendState(150 * MSS, 1 << 30), now)
    assert sched.pick(paths, SendState(140 * MSS, 1 << 30), now) is slow
