"""Deadlines of one connection: a slot for each kind, re-armed at will for the price of a store.

The connection has one lazy entry in the stack's heap (tcp/demux.py), which may be early but never late.
"""

from typing import Any

from stack.units import Nanos

NEVER: Nanos = 1 << 62

REORDER, TLP, RTO, DELACK, PERSIST, KEEPALIVE, TIMEWAIT, PACE = range(8)  # a probe due with the RTO goes first
NAMES = ("reorder", "tlp", "rto", "delack", "persist", "keepalive", "timewait", "pace")
_COUNT = len(NAMES)


class Timers:
    """Absolute deadlines in ns; NEVER means off."""

    __slots__ = ("at", "conn", "heap_at")

    def __init__(self) -> None:
        self.at: list[Nanos] = [NEVER] * _COUNT
        self.heap_at: Nanos = NEVER  # deadline of our entry in the stack's heap; the demux keeps it
        self.conn: Any = None  # whose they are, while they are in the heap and it lives

    def arm(self, kind: int, deadline: Nanos) -> None:
        """Set or move one deadline."""
        self.at[kind] = deadline

    def stop(self, kind: int) -> None:
        """Turn one off."""
        self.at[kind] = NEVER

    def stop_all(self) -> None:
        """Turn all off."""
        self.at = [NEVER] * _COUNT

    def earliest(self) -> Nanos:
        """The next deadline, or NEVER."""
        return min(self.at)

    def pending(self, kind: int) -> bool:
        """True if that timer runs."""
        return self.at[kind] != NEVER
