"""What a congestion control is: a class with its own `cwnd` and `ssthresh`, told of what happened.

It never sees the connection, a timer or a packet, and does not detect loss; recovery does, and during fast recovery
paces by PRR towards the `ssthresh` that `on_loss` chose (RFC 9937), so most algorithms are their growth function. One
that models the path instead (BBR) sets `own_window`, is given a RateSample with each ACK, and rules `cwnd` in every
state. docs/congestion-control.md shows a new one.
"""

from stack.units import Nanos

MAX_CWND = 1 << 30
INFINITE = 1 << 62


class RateSample:
    """What one ACK says about the path; made anew with each ACK, for those that ask (`wants_samples`)."""

    __slots__ = (
        "acked",
        "app_limited",
        "ca_state",
        "delivered",
        "delivered_total",
        "in_flight",
        "interval",
        "lost",
        "prior_delivered",
        "prior_in_flight",
        "rtt",
        "srtt",
    )

    def __init__(self) -> None:
        self.acked = 0  # bytes newly delivered, by ACK or SACK
        self.delivered = 0  # bytes delivered in `interval`
        self.interval: Nanos = 0  # 0: no measurement
        self.prior_delivered = 0  # of the connection, when the text that this is about left
        self.delivered_total = 0  # of the connection, by now
        self.app_limited = False  # the program, not the window, was the limit when it left
        self.rtt: Nanos = 0  # 0: none, or of text sent twice
        self.srtt: Nanos = 0
        self.lost = 0  # bytes newly deemed lost
        self.in_flight = 0  # bytes, after the ACK
        self.prior_in_flight = 0  # … and before
        self.ca_state = 0  # tcp/castate.py


class CongestionControl:
    """Slow start and nothing else; algorithms override what they do differently. All windows are bytes."""

    name = "none"
    needs_ecn = False  # asks for ECN whatever tcp_ecn says, and answers marks by their share (RFC 8257)
    l4s = False  # scalable in RFC 9331's sense: marks its packets ECT(1), where the peer agreed to Accurate ECN
    wants_samples = False  # on_sample() is called
    wants_pacing = False  # `pacing_rate` is kept to
    own_window = False  # `cwnd` is the window in every state: no PRR, no decay when idle
    beta_ecn = 0.0  # RFC 8511: what a mark leaves of cwnd where that is not what a loss leaves; 0: that
    __slots__ = ("_prior_cwnd", "_prior_ssthresh", "abe", "cwnd", "mss", "pacing_rate", "ssthresh")

    def __init__(self, mss: int, now: Nanos) -> None:
        self.mss = mss
        self.cwnd = initial_window(mss)
        self.ssthresh = INFINITE
        self.pacing_rate = 0  # bytes a second; 0: not paced
        self.abe = False  # nuse.tcp_abe
        self._prior_cwnd = 0
        self._prior_ssthresh = INFINITE

    # ------------------------------------------------------------------ every ACK

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """`acked` bytes left the network while cwnd was the limit; `rtt` is the latest sample or 0."""
        raise NotImplementedError

    def on_sample(self, sample: RateSample, now: Nanos) -> None:
        """Each ACK, whatever the state, after the rest; only with `wants_samples`. Do not keep `sample`."""

    def on_marks(self, acked: int, marked: int, now: Nanos) -> None:
        """Of `acked` bytes just delivered, `marked` met congestion (CE). Each ACK of a connection with `needs_ecn`."""

    # ------------------------------------------------------------------ congestion

    def on_loss(self, in_flight: int, now: Nanos) -> None:
        """A loss episode begins: choose ssthresh (RFC 5681 §3.2); cwnd follows by PRR."""
        raise NotImplementedError

    def on_ecn(self, in_flight: int, now: Nanos) -> None:
        """Marked, for the first time in a round trip: choose ssthresh, as after a loss (RFC 3168 §6.1.2) or by ABE."""
        self.on_loss(in_flight, now)
        if self.abe and self.beta_ecn:
            self.ssthresh = max(int(self.cwnd * self.beta_ecn), 2 * self.mss)

    def on_rto(self, in_flight: int, now: Nanos) -> None:
        """A retransmission timeout: choose ssthresh and fall to one segment (RFC 5681 §3.1)."""
        self.on_loss(in_flight, now)
        self.cwnd = self.mss

    def on_loss_window(self, left: int) -> None:
        """Each timeout, also the second in a row: one segment beyond the `left` bytes that had no time to arrive."""
        self.cwnd = left + self.mss

    def on_exit(self, now: Nanos) -> None:
        """Fast recovery is over."""
        self.cwnd = max(min(self.cwnd, self.ssthresh), 2 * self.mss)

    def on_undo(self, now: Nanos) -> None:
        """The last reduction was a mistake."""
        self.cwnd = max(self.cwnd, self._prior_cwnd)
        self.ssthresh = max(self.ssthresh, self._prior_ssthresh)

    # ------------------------------------------------------------------ the program pauses

    def on_tx_start(self, idle: Nanos, now: Nanos) -> None:
        """Sending starts with nothing in flight, `idle` after the last text left."""

    def on_idle(self, idle: Nanos, rto: Nanos) -> None:
        """Sending restarts after `idle` ≥ `rto`: decay towards the restart window, RFC 5681 §4.1, halving per RTO."""
        restart = min(initial_window(self.mss), self.cwnd)
        self.ssthresh = max(self.ssthresh, self.cwnd * 3 // 4)
        while idle >= rto and self.cwnd > restart:
            self.cwnd >>= 1
            idle -= rto
        self.cwnd = max(self.cwnd, restart)

    def on_unused(self, used: int) -> None:
        """For an RTO no more than `used` bytes were in flight: meet half-way (RFC 2861 §3.1)."""
        used = max(used, initial_window(self.mss))
        if used < self.cwnd:
            self.ssthresh = max(self.ssthresh, self.cwnd * 3 // 4)
            self.cwnd = (self.cwnd + used) // 2

    # ------------------------------------------------------------------ the connection

    def start(self, srtt: Nanos, now: Nanos) -> None:
        """The connection is established; `srtt` is that of the handshake, or 0."""

    def on_mss(self, mss: int) -> None:
        """The segment size changed. Where it grew, as with the peer's window, cwnd is as many segments as before."""
        if mss > self.mss:
            self.cwnd = self.cwnd * mss // self.mss
        self.mss = mss
        self.cwnd = max(self.cwnd, mss)

    def in_slow_start(self) -> bool:
        """True below ssthresh."""
        return self.cwnd < self.ssthresh

    def in_initial_slow_start(self) -> bool:
        """True until the first congestion."""
        return self.ssthresh >= INFINITE

    def info(self, now: Nanos) -> dict[str, int]:
        """What TCP_CC_INFO and `ss -i` show: the fields of the kernel's union tcp_cc_info by name, in its order."""
        return {}

    def _remember(self) -> None:
        self._prior_cwnd = self.cwnd
        self._prior_ssthresh = self.ssthresh


def initial_window(mss: int) -> int:
    """Ten segments, as Linux; RFC 6928 §2 would cap them at 14,600 bytes where the MSS is larger."""
    return 10 * mss
