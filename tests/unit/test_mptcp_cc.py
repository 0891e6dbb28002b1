"""Coupled congestion controls alone: how fast a window grows, given the others."""

import pytest

from kit.link import Link
from kit.pair import Pair
from mptcp.cc import COUPLED, Balia, Coupled, Group, Lia, Olia, WVegas
from stack.tcp.cc import CONGESTION_CONTROLS, make_congestion_control
from stack.tcp.cc.base import INFINITE, CongestionControl
from stack.tcp.cc.reno import Reno
from stack.tcp.options import TcpOptions
from stack.units import MSEC, SEC

MSS = 1000
LOSS_BASED = (Lia, Olia, Balia)


def member(kind: type[Coupled], group: Group, segs: int, rtt: int) -> Coupled:
    """In congestion avoidance, with a window of so many segments."""
    cc = kind(MSS, 0)
    cc.cwnd = cc.ssthresh = segs * MSS
    cc.start(rtt, 0)
    cc.join(group)
    return cc


def pair(kind: type[Coupled], segs=(20, 20), rtts=(50 * MSEC, 50 * MSEC)) -> list[Coupled]:
    group = Group()
    return [member(kind, group, *each) for each in zip(segs, rtts, strict=True)]


def a_round(cc: CongestionControl, now: int, rtt: int = 50 * MSEC) -> None:
    """Every byte of cwnd is acknowledged, two segments an ACK."""
    left = flight = cc.cwnd
    while left > 0:
        cc.on_ack(min(left, 2 * MSS), rtt, now, flight)
        left -= 2 * MSS


def growth(cc: Coupled, others: list[Coupled], rounds: int = 40, rtt: int = 50 * MSEC) -> float:
    """Segments a round trip, the others standing still."""
    before = cc.cwnd
    for _ in range(rounds):
        left = before
        while left > 0:
            cc.on_ack(2 * MSS, rtt, SEC // 2, before)
            cc._credit, cc.cwnd = cc._credit + cc.cwnd - before, before
            left -= 2 * MSS
        for each in others:
            each._limited_at = SEC // 2
    grown, cc._credit = cc._credit, 0.0
    return grown / MSS / rounds


def test_all_are_registered_under_their_names():
    assert [kind.name for kind in COUPLED] == ["lia", "olia", "balia", "wvegas"]
    for kind in COUPLED:
        assert CONGESTION_CONTROLS[kind.name] is kind
        assert type(make_congestion_control(kind.name, MSS, 0)) is kind


@pytest.mark.rfc("6356", "3")
@pytest.mark.parametrize("kind", LOSS_BASED)
@pytest.mark.parametrize("grouped", [False, True])
def test_alone_it_is_reno(kind, grouped):
    cc, reno = kind(MSS, 0), Reno(MSS, 0)
    if grouped:
        cc.join(Group())
    for each in (cc, reno):
        each.start(50 * MSEC, 0)
        each.cwnd = 40 * MSS
        each.on_loss(40 * MSS, 0)
        each.cwnd = each.ssthresh
        each.on_exit(0)
    assert cc.ssthresh == reno.ssthresh == 20 * MSS
    for n in range(1, 30):
        a_round(cc, n * 50 * MSEC)
        a_round(reno, n * 50 * MSEC)
        assert abs(cc.cwnd - reno.cwnd) <= MSS


@pytest.mark.rfc("6356", "3")
@pytest.mark.parametrize("kind", [*LOSS_BASED, WVegas])
def test_slow_start_is_each_ones_own(kind):
    one, two = pair(kind)
    one.ssthresh = two.ssthresh = INFINITE
    a_round(one, MSEC)
    assert (one.cwnd, two.cwnd) == (40 * MSS, 20 * MSS)


@pytest.mark.rfc("6356", "3")
def test_lia_grows_by_alpha_over_the_total():
    # alpha = 60 × max(20/50², 40/200²) / (20/50 + 40/200)² = 60 × 0.008 / 0.36 = 4/3
    one, two = pair(Lia, segs=(20, 40), rtts=(50 * MSEC, 200 * MSEC))
    assert growth(one, [two]) == pytest.approx(20 * 4 / 3 / 60, rel=0.01)
    assert growth(two, [one], rtt=200 * MSEC) == pytest.approx(40 * 4 / 3 / 60, rel=0.01)


@pytest.mark.rfc("6356", "3")
def test_lia_never_grows_faster_than_reno():
    # Alone on the good path it would match its best; here alpha/total would be 2.3 segments a round trip.
    one, two = pair(Lia, segs=(10, 100), rtts=(10 * MSEC, 1000 * MSEC))
    assert growth(one, [two], rtt=10 * MSEC) <= 1.0 + 1e-9
    assert growth(two, [one], rtt=1000 * MSEC) == pytest.approx(1.0, rel=0.01)


@pytest.mark.rfc("6356", "3")
def test_two_equal_subflows_grow_a_quarter_each():
    one, two = pair(Lia)
    assert growth(one, [two]) == pytest.approx(0.25, rel=0.01)


@pytest.mark.rfc("6356", "3")
def test_a_window_in_recovery_counts_as_what_it_will_be():
    one, two = pair(Lia, segs=(20, 40))
    two.on_loss(40 * MSS, 0)
    assert (two.cwnd, two.window) == (40 * MSS, 20 * MSS)
    two.on_exit(0)
    assert (two.cwnd, two.window) == (20 * MSS, 20 * MSS)
    two.on_loss(20 * MSS, 0)
    two.on_undo(0)
    assert two.window == 20 * MSS
    two.on_rto(20 * MSS, 0)
    assert two.window == two.cwnd == MSS
    assert growth(one, [two]) == pytest.approx(20**2 / 21**2, rel=0.01)


@pytest.mark.parametrize("kind", LOSS_BASED)
def test_who_is_idle_makes_nobody_timid(kind):
    one, two = pair(kind)
    assert growth(one, [two]) < 0.6
    for n in range(1, 41):
        a_round(one, SEC + n * 50 * MSEC)
    before = one.cwnd
    for n in range(10):
        a_round(one, 3 * SEC + n * 50 * MSEC)
    assert one.cwnd == before + 10 * MSS
    two.on_ack(MSS, 50 * MSEC, 4 * SEC, 20 * MSS)  # it is back
    before = one.cwnd
    for n in range(10):
        a_round(one, 4 * SEC + n * 50 * MSEC)
    assert one.cwnd < before + 9 * MSS


def test_who_was_never_measured_does_not_count():
    one, two = pair(Lia)
    two.srtt = 0
    assert growth(one, [two]) == pytest.approx(1.0)
    assert two._peers(0) == []


def test_members_come_and_go():
    one, two = pair(Lia)
    group = one.group
    two.leave()
    two.leave()
    assert group.members == [one]
    assert two.group is None
    other = Group()
    one.join(other)
    one.join(other)
    assert (group.members, other.members) == ([], [one])


def test_a_congestion_control_that_was_given_up_is_out_of_the_group():
    one, two = pair(Lia)
    group, three = one.group, member(Lia, one.group, 20, 50 * MSEC)
    one.leave()
    del two
    assert group.members == [three]
    del three
    assert group.members == []


def test_olia_moves_window_to_the_better_path_that_has_less():
    large, small = pair(Olia, segs=(40, 10))
    large._since, small._since = 10 * MSS, 500 * MSS  # the small one has not lost anything for long
    kelly = {40: 40 * 40 / 50**2, 10: 10 * 10 / 50**2}  # w²/(Σw)², a round trip
    assert growth(small, [large], rounds=1) == pytest.approx(kelly[10] + 1 / 2, rel=0.05)
    large._since = 10 * MSS
    assert growth(large, [small], rounds=1) == pytest.approx(kelly[40] - 1 / 2, rel=0.05)


def test_olia_leaves_windows_alone_where_the_best_path_has_the_largest():
    large, small = pair(Olia, segs=(40, 10))
    large._since, small._since = 500 * MSS, 10 * MSS
    assert growth(small, [large], rounds=1) == pytest.approx(10 * 10 / 50**2, rel=0.05)


def test_olia_remembers_the_longer_of_two_intervals():
    cc = member(Olia, Group(), 20, 50 * MSEC)
    cc.on_ack(30 * MSS, 50 * MSEC, 0, 20 * MSS)
    cc.on_loss(20 * MSS, 0)
    assert cc.quality == 30 * MSS / (50 * MSEC) ** 2
    cc.on_ack(50 * MSS, 50 * MSEC, 0, 20 * MSS)
    assert cc.quality == 50 * MSS / (50 * MSEC) ** 2
    cc.on_loss(20 * MSS, 0)
    cc.on_loss(20 * MSS, 0)  # nothing went through in between: the same episode
    assert cc.quality == 50 * MSS / (50 * MSEC) ** 2


def test_olia_shrinks_to_one_segment_and_no_further():
    large, small = pair(Olia, segs=(2, 1))
    for n in range(1, 400):
        small._since = 10**9
        small.on_ack(1, 50 * MSEC, n * MSEC, MSS)
        large.on_ack(MSS, 50 * MSEC, n * MSEC, 2 * MSS)
        small.cwnd = MSS
        assert large.cwnd >= MSS
    assert large.ssthresh <= large.cwnd
    large.on_loss(MSS, SEC)
    assert large.ssthresh == MSS
    large.on_exit(SEC)
    assert large.cwnd == MSS


def test_balia_cuts_the_weaker_path_deeper():
    strong, weak = pair(Balia, segs=(40, 10))
    weak.on_loss(10 * MSS, 0)
    assert weak.ssthresh == 2500  # alpha is 4, so 1.5 halves
    strong.on_loss(40 * MSS, 0)
    assert strong.ssthresh == 20 * MSS


def test_balia_grows_as_the_draft_says():
    strong, weak = pair(Balia, segs=(40, 10))
    assert growth(strong, [weak]) == pytest.approx(40**2 / 50**2, rel=0.01)
    assert growth(weak, [strong]) == pytest.approx(10**2 / 50**2 * 5 / 2 * 8 / 5, rel=0.01)


def vegas_round(cc: WVegas, now: int, rtt: int) -> int:
    """One round trip; says by how much cwnd changed."""
    before = cc.cwnd
    a_round(cc, now, rtt)
    return cc.cwnd - before


def test_wvegas_holds_ten_segments_in_queues_when_alone():
    cc = member(WVegas, Group(), 50, 50 * MSEC)
    cc.ssthresh = 40 * MSS
    assert vegas_round(cc, 0, 50 * MSEC) == MSS  # nothing queued
    queued = [(4, MSS), (9, MSS), (14, -MSS)]
    for n, (segs, wanted) in enumerate(queued, 1):
        rtt = cc._base * cc.cwnd // (cc.cwnd - segs * MSS)
        assert vegas_round(cc, n * 60 * MSEC, rtt) == wanted


def test_wvegas_drains_a_queue_that_has_doubled():
    cc = member(WVegas, Group(), 100, 50 * MSEC)
    cc.ssthresh = 40 * MSS
    vegas_round(cc, 0, 50 * MSEC)
    vegas_round(cc, MSEC, 56 * MSEC)
    before = cc.cwnd
    vegas_round(cc, 2 * MSEC, 62 * MSEC)
    assert cc.cwnd == pytest.approx(before * 50 / (2 * 62), abs=2 * MSS)


def test_wvegas_shares_alpha_by_rate():
    one, two = pair(WVegas, segs=(60, 20))
    for n in range(3):
        for each in (one, two):
            each.ssthresh = each.cwnd - MSS
            a_round(each, n * MSEC, 50 * MSEC if not n else 75 * MSEC)
    assert one._alpha == pytest.approx(7.5, abs=0.5)
    assert two._alpha == pytest.approx(2.5, abs=0.5)
    two.on_rto(20 * MSS, 4 * MSEC)
    a_round(one, 5 * MSEC, 75 * MSEC)
    assert one._alpha == 10.0


def test_wvegas_leaves_slow_start_when_a_queue_begins():
    cc = WVegas(MSS, 0)
    cc.start(50 * MSEC, 0)
    for n in range(3):
        a_round(cc, n * 50 * MSEC, 50 * MSEC)
    assert cc.cwnd == 80 * MSS
    a_round(cc, 150 * MSEC, 60 * MSEC)
    assert not cc.in_slow_start()
    assert cc.cwnd < 160 * MSS


def test_wvegas_measures_anew_after_idle_time():
    cc = member(WVegas, Group(), 20, 50 * MSEC)
    a_round(cc, 0, 30 * MSEC)
    assert cc._base == 30 * MSEC
    cc.on_idle(SEC, SEC)
    a_round(cc, 2 * SEC, 80 * MSEC)
    assert cc._base == 80 * MSEC


@pytest.mark.parametrize("kind", COUPLED)
@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_a_plain_connection_may_use_it(kind, loss):
    pair = Pair(Link(rate=20_000_000, delay=10 * MSEC, queue=100_000, loss=loss), Link(delay=10 * MSEC))
    report = pair.transfer(1_000_000, options=TcpOptions(congestion=kind.name))
    assert report.intact
    assert report.info.congestion == kind.name
    assert report.goodput > (4_000_000 if loss else 12_000_000)
