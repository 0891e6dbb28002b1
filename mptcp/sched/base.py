"""What a scheduler is: it says which subflow takes the next bytes of the stream, and nothing else.

The connection asks whenever it has something to send, and acts on the answer: a path with room gets up to one
super-segment, then the connection asks again. An answer without room (or None) means: wait, nobody sends until an ACK
on whatever path, a deadline or a new path changes something; then the connection asks again. So a scheduler that waits
must name what it waits for: a path with bytes in flight. A scheduler keeps what it likes between the calls, sees no
packet and no timer, and may be exchanged while the connection runs: the new one starts afresh.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from stack.units import Nanos

UNMEASURED: Nanos = 1 << 62


class Path(Protocol):
    """A subflow as schedulers see it; all of it read only."""

    @property
    def id(self) -> int:
        """Its number; the same as long as it lives."""

    @property
    def srtt(self) -> Nanos:
        """Smoothed round trip; 0 before the first sample."""

    @property
    def rttvar(self) -> Nanos:
        """How much that varies (RFC 6298)."""

    @property
    def cwnd(self) -> int:
        """Congestion window, bytes."""

    @property
    def in_flight(self) -> int:
        """Bytes assigned to it that are not acknowledged, sent or not."""

    @property
    def room(self) -> int:
        """Bytes that it may take now: at least one segment, or 0."""

    @property
    def mss(self) -> int:
        """Bytes of text in a full segment."""

    @property
    def weight(self) -> int:
        """Its share, relative to the others'; for `weighted`."""


class SendState(NamedTuple):
    """The connection at the moment that it asks."""

    window: int  # bytes of the peer's data-level window that are free
    queued: int  # bytes that wait for a path


class Scheduler:
    """One connection's; base of all."""

    name = ""
    duplicates = False  # each path carries every byte: first what others have carried and it has not, then new text

    def pick(self, usable: Sequence[Path], state: SendState, now: Nanos) -> Path | None:
        """Who takes the next bytes; a path without room, or None: nobody before something changes.

        `usable` is never empty and holds no backup path beside others: the connection sees to that.
        """
        raise NotImplementedError

    def on_sent(self, path: Path, size: int, now: Nanos) -> None:
        """`path` took `size` bytes of new text."""


def fastest(usable: Sequence[Path]) -> tuple[Path, Path | None]:
    """The path of least smoothed round trip, and that of least among those with room; the unmeasured come last.

    Of equals the first counts. `room` is asked for no more often than needed: for a subflow it is some work.
    """
    fast = usable[0]
    best: Path | None = None
    least = least_able = UNMEASURED + 1
    for path in usable:
        delay = path.srtt or UNMEASURED
        if delay < least:
            fast, least = path, delay
        if delay < least_able and path.room > 0:
            best, least_able = path, delay
    return fast, best
