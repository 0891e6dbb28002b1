"""Weighted Vegas: coupled by delay. All subflows together keep ten segments in queues, and share them by their rates.

Cao, Xu, Fu, "Delay-based Congestion Control for Multipath TCP", ICNP 2012. Once a round trip each subflow compares
what it would have in flight without queues (cwnd × least round trip / round trip) with what it has. The difference is
held at alpha segments, its share of ten: a subflow whose path is congested falls behind in rate, so in weight, so in
alpha, and the traffic moves. Loses to loss-based flows at a common bottleneck, as all that watch delay.

As in Linux, but for one thing: the queue is drained where the delay is twice the least seen *at or above alpha*. There
the least is also taken of rounds when the queue has hardly begun to fill; any queue is twice that, and the window would
be halved again and again.
"""

from mptcp.cc.base import Coupled
from stack.tcp.cc.base import MAX_CWND
from stack.units import Nanos

FIRST_ALPHA = LEAST_ALPHA = 2  # segments
TOTAL_ALPHA = 10  # … of all subflows together
GAMMA = 1  # segments queued that end slow start


class WVegas(Coupled):
    """Linux's `wvegas`."""

    name = "wvegas"
    __slots__ = ("_alpha", "_base", "_left", "_low_queue", "_samples", "_sum", "_told_rate")

    def __init__(self, mss: int, now: Nanos) -> None:
        super().__init__(mss, now)
        self._alpha = float(FIRST_ALPHA)
        self._base: Nanos = 0  # least round trip seen
        self._low_queue: Nanos = 0  # least time in queues at or above alpha since the last drain
        self._told_rate = 0.0  # bytes a nanosecond, when it was last at or above alpha
        self._begin()

    def start(self, srtt: Nanos, now: Nanos) -> None:
        """The first round trip, with the window that there is."""
        super().start(srtt, now)
        self._begin()

    def _begin(self) -> None:
        """A round trip starts."""
        self._left = self.cwnd  # bytes to be acknowledged until it is over
        self._sum: Nanos = 0
        self._samples = 0

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """Slow start below ssthresh; a decision a round trip."""
        self._reducing = False
        self._limited_at = now
        self._measure(rtt)
        if rtt:
            self._base = min(self._base or rtt, rtt)
            self._sum += rtt
            self._samples += 1
        self._left -= acked
        if self._left <= 0 and self._samples:
            self._round(acked, now)
            self._begin()
        elif self.cwnd < self.ssthresh:
            self.cwnd = min(self.cwnd + acked, self.ssthresh, MAX_CWND)

    def _round(self, acked: int, now: Nanos) -> None:
        rtt = self._sum // self._samples
        queued = self.cwnd * (rtt - self._base) / rtt / self.mss
        if self.cwnd < self.ssthresh:
            if queued > GAMMA:
                self.cwnd = min(self.cwnd, self.cwnd * self._base // rtt + self.mss)
                self.ssthresh = min(self.ssthresh, self.cwnd - self.mss)
            else:
                self.cwnd = min(self.cwnd + acked, self.ssthresh, MAX_CWND)
        else:
            self._avoid(queued, rtt, now)
        self.cwnd = max(self.cwnd, 2 * self.mss)
        self.ssthresh = max(self.ssthresh, self.cwnd * 3 // 4, 2 * self.mss)

    def _avoid(self, queued: float, rtt: Nanos, now: Nanos) -> None:
        """A segment more or less; at or above alpha ask first what alpha is, then whether the queue wants draining."""
        if queued >= self._alpha:
            self._told_rate = self.cwnd / rtt
            self._alpha = max(float(LEAST_ALPHA), TOTAL_ALPHA * self._weight(now))
        if queued > self._alpha:
            self.cwnd -= self.mss
            self.ssthresh = min(self.ssthresh, self.cwnd - self.mss)
        elif queued < self._alpha:
            self.cwnd = min(self.cwnd + self.mss, MAX_CWND)
        if queued >= self._alpha:
            delay = rtt - self._base
            self._low_queue = min(self._low_queue or delay, delay)
            if delay >= 2 * self._low_queue:
                self.cwnd = self.cwnd * self._base // (2 * rtt)
                self._low_queue = 0

    def _weight(self, now: Nanos) -> float:
        """Its part of the rate of all."""
        peers = self._peers(now)
        total = sum(each._told_rate for each in peers if isinstance(each, WVegas))
        return self._told_rate / total if total else 1.0

    def on_rto(self, in_flight: int, now: Nanos) -> None:
        """What it told of its rate does not hold any more."""
        super().on_rto(in_flight, now)
        self._told_rate = 0.0

    def on_idle(self, idle: Nanos, rto: Nanos) -> None:
        """The path may have changed meanwhile: measure the least round trip again."""
        super().on_idle(idle, rto)
        self._base = 0
        self._low_queue = 0
