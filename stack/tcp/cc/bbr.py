"""BBR version 1, as Linux 6.x has it (net/ipv4/tcp_bbr.c; draft-cardwell-iccrg-bbr-congestion-control-00).

Models the path by two numbers, its bandwidth (the greatest delivery rate of ten round trips) and its round-trip time
(the least of ten seconds), paces at the first and keeps about twice their product in flight. STARTUP doubles each round
until the bandwidth stops growing, DRAIN empties the queue that made, PROBE_BW cycles eight gains around 1, PROBE_RTT
shows the empty path for 200 ms every ten seconds. Loss alone changes little: one round of packet conservation.
Left out: the long-term sampling of token-bucket policers and the extra window for ACK aggregation (both Linux's own).
Time decides at which phase PROBE_BW begins, where Linux draws lots.
"""

from stack.minmax import Windowed
from stack.tcp.cc.base import INFINITE, MAX_CWND, CongestionControl, RateSample, initial_window
from stack.units import MSEC, SEC, Nanos

STARTUP, DRAIN, PROBE_BW, PROBE_RTT = range(4)
RECOVERY, LOSS = 3, 4  # ca_state of a sample

HIGH_GAIN = 2.89  # 2 / ln 2, rounded up
DRAIN_GAIN = 1000 / 2885
CWND_GAIN = 2.0
CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
BW_ROUNDS = 10
MIN_RTT_WINDOW = 10 * SEC
PROBE_RTT_TIME = 200 * MSEC
FULL_BW_GROWTH = 1.25
FULL_BW_ROUNDS = 3
PACING_MARGIN = 0.99
MIN_SEGS = 4


class Bbr(CongestionControl):
    """Owns its window in every state and needs pacing."""

    name = "bbr"
    wants_samples = True
    wants_pacing = True
    own_window = True
    __slots__ = (
        "_bw",
        "_conserve",
        "_cycle_at",
        "_cycle_index",
        "_full_bw",
        "_full_rounds",
        "_idle_restart",
        "_min_at",
        "_next_round",
        "_prior",
        "_probe_rtt_done",
        "_probe_rtt_round_done",
        "_restore_at_end",
        "_round_start",
        "_rounds",
        "_seen_rtt",
        "_was_ca",
        "cwnd_gain",
        "min_rtt",
        "mode",
        "pacing_gain",
    )

    def __init__(self, mss: int, now: Nanos) -> None:
        super().__init__(mss, now)
        self._bw = Windowed(1, BW_ROUNDS)  # bytes a second, by rounds
        self.min_rtt: Nanos = 0
        self._min_at: Nanos = now
        self._rounds = 0
        self._next_round = 0  # delivered count that ends this round
        self._round_start = False
        self.mode = STARTUP
        self.pacing_gain = self.cwnd_gain = HIGH_GAIN
        self._full_bw = 0
        self._full_rounds = 0
        self._cycle_at: Nanos = now
        self._cycle_index = 0
        self._probe_rtt_done: Nanos = 0
        self._probe_rtt_round_done = False
        self._prior = 0  # cwnd before recovery or PROBE_RTT
        self._conserve = False
        self._restore_at_end = False
        self._was_ca = 0
        self._idle_restart = False
        self._seen_rtt = False
        self.pacing_rate = int(HIGH_GAIN * self.cwnd * SEC / MSEC)

    @property
    def bw(self) -> int:
        """Estimated bandwidth, bytes a second."""
        return self._bw.best

    def start(self, srtt: Nanos, now: Nanos) -> None:
        """The first rate: the initial window a round trip, times the gain."""
        self._min_at = now
        if srtt:
            self._seen_rtt = True
            self.min_rtt = srtt
            self.pacing_rate = int(HIGH_GAIN * self.cwnd * SEC / srtt)

    # ------------------------------------------------------------------ what recovery says

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """All is done in on_sample."""

    def on_loss(self, in_flight: int, now: Nanos) -> None:
        """Remember the window; the rest follows from the samples."""
        self._save()
        self.ssthresh = max(self.cwnd, MIN_SEGS * self.mss) if self.mode != STARTUP else INFINITE

    def on_ecn(self, in_flight: int, now: Nanos) -> None:
        """Marks mean nothing to version 1."""

    def on_rto(self, in_flight: int, now: Nanos) -> None:
        """All is lost: measure anew whether the pipe is full."""
        self._save()
        self._full_bw = 0
        self._round_start = True

    def on_exit(self, now: Nanos) -> None:
        """Handled when a sample shows that recovery is over."""

    def on_undo(self, now: Nanos) -> None:
        """The pipe may not have been full, then."""
        self._full_bw = self._full_rounds = 0
        self.cwnd = max(self.cwnd, self._prior)

    def on_tx_start(self, idle: Nanos, now: Nanos) -> None:
        """After a pause at an empty path pace at the bandwidth, without a gain."""
        if not idle:
            return
        self._idle_restart = True
        if self.mode == PROBE_BW:
            self._pace(1.0)
        elif self.mode == PROBE_RTT:
            self._check_probe_rtt_done(now)

    def _save(self) -> None:
        if self._was_ca < RECOVERY and self.mode != PROBE_RTT:
            self._prior = self.cwnd
        else:
            self._prior = max(self._prior, self.cwnd)

    # ------------------------------------------------------------------ each ACK

    def on_sample(self, sample: RateSample, now: Nanos) -> None:
        """bbr_main(): model, then pacing rate, then window."""
        self._update_bw(sample)
        self._update_cycle(sample, now)
        self._check_full(sample)
        self._check_drain(sample, now)
        self._update_min_rtt(sample, now)
        self._update_gains()
        if not self._seen_rtt and sample.srtt:
            self._seen_rtt = True
            self.pacing_rate = int(HIGH_GAIN * self.cwnd * SEC / sample.srtt)
        self._pace(self.pacing_gain)
        self._set_cwnd(sample)

    def _update_bw(self, sample: RateSample) -> None:
        self._round_start = False
        if not sample.interval:
            return
        if sample.prior_delivered >= self._next_round:
            self._next_round = sample.delivered_total
            self._rounds += 1
            self._round_start = True
            self._conserve = False
        rate = sample.delivered * SEC // sample.interval
        if not sample.app_limited or rate >= self.bw:
            self._bw.update(rate, self._rounds)

    def _update_cycle(self, sample: RateSample, now: Nanos) -> None:
        """Next phase of PROBE_BW: 1.25 until losses or a full probe, 0.75 until the queue is gone, else a min_rtt."""
        if self.mode != PROBE_BW:
            return
        gain = CYCLE[self._cycle_index]
        done = now - self._cycle_at > self.min_rtt
        if gain > 1:
            done = done and (sample.lost > 0 or sample.prior_in_flight >= self._target(gain))
        elif gain < 1:
            done = done or sample.prior_in_flight <= self._target(1.0)
        if done:
            self._cycle_index = (self._cycle_index + 1) % len(CYCLE)
            self._cycle_at = now

    def _check_full(self, sample: RateSample) -> None:
        """Three rounds without a quarter more bandwidth: the pipe is full."""
        if self._full_rounds >= FULL_BW_ROUNDS or not self._round_start or sample.app_limited:
            return
        if self.bw >= self._full_bw * FULL_BW_GROWTH:
            self._full_bw = self.bw
            self._full_rounds = 0
        else:
            self._full_rounds += 1

    def _check_drain(self, sample: RateSample, now: Nanos) -> None:
        if self.mode == STARTUP and self._full_rounds >= FULL_BW_ROUNDS:
            self.mode = DRAIN
            self.ssthresh = self._target(1.0)
        if self.mode == DRAIN and sample.in_flight <= self._target(1.0):
            self._probe_bw(now)

    def _probe_bw(self, now: Nanos) -> None:
        self.mode = PROBE_BW
        # Any phase but the second, which would drain a queue that there is not.
        phase = (now // 1000 * 2654435761 >> 16) % 7
        self._cycle_index = phase + 1 if phase else 0
        self._cycle_at = now

    def _update_min_rtt(self, sample: RateSample, now: Nanos) -> None:
        expired = now > self._min_at + MIN_RTT_WINDOW
        if sample.rtt and (not self.min_rtt or sample.rtt < self.min_rtt or expired):
            self.min_rtt = sample.rtt
            self._min_at = now
        if expired and not self._idle_restart and self.mode != PROBE_RTT:
            self.mode = PROBE_RTT
            self._save()
            self._probe_rtt_done = 0
        if self.mode == PROBE_RTT:
            least = MIN_SEGS * self.mss
            if not self._probe_rtt_done and sample.in_flight <= least:
                self._probe_rtt_done = now + PROBE_RTT_TIME
                self._probe_rtt_round_done = False
                self._next_round = sample.delivered_total
            elif self._probe_rtt_done:
                self._probe_rtt_round_done = self._probe_rtt_round_done or self._round_start
                if self._probe_rtt_round_done:
                    self._check_probe_rtt_done(now)
        if sample.delivered > 0:
            self._idle_restart = False

    def _check_probe_rtt_done(self, now: Nanos) -> None:
        if not self._probe_rtt_done or now <= self._probe_rtt_done:
            return
        self._min_at = now
        self.cwnd = max(self.cwnd, self._prior)
        if self._full_rounds >= FULL_BW_ROUNDS:
            self._probe_bw(now)
        else:
            self.mode = STARTUP

    def _update_gains(self) -> None:
        mode = self.mode
        if mode == STARTUP:
            self.pacing_gain = self.cwnd_gain = HIGH_GAIN
        elif mode == DRAIN:
            self.pacing_gain, self.cwnd_gain = DRAIN_GAIN, HIGH_GAIN
        elif mode == PROBE_BW:
            self.pacing_gain, self.cwnd_gain = CYCLE[self._cycle_index], CWND_GAIN
        else:
            self.pacing_gain = self.cwnd_gain = 1.0

    def _pace(self, gain: float) -> None:
        """A percent below the bandwidth, so that no queue stands; never slower before the pipe is known to be full."""
        rate = int(self.bw * gain * PACING_MARGIN)
        if rate and (self._full_rounds >= FULL_BW_ROUNDS or rate > self.pacing_rate):
            self.pacing_rate = rate

    def _target(self, gain: float) -> int:
        """bbr_inflight(): bandwidth times round trip times gain, and room for the sender's own batches."""
        if not self.min_rtt or not self.bw:
            return initial_window(self.mss)
        bdp = int(self.bw * self.min_rtt * gain / SEC)
        batch = max(self.pacing_rate >> 10, 2 * self.mss)
        bdp = -(-bdp // self.mss) * self.mss + 3 * batch
        return bdp + (2 * self.mss if self.mode == PROBE_BW and self._cycle_index == 0 else 0)

    def _set_cwnd(self, sample: RateSample) -> None:
        """bbr_set_cwnd(): towards the target by what was delivered; conservation in the first round of recovery."""
        acked = sample.acked
        cwnd = self.cwnd
        if sample.lost:
            cwnd = max(cwnd - sample.lost, self.mss)
        was, self._was_ca = self._was_ca, sample.ca_state
        if acked > 0:
            if sample.ca_state == RECOVERY and was != RECOVERY:
                self._conserve = True
                self._next_round = sample.delivered_total
                cwnd = sample.in_flight + acked
            elif was >= RECOVERY and sample.ca_state < RECOVERY:
                cwnd = max(cwnd, self._prior)
                self._conserve = False
            if self._conserve:
                cwnd = max(cwnd, sample.in_flight + acked)
            elif self._full_rounds >= FULL_BW_ROUNDS:
                cwnd = min(cwnd + acked, self._target(self.cwnd_gain))
            elif cwnd < self._target(self.cwnd_gain) or sample.delivered_total < initial_window(self.mss):
                cwnd += acked
            cwnd = max(cwnd, MIN_SEGS * self.mss)
        self.cwnd = min(cwnd, MAX_CWND)
        if self.mode == PROBE_RTT:
            self.cwnd = min(self.cwnd, MIN_SEGS * self.mss)

    def info(self, now: Nanos) -> dict[str, int]:
        """struct tcp_bbr_info: bandwidth in bytes a second, µs, gains in 1/256."""
        return {
            "bbr_bw_lo": self.bw & 0xFFFF_FFFF,
            "bbr_bw_hi": self.bw >> 32,
            "bbr_min_rtt": self.min_rtt // 1000,
            "bbr_pacing_gain": int(self.pacing_gain * 256),
            "bbr_cwnd_gain": int(self.cwnd_gain * 256),
        }
