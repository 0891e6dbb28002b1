"""HyStart++, RFC 9406: leave the first slow start when the round-trip time rises, by way of careful rounds (CSS).

Deviation: L is infinite, as Linux counts all that an ACK covers: one ACK here may be of a whole super-segment.
"""

from stack.tcp.cc.base import INFINITE
from stack.units import MSEC, Nanos

# §4.3
MIN_RTT_THRESH = 4 * MSEC
MAX_RTT_THRESH = 16 * MSEC
MIN_RTT_DIVISOR = 8
N_RTT_SAMPLE = 8
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5


class HyStart:
    """§4.2, round by round; a round is the acknowledgement of what was in flight at its beginning."""

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
            elif self._round_min < self._baseline:  # a false alarm: slow start resumes
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
