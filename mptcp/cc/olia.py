"""Opportunistic linked increases: traffic leaves the congested path, and comes back at once when that is better.

draft-khalili-mptcp-congestion-control-05; Khalili, Gast, Popovic, Le Boudec, "MPTCP Is Not Pareto-Optimal", CoNEXT
2012. A first term is Kelly's and Voice's: it balances congestion optimally. A second, alpha, moves window from the
paths with the largest window to those that are better but have less. Which path is better, the bytes l between losses
say: that which would give a TCP most, by l/rtt² as Linux measures it.

With others it may fall to one segment (§3 of the draft), so that a congested path is left to those who have no other.
"""

from mptcp.cc.base import Coupled
from stack.units import Nanos


class Olia(Coupled):
    """Linux's `olia`."""

    name = "olia"
    __slots__ = ("_before", "_since")

    def __init__(self, mss: int, now: Nanos) -> None:
        super().__init__(mss, now)
        self._before = 0  # bytes acknowledged between the last two losses
        self._since = 0  # … and after the last

    @property
    def quality(self) -> float:
        """The square of what a TCP would get here, but for a constant."""
        return max(self._before, self._since) / self.srtt**2

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """Counts what goes through before the next loss."""
        self._since += acked
        super().on_ack(acked, rtt, now, in_flight)

    def on_loss(self, in_flight: int, now: Nanos) -> None:
        """Half; with others down to one segment."""
        if self._since:
            self._before, self._since = self._since, 0
        super().on_loss(in_flight, now)
        if self._peers(now):
            self.ssthresh = max(self.cwnd // 2, self.mss)

    def on_exit(self, now: Nanos) -> None:
        """The window is ssthresh, be it one segment."""
        super().on_exit(now)
        self.cwnd = min(self.cwnd, self.ssthresh)

    def _growth(self, peers: list[Coupled]) -> float:
        """The draft's increase for each ACK, by the byte: x/rtt over the square of all x, and alpha/cwnd."""
        total = sum(each.rate for each in peers)
        return self.mss * (self.rate / self.srtt / total**2 + self._alpha(peers) / self.window)

    def _alpha(self, peers: list[Coupled]) -> float:
        """Plus for the best paths that have not the largest window, minus for those that have it; in sum nothing."""
        ours = [each for each in peers if isinstance(each, Olia)]
        most = max(each.window for each in ours)
        best = max(each.quality for each in ours)
        collected = [each for each in ours if each.quality == best and each.window < most]
        if not collected:
            return 0.0
        if self in collected:
            return 1 / (len(ours) * len(collected))
        if self.window == most:
            return -1 / (len(ours) * sum(each.window == most for each in ours))
        return 0.0
