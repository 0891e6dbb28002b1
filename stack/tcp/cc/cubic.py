"""CUBIC, RFC 9438, with HyStart++ (RFC 9406) ending slow start.

Deviation: the window is kept in bytes and the curve in segments, as the RFC writes it. The fast-convergence and
TCP-friendly regions are §4.7 and §4.3.
"""

from stack.tcp.cc.base import INFINITE, MAX_CWND, CongestionControl
from stack.units import MSEC, SEC, Nanos

C = 0.4
BETA = 0.7
ALPHA_AIMD = 3 * (1 - BETA) / (1 + BETA)

# RFC 9406 §4.3
MIN_RTT_THRESH = 4 * MSEC
MAX_RTT_THRESH = 16 * MSEC
MIN_RTT_DIVISOR = 8
N_RTT_SAMPLE = 8
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5


class HyStart:
    """RFC 9406: leave slow start when the round-trip time rises, by way of a few careful rounds (CSS)."""

    __slots__ = ("_baseline", "_css_rounds", "_last_min", "_left", "_round_min", "_samples", "in_css")

    def __init__(self) -> None:
        self.in_css = False
        self._baseline = INFINITE
        self._css_rounds = 0
        self._last_min = INFINITE
        self._round_min = INFINITE
        self._samples = 0
        self._left = 0  # bytes of this round still to be acknowledged

    def on_ack(self, acked: int, rtt: Nanos, in_flight: int) -> bool:
        """One ACK in slow start. True when slow start is to end."""
        if rtt > 0:
            self._samples += 1
            self._round_min = min(self._round_min, rtt)
        done = False
        if self._samples >= N_RTT_SAMPLE and self._last_min < INFINITE:
            if not self.in_css:
                thresh = max(MIN_RTT_THRESH, min(self._last_min // MIN_RTT_DIVISOR, MAX_RTT_THRESH))
                if self._round_min >= self._last_min + thresh:
                    self.in_css = True
                    self._baseline = self._round_min
                    self._css_rounds = 0
            elif self._round_min < self._baseline:
                self.in_css = False
                self._baseline = INFINITE
        self._left -= acked
        if self._left <= 0:
            self._left = in_flight
            self._last_min, self._round_min = self._round_min, INFINITE
            self._samples = 0
            if self.in_css:
                self._css_rounds += 1
                done = self._css_rounds >= CSS_ROUNDS
        return done


class Cubic(CongestionControl):
    """The default."""

    name = "cubic"
    __slots__ = ("_credit", "_epoch", "_hystart", "_k", "_srtt", "_w_est", "_w_max")

    def __init__(self, mss: int, now: Nanos) -> None:
        super().__init__(mss, now)
        self._epoch: Nanos = -1  # start of the current congestion-avoidance stage
        self._w_max = 0.0  # segments
        self._w_est = 0.0
        self._k = 0.0  # seconds
        self._credit = 0.0
        self._srtt: Nanos = 0
        self._hystart = HyStart()

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """RFC 9406 in slow start, RFC 9438 §4.2–4.5 after it."""
        if rtt:
            self._srtt = rtt if not self._srtt else self._srtt + (rtt - self._srtt >> 3)
        if self.cwnd < self.ssthresh:
            step = acked // CSS_GROWTH_DIVISOR if self._hystart.in_css else acked
            self.cwnd = min(self.cwnd + step, self.ssthresh, MAX_CWND)
            if self._hystart.on_ack(acked, rtt, in_flight):
                self.ssthresh = self.cwnd
            return
        self._avoid(acked, now)

    def _avoid(self, acked: int, now: Nanos) -> None:
        mss = self.mss
        cwnd = self.cwnd / mss
        if self._epoch < 0:
            self._epoch = now
            self._w_est = cwnd
            if self._w_max <= cwnd:
                self._w_max = cwnd
                self._k = 0.0
            else:
                self._k = ((self._w_max - cwnd) / C) ** (1 / 3)
        t = (now - self._epoch + self._srtt) / SEC
        target = C * (t - self._k) ** 3 + self._w_max
        target = min(max(target, cwnd), 1.5 * cwnd)  # §4.2: at most half as much again a round trip
        segs = acked / mss
        alpha = ALPHA_AIMD if self._w_est < self._prior_cwnd / mss else 1.0
        self._w_est += alpha * segs / cwnd
        if self._w_est > target:
            self.cwnd = min(max(self.cwnd, int(self._w_est * mss)), MAX_CWND)
            return
        self._credit += (target - cwnd) / cwnd * acked
        if self._credit >= 1:
            whole = int(self._credit)
            self._credit -= whole
            self.cwnd = min(self.cwnd + whole, MAX_CWND)

    def on_loss(self, in_flight: int, now: Nanos) -> None:
        """§4.6–4.7: cut to 0.7, and give up bandwidth faster when the last peak was higher."""
        self._remember()
        cwnd = self.cwnd / self.mss
        self._w_max = cwnd * (1 + BETA) / 2 if cwnd < self._w_max else cwnd
        self.ssthresh = max(int(self.cwnd * BETA), 2 * self.mss)
        self._epoch = -1
        self._credit = 0.0

    def on_rto(self, in_flight: int, now: Nanos) -> None:
        """§4.8; slow start begins anew, without HyStart's memory (RFC 9406 §4.3)."""
        super().on_rto(in_flight, now)
        self._hystart = HyStart()

    def on_undo(self, now: Nanos) -> None:
        """§4.9."""
        super().on_undo(now)
        self._epoch = -1

    def on_idle(self, idle: Nanos, rto: Nanos) -> None:
        """§5.8: the curve starts anew, so that idle time does not count as growth."""
        super().on_idle(idle, rto)
        self._epoch = -1
