"""Balanced linked adaptation: between LIA's friendliness and OLIA's speed of reaction.

draft-walid-mptcp-congestion-control-04; Peng, Walid, Hwang, Low, "Multipath TCP: Analysis, Design, and Implementation",
IEEE/ACM ToN 2016. A subflow with less than the best one's rate (alpha > 1) grows more than its share would say, and
falls deeper on a loss, to a quarter of its window.
"""

from mptcp.cc.base import Coupled
from stack.units import Nanos

MOST_CUT = 1.5  # of half the window


class Balia(Coupled):
    """Linux's `balia`."""

    name = "balia"
    __slots__ = ()

    def on_loss(self, in_flight: int, now: Nanos) -> None:
        """cwnd/2 less, by min(alpha, 1.5)."""
        peers = self._peers(now)
        cut = min(self._alpha(peers), MOST_CUT) if peers else 1.0
        self._reduce(self.cwnd - int(self.cwnd / 2 * cut), now)

    def _growth(self, peers: list[Coupled]) -> float:
        """x/rtt over the square of all x, by (1 + alpha)/2 and (4 + alpha)/5."""
        alpha = self._alpha(peers)
        total = sum(each.rate for each in peers)
        return self.mss * self.rate / self.srtt / total**2 * (1 + alpha) / 2 * (4 + alpha) / 5

    def _alpha(self, peers: list[Coupled]) -> float:
        """How much faster the fastest is; at least one."""
        return max(each.rate for each in peers) / self.rate
