"""Congestion controls alone: windows in bytes, told of what happened."""

import errno
import math

import pytest

import mptcp.cc  # noqa: F401 - what it registers must do the same
from stack.config import CC_NAMES, Sysctl, sysctl_get, sysctl_set
from stack.errors import StackError, UnknownSysctl
from stack.minmax import Windowed
from stack.tcp.cc import CONGESTION_CONTROLS, make_congestion_control, register, unregister
from stack.tcp.cc.base import INFINITE, CongestionControl
from stack.tcp.cc.hystart import HyStart
from stack.tcp.cc.reno import Reno
from stack.units import MSEC, SEC

MSS = 1000
CONTROL, AVAILABLE, ALLOWED = (f"net.ipv4.tcp_{word}congestion_control" for word in ("", "available_", "allowed_"))


@pytest.fixture(params=sorted(name for name, kind in CONGESTION_CONTROLS.items() if not kind.own_window))
def cc(request) -> CongestionControl:
    return make_congestion_control(request.param, MSS, 0)


def a_round(cc: CongestionControl, now: int, rtt: int = 50 * MSEC) -> None:
    """Every byte of cwnd is acknowledged, two segments an ACK."""
    left = flight = cc.cwnd
    while left > 0:
        cc.on_ack(min(left, 2 * MSS), rtt, now, flight)
        left -= 2 * MSS


@pytest.mark.rfc("6928", "2")
def test_the_initial_window_is_ten_segments(cc):
    assert cc.cwnd == 10 * MSS
    assert cc.ssthresh == INFINITE
    assert cc.in_slow_start()


@pytest.mark.rfc("5681", "3.1")
def test_slow_start_doubles_each_round(cc):
    for n in range(1, 5):
        a_round(cc, n * 50 * MSEC)
        assert cc.cwnd == 10 * MSS * 2**n


@pytest.mark.rfc("5681", "3.1")
def test_a_timeout_leaves_one_segment(cc):
    cc.cwnd = 40 * MSS
    cc.on_rto(40 * MSS, SEC)
    assert cc.cwnd == MSS
    assert 20 * MSS <= cc.ssthresh <= 28 * MSS


@pytest.mark.rfc("5681", "3.1")
def test_ssthresh_never_falls_below_two_segments(cc):
    cc.cwnd = MSS
    cc.on_loss(MSS, SEC)
    assert cc.ssthresh == 2 * MSS


def test_undo_restores_what_the_loss_took(cc):
    cc.cwnd = 40 * MSS
    cc.on_loss(40 * MSS, SEC)
    cc.cwnd = cc.ssthresh
    cc.on_undo(SEC)
    assert cc.cwnd == 40 * MSS
    assert cc.in_slow_start()


@pytest.mark.rfc("5681", "4.1")
def test_idle_time_halves_the_window_down_to_the_initial_one(cc):
    cc.cwnd = 80 * MSS
    cc.on_idle(2 * SEC, SEC)
    assert cc.cwnd == 20 * MSS
    cc.on_idle(100 * SEC, SEC)
    assert cc.cwnd == 10 * MSS


def test_an_unknown_name_is_enoent():
    with pytest.raises(StackError) as caught:
        make_congestion_control("vegas9", MSS, 0)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.rfc("5681", "3.1")
def test_reno_halves_and_then_grows_one_segment_a_round():
    cc = make_congestion_control("reno", MSS, 0)
    cc.cwnd = 40 * MSS
    cc.on_loss(40 * MSS, SEC)
    assert cc.ssthresh == 20 * MSS
    cc.cwnd = cc.ssthresh
    cc.on_exit(SEC)
    for n in range(1, 6):
        a_round(cc, SEC + n)
        assert cc.cwnd == pytest.approx((20 + n) * MSS, abs=MSS)


@pytest.mark.rfc("9438", "4.6")
def test_cubic_cuts_to_seven_tenths():
    cc = make_congestion_control("cubic", MSS, 0)
    cc.cwnd = 100 * MSS
    cc.on_loss(100 * MSS, SEC)
    assert cc.ssthresh == 70 * MSS


def after_loss(peak: int) -> CongestionControl:
    cc = make_congestion_control("cubic", MSS, 0)
    cc.cwnd = peak * MSS
    cc.on_loss(peak * MSS, 0)
    cc.cwnd = cc.ssthresh
    cc.on_exit(0)
    return cc


@pytest.mark.rfc("9438", "4.2")
def test_cubic_returns_to_its_peak_after_k_seconds_flattening_out():
    peak, rtt = 1000, 20 * MSEC
    cc = after_loss(peak)
    k = ((peak - 0.7 * peak) / 0.4) ** (1 / 3)
    now, seen = 0, []
    while now < 2 * k * SEC:
        now += rtt
        a_round(cc, now, rtt)
        seen.append((now / SEC, cc.cwnd / MSS))
    for t, cwnd in seen:
        wanted = 0.4 * (t - k) ** 3 + peak
        if t < k * 1.4:  # beyond, growth is capped per round trip
            assert math.isclose(cwnd, wanted, rel_tol=0.06), (t, cwnd, wanted)


@pytest.mark.rfc("9438", "4.7")
def test_fast_convergence_remembers_less_when_the_peak_shrinks():
    cc = after_loss(1000)
    cc.on_loss(cc.cwnd, SEC)  # at 700, below the last peak: W_max is 0.85 of it
    cc.cwnd = cc.ssthresh
    cc.on_exit(SEC)
    now = SEC
    k = ((0.85 * 700 - 0.7 * 700) / 0.4) ** (1 / 3)
    while now < SEC + k * SEC:
        now += 100 * MSEC  # long enough for Reno to be slower
        a_round(cc, now, 100 * MSEC)
    assert cc.cwnd / MSS == pytest.approx(0.85 * 700, rel=0.03)


@pytest.mark.rfc("9438", "4.3")
def test_cubic_is_at_least_as_fast_as_reno_on_a_short_path():
    cubic = after_loss(20)
    w_est = 14.0
    now = 0
    for _ in range(400):
        now += MSEC
        a_round(cubic, now, MSEC)
        w_est += 3 * 0.3 / 1.7
    assert cubic.cwnd / MSS >= min(w_est, 20) * 0.9


@pytest.mark.rfc("9406", "4.2")
def test_hystart_leaves_slow_start_when_the_round_trip_grows():
    cc = make_congestion_control("cubic", MSS, 0)
    rtt = 40 * MSEC
    for n in range(14):
        left = flight = cc.cwnd
        while left > 0:
            cc.on_ack(2 * MSS, rtt, n * 40 * MSEC, flight)
            left -= 2 * MSS
        if n >= 3:
            rtt += 8 * MSEC
    assert not cc.in_slow_start()
    assert cc.cwnd < 10 * MSS * 2**10


@pytest.mark.rfc("9406", "4.2")
def test_hystart_stays_in_slow_start_while_the_round_trip_holds():
    cc = make_congestion_control("cubic", MSS, 0)
    for n in range(6):
        a_round(cc, n * 40 * MSEC, 40 * MSEC)
    assert cc.in_slow_start()


def test_sysctls_know_all_that_there_are():
    assert list(CONGESTION_CONTROLS) == CC_NAMES


def test_what_is_registered_can_be_named_and_what_is_not_cannot():
    class Registered(Reno):
        name = "registered"

    before = Sysctl()
    register(Registered)
    try:
        test_sysctls_know_all_that_there_are()
        assert isinstance(make_congestion_control("registered", MSS, 0), Registered)
        for knobs in (before, Sysctl()):
            assert sysctl_set(knobs, CONTROL, "registered") == "registered"
            assert sysctl_get(knobs, AVAILABLE).split()[-1] == "registered"
        assert "registered" not in before.tcp_allowed_congestion_control
        assert "registered" in Sysctl().tcp_allowed_congestion_control
        assert sysctl_set(before, ALLOWED, "reno registered") == "reno registered"
        with pytest.raises(UnknownSysctl, match="cannot be set"):
            sysctl_set(before, AVAILABLE, "reno")
    finally:
        unregister(Registered)
    assert "registered" not in sysctl_get(before, AVAILABLE)
    assert sysctl_get(Sysctl(), ALLOWED) == " ".join(CONGESTION_CONTROLS)
    with pytest.raises(UnknownSysctl, match="is none of"):
        sysctl_set(Sysctl(), CONTROL, "registered")


@pytest.mark.rfc("9406", "4.3")
def test_hystart_is_for_the_first_slow_start_only():
    cc = make_congestion_control("cubic", MSS, 0)
    cc.on_rto(10 * MSS, 0)
    cc.ssthresh = 10_000 * MSS
    rtt = 40 * MSEC
    for n in range(8):
        a_round(cc, n * 40 * MSEC, rtt)
        rtt += 8 * MSEC
    assert cc.cwnd == 256 * MSS  # one doubled eight times, whatever the delay


@pytest.mark.rfc("9406", "4.2")
def test_a_false_alarm_resumes_slow_start():
    hystart = HyStart()
    for rtt in (40, 40, 60, 60):
        for _ in range(10):
            hystart.on_ack(MSS, rtt * MSEC, 10 * MSS)
    assert hystart.in_css
    for _ in range(20):
        hystart.on_ack(MSS, 40 * MSEC, 10 * MSS)
    assert not hystart.in_css


@pytest.mark.rfc("9438", "4.8")
def test_after_a_timeout_the_curve_starts_where_slow_start_ends():
    cc = make_congestion_control("cubic", MSS, 0)
    cc.cwnd = 1000 * MSS
    cc.on_rto(1000 * MSS, 0)
    cc.cwnd = cc.ssthresh
    for n in range(20):
        a_round(cc, n * 100 * MSEC, 100 * MSEC)
    wanted = 700 + 0.4 * 2.0**3  # K = 0: convex from the start, not up to the old peak
    assert cc.cwnd / MSS == pytest.approx(wanted, rel=0.02)


@pytest.mark.rfc("9438", "4.9")
def test_undo_lets_the_curve_go_on():
    cc = after_loss(1000)
    for n in range(1, 40):
        a_round(cc, n * 100 * MSEC, 100 * MSEC)
    before = cc.cwnd
    twin = (cc._epoch, cc._w_max, cc._k)
    cc.on_loss(cc.cwnd, 4 * SEC)
    cc.on_undo(4 * SEC)
    assert cc.cwnd == before
    assert (cc._epoch, cc._w_max, cc._k) == twin


@pytest.mark.rfc("9438", "5.8")
def test_the_curve_stands_still_while_nothing_is_sent():
    busy, paused = after_loss(1000), after_loss(1000)
    for n in range(1, 20):
        for each in (busy, paused):
            a_round(each, n * 100 * MSEC, 100 * MSEC)
    paused.on_tx_start(60 * SEC, 62 * SEC)
    a_round(busy, 2 * SEC, 100 * MSEC)
    a_round(paused, 62 * SEC, 100 * MSEC)
    assert paused.cwnd == pytest.approx(busy.cwnd, rel=0.02)


@pytest.mark.rfc("8511", "3.1")
@pytest.mark.parametrize(("name", "kept"), [("reno", 80), ("cubic", 85)])
def test_a_mark_costs_less_than_a_loss_where_abe_is_on(name, kept):
    cc = make_congestion_control(name, MSS, 0)
    cc.cwnd = 100 * MSS
    cc.abe = True
    cc.on_ecn(100 * MSS, 0)
    assert cc.ssthresh == kept * MSS


@pytest.mark.rfc("8257", "3.3")
def test_dctcp_cuts_by_the_share_of_marks():
    cc = make_congestion_control("dctcp", MSS, 0)
    cc.cwnd = 100 * MSS
    assert cc.needs_ecn
    for _ in range(5000):
        cc.on_marks(2 * MSS, 0, 0)
    assert cc.info(0)["dctcp_alpha"] < 32  # decays by a sixteenth a window
    cc.on_ecn(100 * MSS, 0)
    assert cc.ssthresh > 98 * MSS
    for _ in range(5000):
        cc.on_marks(2 * MSS, 2 * MSS, 0)
    assert cc.info(0)["dctcp_alpha"] > 960
    cc.on_ecn(100 * MSS, 0)
    assert cc.ssthresh == pytest.approx(51 * MSS, abs=2 * MSS)


@pytest.mark.rfc("8257", "3.5")
def test_dctcp_halves_on_loss():
    cc = make_congestion_control("dctcp", MSS, 0)
    cc.cwnd = 100 * MSS
    cc.on_loss(100 * MSS, 0)
    assert cc.ssthresh == 50 * MSS


@pytest.mark.rfc("7661", "4")
def test_an_unused_window_shrinks_half_way_to_what_was_used():
    cc = make_congestion_control("reno", MSS, 0)
    cc.cwnd = 100 * MSS
    cc.ssthresh = 20 * MSS
    cc.on_unused(40 * MSS)
    assert cc.cwnd == 70 * MSS
    assert cc.ssthresh == 75 * MSS
    cc.on_unused(0)
    assert cc.cwnd == 40 * MSS  # the initial window counts as used


@pytest.mark.parametrize("sign", [1, -1])
def test_the_windowed_extreme_is_close_to_the_true_one(sign):
    pick = max if sign > 0 else min
    filt = Windowed(sign, 100)
    values = [1000 + 37 * (n * 7919 % 101) for n in range(1000)]
    for at, value in enumerate(values):
        filt.update(value, at)
        recent = values[max(0, at - 100) : at + 1]
        assert min(values) <= filt.best <= max(values)
        assert sign * filt.best >= sign * pick(values[max(0, at - 20) : at + 1])
        assert sign * filt.best <= sign * pick(recent)
