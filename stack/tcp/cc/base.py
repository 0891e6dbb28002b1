"""What a congestion control is: a class with its own `cwnd` and `ssthresh`, told of what happened.

It never sees the connection, a timer or a packet, and does not detect loss; recovery does, and during fast recovery
paces by PRR towards the `ssthresh` that `on_loss` chose (RFC 9937), so most algorithms are their growth function.
"""

from stack.units import Nanos

MAX_CWND = 1 << 30
INFINITE = 1 << 62


class CongestionControl:
    """Slow start and nothing else; algorithms override what they do differently. All windows are bytes."""

    name = "none"
    needs_ecn = False  # asks for ECN whatever tcp_ecn says
    __slots__ = ("_prior_cwnd", "_prior_ssthresh", "cwnd", "mss", "pacing_rate", "ssthresh")

    def __init__(self, mss: int, now: Nanos) -> None:
        self.mss = mss
        self.cwnd = initial_window(mss)
        self.ssthresh = INFINITE
        self.pacing_rate = 0  # bytes a second; 0: not paced
        self._prior_cwnd = 0
        self._prior_ssthresh = INFINITE

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """`acked` bytes left the network while cwnd was the limit; `rtt` is the latest sample or 0."""
        raise NotImplementedError

    def on_loss(self, in_flight: int, now: Nanos) -> None:
        """A loss episode begins: choose ssthresh (RFC 5681 §3.2); cwnd follows by PRR."""
        raise NotImplementedError

    def on_rto(self, in_flight: int, now: Nanos) -> None:
        """A retransmission timeout: choose ssthresh and fall to one segment (RFC 5681 §3.1)."""
        self.on_loss(in_flight, now)
        self.cwnd = self.mss

    def on_ecn(self, in_flight: int, now: Nanos) -> None:
        """The network marked instead of dropping: choose ssthresh, as after a loss (RFC 3168 §6.1.2)."""
        self.on_loss(in_flight, now)

    def on_exit(self, now: Nanos) -> None:
        """Fast recovery is over."""
        self.cwnd = max(min(self.cwnd, self.ssthresh), 2 * self.mss)

    def on_undo(self, now: Nanos) -> None:
        """The last reduction was a mistake."""
        self.cwnd = max(self.cwnd, self._prior_cwnd)
        self.ssthresh = max(self.ssthresh, self._prior_ssthresh)

    def on_idle(self, idle: Nanos, rto: Nanos) -> None:
        """Sending restarts after `idle` ≥ `rto`: decay towards the restart window, RFC 5681 §4.1, halving per RTO."""
        restart = min(initial_window(self.mss), self.cwnd)
        self.ssthresh = max(self.ssthresh, self.cwnd * 3 // 4)
        while idle >= rto and self.cwnd > restart:
            self.cwnd >>= 1
            idle -= rto
        self.cwnd = max(self.cwnd, restart)

    def on_mss(self, mss: int) -> None:
        """The segment size changed."""
        self.mss = mss
        self.cwnd = max(self.cwnd, mss)

    def in_slow_start(self) -> bool:
        """True below ssthresh."""
        return self.cwnd < self.ssthresh

    def _remember(self) -> None:
        self._prior_cwnd = self.cwnd
        self._prior_ssthresh = self.ssthresh


def initial_window(mss: int) -> int:
    """Ten segments, as Linux; RFC 6928 §2 would cap them at 14,600 bytes where the MSS is larger."""
    return 10 * mss
