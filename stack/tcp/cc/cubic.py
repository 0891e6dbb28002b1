"""CUBIC, RFC 9438, with HyStart++ (tcp/cc/hystart.py) ending the first slow start.

The window is kept in bytes and the curve in segments, as the RFC writes it. By section: §4.2 the curve, with t counted
from the start of congestion avoidance and no more than half a window a round trip; §4.3 the Reno-friendly estimate,
which grows like Reno's once it is back at the window before the loss; §4.6 the cut to 0.7; §4.7 fast convergence; §4.8
a new curve after a timeout; §4.9 undo of everything; §5.8 idle time does not count.
Deviations, both Linux's: the cut is of cwnd, not of what is in flight, and undo keeps whatever was gained since.
"""

from stack.tcp.cc.base import INFINITE, MAX_CWND, CongestionControl
from stack.tcp.cc.hystart import CSS_GROWTH_DIVISOR, HyStart
from stack.units import SEC, Nanos

C = 0.4
BETA = 0.7
ALPHA_AIMD = 3 * (1 - BETA) / (1 + BETA)


class Cubic(CongestionControl):
    """The default."""

    name = "cubic"
    beta_ecn = 0.85  # RFC 8511 §4.1.1
    __slots__ = ("_credit", "_cwnd_prior", "_epoch", "_hystart", "_k", "_saved", "_srtt", "_w_est", "_w_max")

    def __init__(self, mss: int, now: Nanos) -> None:
        super().__init__(mss, now)
        self._epoch: Nanos = -1  # start of the current congestion-avoidance stage
        self._w_max = 0.0  # segments
        self._w_est = 0.0
        self._k = 0.0  # seconds
        self._cwnd_prior = 0.0  # window at the last reduction, segments
        self._credit = 0.0
        self._srtt: Nanos = 0
        self._saved = (-1, 0.0, 0.0, 0.0, 0.0)
        self._hystart = HyStart()

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """RFC 9406 in slow start, RFC 9438 §4.2–4.5 after it."""
        if rtt:
            self._srtt = rtt if not self._srtt else self._srtt + (rtt - self._srtt >> 3)
        if self.cwnd < self.ssthresh:
            step = acked // CSS_GROWTH_DIVISOR if self._hystart.in_css else acked
            initial = self.ssthresh >= INFINITE
            self.cwnd = min(self.cwnd + step, self.ssthresh, MAX_CWND)
            if initial and self._hystart.on_ack(acked, rtt, in_flight):
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
        alpha = ALPHA_AIMD if self._w_est < self._cwnd_prior else 1.0
        self._w_est += alpha * acked / mss / cwnd
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
        self._saved = (self._epoch, self._w_max, self._w_est, self._k, self._cwnd_prior)
        cwnd = self.cwnd / self.mss
        self._w_max = cwnd * (1 + BETA) / 2 if cwnd < self._w_max else cwnd
        self._cwnd_prior = cwnd
        self.ssthresh = max(int(self.cwnd * BETA), 2 * self.mss)
        self._epoch = -1
        self._credit = 0.0

    def on_rto(self, in_flight: int, now: Nanos) -> None:
        """§4.8: the next congestion avoidance starts a curve of its own, from where slow start ends."""
        super().on_rto(in_flight, now)
        self._w_max = 0.0

    def on_undo(self, now: Nanos) -> None:
        """§4.9: the curve goes on as if nothing had been."""
        super().on_undo(now)
        self._epoch, self._w_max, self._w_est, self._k, self._cwnd_prior = self._saved

    def on_tx_start(self, idle: Nanos, now: Nanos) -> None:
        """§5.8: the curve stands still while nothing is sent."""
        if self._epoch >= 0 and idle > 0:
            self._epoch = min(self._epoch + idle, now)
