"""Round-trip time and retransmission timeout, RFC 6298.

Fed at most once per ACK by tcp/input.py, only with samples Karn's rule allows. Owns no timer, reads no clock.
Deviations, both Linux's: the floor applies to the variance term (rto = srtt + max(4·rttvar, tcp_rto_min_us)), so an RTO
is never closer than that floor to the RTT itself; the initial value is one second (RFC 6298 §2.1).
"""

from stack.minmax import Windowed
from stack.units import MSEC, SEC, USEC, Nanos

NEAR: Nanos = MSEC  # a shorter round trip than this never left the machine, or the room


class Rtt:
    """srtt, rttvar, rto and the windowed minimum, all in ns."""

    __slots__ = ("_feed_at", "_low", "_min", "latest", "min_rtt", "rto", "rto_max", "rto_min", "rttvar", "srtt")

    def __init__(self, rto_min_us: int, rto_max_ms: int, min_rtt_wlen: int = 300) -> None:
        self.srtt: Nanos = 0  # 0: no sample yet
        self.rttvar: Nanos = 0
        self.rto: Nanos = SEC
        self.rto_min = rto_min_us * USEC
        self.rto_max = rto_max_ms * MSEC
        self.min_rtt: Nanos = 0
        self.latest: Nanos = 0
        self._min = Windowed(-1, min_rtt_wlen * SEC)
        self._low: Nanos = 1 << 62  # least sample that the filter has not heard of
        self._feed_at: Nanos = 0

    def on_sample(self, rtt: Nanos, now: Nanos) -> None:
        """Take one measurement, RFC 6298 §2.2–2.3."""
        rtt = max(rtt, 1)
        self.latest = rtt
        if not self.srtt:
            self.srtt = rtt
            self.rttvar = rtt // 2
        else:
            delta = rtt - self.srtt
            self.rttvar += (abs(delta) - self.rttvar) >> 2
            self.srtt += delta >> 3
        self.rto = min(self.srtt + max(4 * self.rttvar, self.rto_min), self.rto_max)
        if rtt <= self.min_rtt or not self.min_rtt:
            self.min_rtt = self._min.update(rtt, now)
            return
        self._low = min(self._low, rtt)
        if now >= self._feed_at:  # the filter hears of the rest in pieces of its window: it costs 0.7 µs each time
            self.min_rtt = self._min.update(self._low, now)
            self._low = rtt
            self._feed_at = now + self._min.window // 64

    def backed_off(self, times: int) -> Nanos:
        """The RTO doubled `times` times, RFC 6298 §5.5, capped by tcp_rto_max_ms."""
        return min(self.rto << min(times, 24), self.rto_max)
