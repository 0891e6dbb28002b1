"""Linked increases, RFC 6356: together as fast as one TCP on the best path, and no subflow faster than a TCP there."""

from mptcp.cc.base import Coupled


class Lia(Coupled):
    """The proposal of the IETF; Linux's `lia`."""

    name = "lia"
    __slots__ = ()

    def _growth(self, peers: list[Coupled]) -> float:
        """The lesser of alpha/cwnd_total and 1/cwnd_i, by the MSS (§3, in bytes as §4.1 has it)."""
        best = max(each.window / each.srtt**2 for each in peers)
        total = sum(each.rate for each in peers)
        return self.mss * min(best / total**2, 1 / self.window)
