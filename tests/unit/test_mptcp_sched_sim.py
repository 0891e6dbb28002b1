"""Schedulers over simulated paths: shares, speed, and who is held up by whom."""

import pytest

from kit.paths import SimPath, Transfer
from mptcp.sched import SCHEDULERS, make_scheduler
from mptcp.sched.base import SendState
from stack.units import MSEC, SEC

pytestmark = pytest.mark.long

MBIT = 125_000  # bytes a second
TEN_MB = 10_000_000
MUCH = SendState(window=1 << 30, queued=1 << 30)


def two(fast=(10 * MBIT, 20 * MSEC), slow=(10 * MBIT, 20 * MSEC), **both) -> list[SimPath]:
    return [SimPath(1, *fast, **both), SimPath(2, *slow, **both)]


def carry(name: str, paths: list[SimPath], **keywords) -> Transfer:
    return Transfer(paths, make_scheduler(name), **{"total": TEN_MB, **keywords}).run()


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"redundant"}))
def test_two_equal_links_add_up(name):
    done = carry(name, two())
    assert done.snd_una == TEN_MB
    assert done.goodput > 0.95 * 20 * MBIT


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"redundant", "weighted"}))
@pytest.mark.parametrize("slow", [(10 * MBIT, 200 * MSEC), (1 * MBIT, 20 * MSEC), (1 * MBIT, 200 * MSEC)])
def test_with_an_ample_window_a_second_link_never_costs_anything(name, slow):
    done = carry(name, two(slow=slow))
    assert done.snd_una == TEN_MB
    assert done.goodput > 0.95 * 10 * MBIT


@pytest.mark.parametrize("ratio", [1, 3, 9])
def test_weighted_keeps_its_shares_where_both_are_full(ratio):
    paths = two()
    paths[0].weight = ratio
    done = carry("weighted", paths)
    assert done.snd_una == TEN_MB
    assert paths[0].carried / paths[1].carried == pytest.approx(ratio, rel=0.02)


@pytest.mark.parametrize("ratio", [1, 3, 9])
def test_weighted_keeps_its_shares_where_neither_is(ratio):
    paths = two(fast=(100 * MBIT, 10 * MSEC), slow=(100 * MBIT, 80 * MSEC))
    paths[0].weight = ratio
    done = carry("weighted", paths, write_rate=5 * MBIT, total=600_000)
    assert done.snd_una == 600_000
    assert paths[0].carried / paths[1].carried == pytest.approx(ratio, rel=0.02)


def test_weighted_does_not_wait_for_the_dead():
    paths = two()
    paths[1].dead_at = SEC
    done = carry("weighted", paths, window=1 << 40)
    alive, dead = paths
    assert dead.in_flight > 0
    assert alive.in_flight == 0
    assert done.snd_nxt == TEN_MB  # all was handed out, the rest over the path that is left


def test_who_was_away_makes_up_for_no_more_than_a_window():
    paths = two()
    sched = make_scheduler("weighted")
    first, second = paths
    for n in range(1000):
        assert sched.pick([first], MUCH, n) is first
        sched.on_sent(first, 1000, n)
    taken = 0
    while sched.pick(paths, MUCH, 2000) is second:
        sched.on_sent(second, 1000, 2000)
        taken += 1000
    assert taken <= second.cwnd + 1000


def test_roundrobin_takes_turns():
    paths = [SimPath(n, 100 * MBIT, 20 * MSEC, cwnd=64_000) for n in (4, 2, 9)]
    sched = make_scheduler("roundrobin")
    took = []
    for _ in range(6):
        path = sched.pick(paths, MUCH, 0)
        sched.on_sent(path, 1000, 0)
        took.append(path.id)
    assert took == [2, 4, 9, 2, 4, 9]
    paths[0].in_flight = 64_000
    for wanted in (2, 9, 2):
        path = sched.pick(paths, MUCH, 0)
        sched.on_sent(path, 1000, 0)
        assert path.id == wanted


def test_minrtt_leaves_the_slower_alone_while_the_faster_can_carry_it():
    paths = two(fast=(10 * MBIT, 20 * MSEC), slow=(10 * MBIT, 40 * MSEC))
    done = carry("minrtt", paths, write_rate=4 * MBIT, total=1_000_000)
    assert done.snd_una == 1_000_000
    assert paths[1].carried == 0


HETERO = {"fast": (10 * MBIT, 20 * MSEC), "slow": (2 * MBIT, 400 * MSEC)}


@pytest.mark.parametrize("name", ["blest", "ecf"])
def test_a_slow_path_is_not_used_where_it_would_block_a_small_window(name):
    window = 60_000  # what the fast path needs and little more
    alone = carry("minrtt", two(**HETERO)[:1], window=window)
    naive = carry("minrtt", two(**HETERO), window=window)
    wise = carry(name, two(**HETERO), window=window)
    assert naive.goodput < 0.6 * alone.goodput  # the slow one holds the window
    if name == "blest":
        assert wise.goodput > 0.95 * alone.goodput
    assert wise.goodput > naive.goodput


def test_blest_uses_the_slow_path_where_the_window_is_ample():
    paths = two(**HETERO)
    done = carry("blest", paths)
    assert paths[1].carried > 0.1 * TEN_MB
    assert done.goodput > 0.9 * 12 * MBIT


def test_ecf_ends_a_short_transfer_sooner_than_minrtt():
    naive = carry("minrtt", two(**HETERO), total=100_000)
    wise = carry("ecf", two(**HETERO), total=100_000)
    alone = carry("minrtt", two(**HETERO)[:1], total=100_000)
    assert wise.now < 0.6 * naive.now
    assert wise.now <= 1.05 * alone.now


def test_ecf_uses_the_slow_path_for_a_long_one():
    paths = two(**HETERO)
    done = carry("ecf", paths)
    assert paths[1].carried > 0.1 * TEN_MB
    assert done.goodput > 0.95 * 11 * MBIT


@pytest.mark.parametrize("name", ["blest", "ecf"])
def test_nobody_waits_for_a_path_that_owes_no_ack(name):
    fast, slow = two(**HETERO)
    fast.cwnd = 500  # less than a segment: no room, and nothing in flight
    sched = make_scheduler(name)
    assert sched.pick([fast, slow], MUCH, 0) is slow


def test_redundant_sends_all_on_each_and_outlives_a_path():
    paths = two()
    done = carry("redundant", paths, total=1_000_000)
    assert done.snd_una == 1_000_000
    assert paths[0].carried == pytest.approx(paths[1].carried, rel=0.1)
    assert sum(path.carried for path in paths) > 1_800_000
    paths = two()
    paths[0].dead_at = 100 * MSEC
    done = carry("redundant", paths, total=1_000_000)
    assert done.snd_una == 1_000_000
    assert done.goodput > 0.9 * 10 * MBIT


def test_redundant_is_as_fast_as_the_faster():
    done = carry("redundant", two(slow=(1 * MBIT, 300 * MSEC)), total=2_000_000)
    assert done.goodput > 0.95 * 10 * MBIT
