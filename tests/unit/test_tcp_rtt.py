"""The RTT estimator alone, against the arithmetic of RFC 6298."""

import pytest

from stack.tcp.rtt import Rtt
from stack.units import MSEC, SEC


def fresh(rto_min_us: int = 200_000, rto_max_ms: int = 120_000) -> Rtt:
    return Rtt(rto_min_us, rto_max_ms)


@pytest.mark.rfc("6298", "2.1")
def test_the_first_rto_is_one_second():
    assert fresh().rto == SEC


@pytest.mark.rfc("6298", "2.2")
def test_the_first_sample_sets_srtt_and_half_of_it_as_variance():
    rtt = fresh()
    rtt.on_sample(100 * MSEC, 0)
    assert (rtt.srtt, rtt.rttvar) == (100 * MSEC, 50 * MSEC)
    assert rtt.rto == 300 * MSEC  # srtt + 4 · rttvar


@pytest.mark.rfc("6298", "2.3")
def test_later_samples_use_one_eighth_and_one_quarter():
    rtt = fresh()
    rtt.on_sample(100 * MSEC, 0)
    rtt.on_sample(180 * MSEC, 0)
    assert rtt.rttvar == pytest.approx(0.75 * 50 * MSEC + 0.25 * 80 * MSEC, abs=8)
    assert rtt.srtt == pytest.approx(0.875 * 100 * MSEC + 0.125 * 180 * MSEC, abs=8)


def test_the_floor_is_under_the_variance_as_in_linux():
    rtt = fresh()
    for _ in range(100):
        rtt.on_sample(10 * MSEC, 0)
    assert rtt.rto == pytest.approx(210 * MSEC, rel=0.01)


@pytest.mark.rfc("6298", "2.5")
def test_the_ceiling_holds():
    rtt = fresh(rto_max_ms=5000)
    rtt.on_sample(60 * SEC, 0)
    assert rtt.rto == 5 * SEC
    assert rtt.backed_off(10) == 5 * SEC


@pytest.mark.rfc("6298", "5.5")
def test_back_off_doubles():
    rtt = fresh()
    assert [rtt.backed_off(n) for n in range(4)] == [SEC, 2 * SEC, 4 * SEC, 8 * SEC]
    assert rtt.backed_off(10**6) == 120 * SEC


def test_the_minimum_is_forgotten_after_its_window():
    rtt = fresh()
    rtt.on_sample(10 * MSEC, 0)
    rtt.on_sample(50 * MSEC, SEC)
    assert rtt.min_rtt == 10 * MSEC
    rtt.on_sample(50 * MSEC, 300 * SEC + 2 * SEC)
    assert rtt.min_rtt == 50 * MSEC
