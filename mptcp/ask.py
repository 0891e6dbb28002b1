"""Asking for a DATA_ACK that does not come, though the peer's TCP has acknowledged all that the subflows carried.

Linux says on each segment how far the data is in order as far as it knows, and while a program sits in recv() it does
not know. Its acknowledgments then carry an old DATA_ACK, and nothing tells the new one later, unless the window opened
by much. A sender whose buffer is full of what it cannot forget stands still until its data-level timer: between two
Linux, and in bulk, for 200 ms again and again. Whoever gets old text answers at once, so a moment later one octet below
the window is sent, as a keepalive does: it is no text, costs the stream nothing if something was lost indeed, and boxes
know it.
"""

from typing import TYPE_CHECKING

from stack.tcp.timers import NEVER
from stack.units import MSEC, Nanos

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn

PATIENCE = 2 * MSEC  # beyond a round trip; doubled each time the answer tells nothing new
DOUBLINGS = 6


class Ask:
    """When to ask."""

    def __init__(self, meta: "MptcpConn") -> None:
        self.meta = meta
        self.at: Nanos = NEVER
        self.vain = 0  # in a row

    def later(self, now: Nanos) -> None:
        """A subflow has nothing outstanding any more, and yet the data is not acknowledged."""
        if self.at == NEVER:
            self.at = now + self._patience()
            self.meta.mark(now)

    def on_timeout(self, now: Nanos) -> None:
        """Ask, if still nothing but a DATA_ACK is missing."""
        self.at = NEVER
        meta = self.meta
        if meta.fallback or meta.tx.una >= meta.tx.nxt or any(sub.in_flight for sub in meta.subflows if not sub.gone):
            return
        due = meta.progress_at + self._patience()
        if due > now:
            self.at = due
            return
        sub = min((sub for sub in meta.subflows if sub.usable), key=lambda sub: sub.srtt, default=None)
        if sub is None:
            return
        self.vain = min(self.vain + 1, DOUBLINGS)
        meta.host.mib.NuseDataAckAsked += 1
        sub.conn.octet_due = True
        meta.host.stack.tcp.mark(sub.conn)

    def _patience(self) -> Nanos:
        slowest = max((sub.srtt for sub in self.meta.subflows if not sub.gone), default=0)
        return slowest + (PATIENCE << self.vain)
