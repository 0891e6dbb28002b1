"""BBR version 1, state by state: draft-cardwell-iccrg-bbr-congestion-control-00, numbers as in Linux's tcp_bbr.c."""

import pytest

from stack.tcp.castate import OPEN, RECOVERY
from stack.tcp.cc.base import RateSample, initial_window
from stack.tcp.cc.bbr import (
    CYCLE,
    DRAIN,
    DRAIN_GAIN,
    HIGH_GAIN,
    MIN_RTT_WINDOW,
    PROBE_BW,
    PROBE_RTT,
    PROBE_RTT_TIME,
    STARTUP,
    Bbr,
)
from stack.units import MSEC, SEC

MSS = 1000
RTT = 100 * MSEC
BW = 1_000_000  # bytes a second: a bandwidth-delay product of 100 segments


class Path:
    """Plays ACKs at a Bbr: one sample a round trip, unless told otherwise."""

    def __init__(self) -> None:
        self.now = 10 * SEC
        self.cc = Bbr(MSS, self.now)
        self.cc.start(RTT, self.now)
        self.delivered = 0

    def ack(
        self, bw=BW, *, rtt=RTT, wait=None, acked=50 * MSS, in_flight=100 * MSS, prior=None, new_round=True, **more
    ):
        """One ACK that samples `bw`, a round trip after the last one."""
        self.now += RTT if wait is None else wait
        sample = RateSample()
        sample.prior_delivered = self.delivered if new_round else -1
        self.delivered += acked
        sample.acked = acked
        sample.delivered, sample.interval = bw, SEC
        sample.delivered_total = self.delivered
        sample.rtt = rtt
        sample.srtt = RTT
        sample.in_flight = in_flight
        sample.prior_in_flight = in_flight if prior is None else prior
        sample.ca_state = OPEN
        for name, value in more.items():
            setattr(sample, name, value)
        self.cc.on_sample(sample, self.now)

    def rounds(self, count, **more):
        for _ in range(count):
            self.ack(**more)

    def settle(self):
        """Into PROBE_BW with a known bandwidth."""
        self.rounds(4, in_flight=300 * MSS)
        self.ack(in_flight=50 * MSS)
        assert self.cc.mode == PROBE_BW


@pytest.fixture
def path():
    return Path()


# ---------------------------------------------------------------------- STARTUP and DRAIN


def test_before_the_first_round_trip_it_paces_the_initial_window_over_a_millisecond():
    assert Bbr(MSS, 0).pacing_rate == pytest.approx(HIGH_GAIN * initial_window(MSS) * 1000, rel=0.01)


def test_the_handshakes_round_trip_sets_the_first_rate(path):
    assert path.cc.pacing_rate == pytest.approx(HIGH_GAIN * initial_window(MSS) * 10, rel=0.01)
    assert path.cc.mode == STARTUP


def test_startup_doubles_window_and_rate_each_round(path):
    for bw in (100_000, 200_000, 400_000, 800_000):
        before = path.cc.cwnd
        path.ack(bw, acked=before)
        assert path.cc.mode == STARTUP
        assert path.cc.cwnd <= 2 * before
        assert path.cc.pacing_rate == pytest.approx(max(HIGH_GAIN * bw * 0.99, HIGH_GAIN * 100_000), rel=0.03)


def test_three_rounds_without_a_quarter_more_fill_the_pipe(path):
    path.rounds(3, in_flight=300 * MSS)
    assert path.cc.mode == STARTUP
    path.ack(in_flight=300 * MSS)
    assert path.cc.mode == DRAIN
    assert path.cc.pacing_gain == DRAIN_GAIN
    assert path.cc.cwnd_gain == HIGH_GAIN
    assert path.cc.pacing_rate == pytest.approx(DRAIN_GAIN * BW * 0.99, rel=0.01)


def test_a_quarter_more_starts_the_count_anew(path):
    path.rounds(3)
    path.ack(BW * 5 // 4)
    path.rounds(2, bw=BW * 5 // 4)
    assert path.cc.mode == STARTUP


def test_rounds_in_which_the_program_was_the_limit_prove_nothing(path):
    path.rounds(10, app_limited=True)
    assert path.cc.mode == STARTUP


def test_acks_of_the_same_round_are_not_rounds(path):
    path.ack()
    path.rounds(10, new_round=False)
    assert path.cc.mode == STARTUP


def test_drain_ends_when_no_more_is_in_flight_than_the_path_holds(path):
    path.rounds(5, in_flight=300 * MSS)
    assert path.cc.mode == DRAIN
    path.ack(in_flight=150 * MSS)
    assert path.cc.mode == DRAIN
    path.ack(in_flight=100 * MSS)
    assert path.cc.mode == PROBE_BW


# ---------------------------------------------------------------------- the filters


def test_bandwidth_is_the_greatest_of_ten_rounds(path):
    path.settle()
    path.ack(2 * BW)
    path.rounds(9)
    assert path.cc.bw == 2 * BW
    path.rounds(2)
    assert path.cc.bw == BW


def test_samples_of_an_idle_program_count_only_upwards(path):
    path.settle()
    path.rounds(30, bw=BW // 2, app_limited=True)
    assert path.cc.bw == BW
    path.ack(2 * BW, app_limited=True)
    assert path.cc.bw == 2 * BW


def test_the_round_trip_is_the_least_of_ten_seconds(path):
    path.ack(rtt=80 * MSEC)
    path.ack(rtt=120 * MSEC)
    assert path.cc.min_rtt == 80 * MSEC
    path.ack(rtt=0)  # no sample: of text sent twice
    assert path.cc.min_rtt == 80 * MSEC


# ---------------------------------------------------------------------- PROBE_BW


def at_phase(path, index):
    path.settle()
    path.cc._cycle_index = index
    path.cc._cycle_at = path.now


def test_the_probing_phase_lasts_until_its_flight_is_reached(path):
    at_phase(path, 0)
    path.ack(prior=100 * MSS)
    path.ack(prior=110 * MSS)
    assert path.cc.pacing_gain == 1.25
    path.ack(prior=140 * MSS, wait=RTT + 1)
    assert path.cc.pacing_gain == 0.75


def test_losses_end_the_probing_phase(path):
    at_phase(path, 0)
    path.ack(prior=100 * MSS, wait=RTT + 1, lost=MSS)
    assert path.cc.pacing_gain == 0.75


def test_the_draining_phase_ends_as_soon_as_the_queue_is_gone(path):
    at_phase(path, 1)
    path.ack(prior=130 * MSS, wait=RTT // 4)
    assert path.cc.pacing_gain == 0.75
    path.ack(prior=100 * MSS, wait=RTT // 4)
    assert path.cc.pacing_gain == 1.0


def test_the_cycle_takes_eight_phases_and_averages_one(path):
    assert sum(CYCLE) / len(CYCLE) == 1
    at_phase(path, 2)
    seen = []
    for _ in range(8):
        seen.append(path.cc._cycle_index)
        path.ack(prior=200 * MSS, wait=RTT + 1)
    assert seen == [2, 3, 4, 5, 6, 7, 0, 1]


def test_it_never_begins_with_the_draining_phase():
    for at in range(200):
        cc = Bbr(MSS, 0)
        cc._probe_bw(at * 997_003)
        assert cc._cycle_index != 1


def test_pacing_stays_a_percent_below_the_bandwidth(path):
    at_phase(path, 4)
    path.ack(wait=MSEC)
    assert path.cc.pacing_rate == int(BW * 0.99)


@pytest.mark.parametrize("acked", [1, 10 * MSS, 1000 * MSS])
def test_the_window_is_bound_by_twice_what_the_path_holds(path, acked):
    """… and three batches of the sender's own: at this rate two segments each."""
    at_phase(path, 4)
    path.rounds(100, acked=acked, wait=MSEC)
    assert path.cc.cwnd <= 2 * BW * RTT // SEC + 8 * MSS
    assert path.cc.cwnd >= 4 * MSS


def test_the_window_grows_by_no_more_than_was_delivered(path):
    at_phase(path, 4)
    path.cc.cwnd = 20 * MSS
    path.ack(acked=3 * MSS, wait=MSEC)
    assert path.cc.cwnd == 23 * MSS


# ---------------------------------------------------------------------- PROBE_RTT


def probe_rtt(path):
    path.settle()
    path.rounds(3)
    path.now += MIN_RTT_WINDOW
    path.ack(rtt=2 * RTT)
    assert path.cc.mode == PROBE_RTT


def test_after_ten_seconds_without_a_lesser_one_it_looks_at_the_empty_path(path):
    probe_rtt(path)
    assert path.cc.min_rtt == 2 * RTT  # what is known now
    assert path.cc.cwnd == 4 * MSS
    assert path.cc.pacing_gain == 1.0


def test_that_takes_two_hundred_milliseconds_and_a_round_and_the_window_comes_back(path):
    probe_rtt(path)
    before = path.cc._prior
    assert before > 50 * MSS
    path.ack(in_flight=4 * MSS, wait=RTT)  # only now is it empty
    path.ack(in_flight=4 * MSS, wait=PROBE_RTT_TIME - MSEC, rtt=RTT)
    assert path.cc.mode == PROBE_RTT
    assert path.cc.cwnd == 4 * MSS
    path.ack(in_flight=4 * MSS, wait=2 * MSEC)
    assert path.cc.mode == PROBE_BW
    assert path.cc.cwnd >= before
    assert path.cc.min_rtt == RTT


def test_a_full_path_is_not_empty_however_long(path):
    probe_rtt(path)
    path.rounds(10, in_flight=50 * MSS, rtt=2 * RTT)
    assert path.cc.mode == PROBE_RTT


def test_an_idle_program_has_shown_the_empty_path_already(path):
    path.settle()
    path.now += MIN_RTT_WINDOW
    path.cc.on_tx_start(MIN_RTT_WINDOW, path.now)
    path.ack(rtt=2 * RTT)
    assert path.cc.mode == PROBE_BW
    assert path.cc.min_rtt == 2 * RTT


def test_from_startup_it_goes_back_to_startup(path):
    path.rounds(2)
    path.now += MIN_RTT_WINDOW
    path.ack(rtt=2 * RTT)
    assert path.cc.mode == PROBE_RTT
    path.ack(2 * BW, in_flight=4 * MSS)
    path.ack(4 * BW, in_flight=4 * MSS, wait=PROBE_RTT_TIME + MSEC)
    assert path.cc.mode == STARTUP


# ---------------------------------------------------------------------- losses, pauses


def test_the_first_round_of_recovery_sends_what_is_delivered(path):
    path.settle()
    path.rounds(5)
    before = path.cc.cwnd
    path.cc.on_loss(100 * MSS, path.now)
    path.ack(acked=2 * MSS, in_flight=60 * MSS, ca_state=RECOVERY, lost=5 * MSS, wait=MSEC, new_round=False)
    assert path.cc.cwnd == 62 * MSS
    path.ack(acked=2 * MSS, in_flight=60 * MSS, ca_state=RECOVERY, wait=MSEC, new_round=False)
    assert path.cc.cwnd == 62 * MSS
    path.ack(acked=MSS, wait=MSEC, new_round=False)  # recovery is over
    assert path.cc.cwnd >= before


def test_losses_alone_leave_the_model_as_it_is(path):
    path.settle()
    path.cc.on_loss(100 * MSS, path.now)
    path.rounds(5, ca_state=RECOVERY, lost=10 * MSS)
    assert (path.cc.bw, path.cc.min_rtt) == (BW, RTT)


def test_marks_mean_nothing_to_version_one(path):
    path.settle()
    before = path.cc.cwnd, path.cc.ssthresh
    path.cc.on_ecn(100 * MSS, path.now)
    assert (path.cc.cwnd, path.cc.ssthresh) == before


def test_a_mistake_restores_the_window(path):
    path.settle()
    path.rounds(5)
    before = path.cc.cwnd
    path.cc.on_loss(100 * MSS, path.now)
    path.ack(acked=MSS, in_flight=20 * MSS, ca_state=RECOVERY, wait=MSEC, new_round=False)
    assert path.cc.cwnd < before
    path.cc.on_undo(path.now)
    assert path.cc.cwnd == before


def test_after_a_pause_it_paces_at_the_bandwidth_without_a_gain(path):
    at_phase(path, 0)
    path.ack(wait=MSEC)
    assert path.cc.pacing_rate > BW
    path.cc.on_tx_start(SEC, path.now)
    assert path.cc.pacing_rate == int(BW * 0.99)


def test_what_ss_shows(path):
    path.settle()
    info = path.cc.info(path.now)
    assert info["bbr_bw_lo"] == BW
    assert info["bbr_min_rtt"] == 100_000
    assert info["bbr_cwnd_gain"] == 512
