"""DCTCP, RFC 8257: cut in proportion to the share of bytes that met congestion. For data centres that mark early.

`alpha` is the moving average of that share, once a window (§3.3); a mark cuts cwnd by alpha / 2 (§3.4), a loss by half
like Reno (§3.5), whose growth it has. Numbers are those of Linux's tcp_dctcp.c: alpha starts at 1, gain 1/16.
"""

from stack.tcp.cc.base import MAX_CWND
from stack.tcp.cc.reno import Reno
from stack.units import Nanos

ONE = 1024  # alpha's unit
SHIFT_G = 4


class Dctcp(Reno):
    """Reno with another answer to marks."""

    name = "dctcp"
    needs_ecn = True
    beta_ecn = 0.0
    __slots__ = ("_acked", "_marked", "_window_left", "alpha")

    def __init__(self, mss: int, now: Nanos) -> None:
        super().__init__(mss, now)
        self.alpha = ONE
        self._acked = 0
        self._marked = 0
        self._window_left = self.cwnd  # bytes until alpha is next reckoned

    def on_marks(self, acked: int, marked: int, now: Nanos) -> None:
        """§3.3: alpha follows the share of marked bytes, once for each window of data."""
        self._acked += acked
        self._marked += marked
        self._window_left -= acked
        if self._window_left > 0:
            return
        alpha = self.alpha
        alpha -= max(alpha >> SHIFT_G, 1) if alpha else 0
        if self._marked:
            alpha = min(alpha + (self._marked << (10 - SHIFT_G)) // max(self._acked, 1), ONE)
        self.alpha = alpha
        self._acked = self._marked = 0
        self._window_left = min(self.cwnd, MAX_CWND)

    def on_ecn(self, in_flight: int, now: Nanos) -> None:
        """§3.4: cwnd · (1 − alpha / 2)."""
        self._remember()
        self.ssthresh = max(self.cwnd - (self.cwnd * self.alpha >> 11), 2 * self.mss)

    def info(self, now: Nanos) -> dict[str, int]:
        """struct tcp_dctcp_info."""
        return {
            "dctcp_enabled": 1,
            "dctcp_ce_state": 0,
            "dctcp_alpha": self.alpha,
            "dctcp_ab_ecn": self._marked,
            "dctcp_ab_tot": self._acked,
        }
