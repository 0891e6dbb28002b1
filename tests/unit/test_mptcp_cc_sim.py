"""Coupled congestion controls at bottlenecks that they share with others: RFC 6356 §2's goals, and what came after."""

import pytest

from kit.flows import MSS, Bottleneck, Flow, Flows
from mptcp.cc import Balia, Group, Lia, Olia, WVegas
from stack.tcp.cc.reno import Reno
from stack.units import MSEC, SEC

pytestmark = pytest.mark.long

MBIT = 125_000  # bytes a second
MBITS = 20
RTT, FAR = 10 * MSEC, 40 * MSEC  # short: there is much to be averaged
LOSS_BASED = [Lia, Olia, Balia]


def coupled(kind, *paths: tuple[Bottleneck, int]) -> list[Flow]:
    """One connection: a subflow for each bottleneck and round trip."""
    group = Group()
    flows = []
    for via, rtt in paths:
        cc = kind(MSS, 0)
        cc.join(group)
        flows.append(Flow(cc, via, rtt))
    return flows


def rivals(via: Bottleneck, rtt: int, count: int = 1, kind=Reno, **keywords) -> list[Flow]:
    return [Flow(kind(MSS, 0), via, rtt, starts=n * SEC // 3, **keywords) for n in range(count)]


def wire(mbit: int = MBITS, limit: int = 40) -> Bottleneck:
    return Bottleneck(mbit * MBIT, limit)


def steady(*flows: Flow, seconds: float = 25) -> Flows:
    return Flows(list(flows)).run(5).reset().run(seconds)


def test_two_flows_that_are_not_coupled_take_twice_the_share():
    via = wire()
    ours, single = rivals(via, RTT, 2), rivals(via, RTT)
    sim = steady(*ours, *single)
    assert sim.rate(*ours) / sim.rate(*single) == pytest.approx(2, rel=0.2)


@pytest.mark.rfc("6356", "2")
@pytest.mark.parametrize("kind", LOSS_BASED)
def test_goal_2_at_a_shared_bottleneck_they_take_no_more_than_one_tcp(kind):
    via = wire()
    ours, single = coupled(kind, (via, RTT), (via, RTT)), rivals(via, RTT)
    sim = steady(*ours, *single)
    assert 0.7 < sim.rate(*ours) / sim.rate(*single) < 1.25


@pytest.mark.rfc("6356", "2")
@pytest.mark.parametrize("kind", LOSS_BASED)
def test_goal_1_they_get_what_one_tcp_would_on_the_best_path(kind):
    near, far = wire(), wire()
    ours = coupled(kind, (near, RTT), (far, FAR))
    there, yonder = rivals(near, RTT), rivals(far, FAR)
    sim = steady(*ours, *there, *yonder)
    assert sim.rate(*ours) > 0.9 * MBITS * MBIT / 2  # a TCP would have half of either
    assert sim.rate(ours[0]) < sim.rate(*there)  # and harm nobody more than a TCP would
    assert sim.rate(ours[1]) < sim.rate(*yonder)


@pytest.mark.rfc("6356", "2")
@pytest.mark.parametrize(("kind", "share"), [(Lia, 0.5), (Olia, 0.15), (Balia, 0.5), (WVegas, 0.5)])
def test_goal_3_traffic_leaves_the_congested_path(kind, share):
    crowded, free = wire(), wire()
    ours, others = coupled(kind, (crowded, RTT), (free, RTT)), rivals(crowded, RTT, 3)
    sim = steady(*ours, *others)
    assert sim.rate(ours[1]) > 0.95 * MBITS * MBIT
    assert sim.rate(ours[0]) < share * sim.rate(*others) / 3


@pytest.mark.parametrize(("kind", "within"), [(Lia, 3), (Olia, 8), (Balia, 3), (WVegas, 3)])
def test_it_comes_back_when_the_others_have_gone(kind, within):
    crowded, free = wire(), wire()
    ours = coupled(kind, (crowded, RTT), (free, RTT))
    sim = Flows(ours + rivals(crowded, RTT, 3, stops=10 * SEC)).run(10 + within).reset().run(3)
    assert sim.rate(ours[0]) > 0.9 * MBITS * MBIT


@pytest.mark.parametrize("kind", [*LOSS_BASED, WVegas])
def test_two_links_of_its_own_add_up(kind):
    fast, slow = wire(20, 120), wire(2, 40)
    ours = coupled(kind, (fast, RTT), (slow, FAR))
    sim = steady(*ours, seconds=15)
    assert sim.rate(*ours) > 0.95 * 22 * MBIT


def test_wvegas_keeps_queues_short_and_loses_nothing():
    via = wire(limit=200)
    ours = coupled(WVegas, (via, RTT), (via, RTT))
    sim = steady(*ours, seconds=15)
    assert sim.rate(*ours) > 0.97 * MBITS * MBIT
    assert via.queue < 22
    assert via.drops == 0
    via = wire(limit=200)
    steady(*coupled(Lia, (via, RTT), (via, RTT)), seconds=15)
    assert via.queue > 35  # for comparison


def test_wvegas_moves_away_from_others_of_its_kind():
    crowded, free = wire(limit=100), wire(limit=100)
    ours = coupled(WVegas, (crowded, RTT), (free, RTT))
    others = rivals(crowded, RTT, 2, WVegas)
    sim = steady(*ours, *others)
    assert sim.rate(ours[1]) > 0.97 * MBITS * MBIT
    assert sim.rate(ours[0]) < 0.6 * sim.rate(*others) / 2
