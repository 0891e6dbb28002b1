"""NewReno's window, RFC 5681 §3.1 with appropriate byte counting (RFC 3465).

Deviation, Linux's: in slow start all that an ACK covers counts, whatever its size; RFC 3465 §2.2 would stop at two
segments, which one ACK of a super-segment always exceeds.
"""

from stack.tcp.cc.base import MAX_CWND, CongestionControl
from stack.units import Nanos


class Reno(CongestionControl):
    """One MSS a round trip, halved on loss."""

    name = "reno"
    beta_ecn = 0.8  # RFC 8511 §4.1.1
    __slots__ = ("_credit",)

    def __init__(self, mss: int, now: Nanos) -> None:
        super().__init__(mss, now)
        self._credit = 0

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """Slow start below ssthresh; above it one MSS per cwnd of acknowledged bytes (RFC 3465 §2.1)."""
        if self.cwnd < self.ssthresh:
            grown = min(self.cwnd + acked, self.ssthresh, MAX_CWND)
            acked -= grown - self.cwnd
            self.cwnd = grown
        if acked > 0:
            self._credit += acked
            if self._credit >= self.cwnd:
                self._credit -= self.cwnd
                self.cwnd = min(self.cwnd + self.mss, MAX_CWND)

    def on_loss(self, in_flight: int, now: Nanos) -> None:
        """Half of cwnd, as Linux takes it (RFC 5681 equation 4 would take FlightSize)."""
        self._remember()
        self._credit = 0
        self.ssthresh = max(self.cwnd // 2, 2 * self.mss)
