"""Where SYNs with MP_CAPABLE vanish and SYNs without get through, Multipath TCP is left alone for a while.

As Linux: net.mptcp.blackhole_timeout seconds after the first time, twice as long each time it happens again, and
forgotten when a connection works.
"""

from stack.units import SEC, Nanos

MOST_DOUBLINGS = 6


class Blackholes:
    """One per host; counts in MPTcpExtBlackhole are the caller's."""

    def __init__(self, timeout: int) -> None:
        self._timeout = timeout
        self._times = 0
        self._until: Nanos = 0

    def found(self, now: Nanos) -> None:
        """A SYN without the option was answered where those with it were not."""
        if self._timeout:
            self._until = now + (self._timeout << min(self._times, MOST_DOUBLINGS)) * SEC
            self._times += 1

    def worked(self, now: Nanos) -> None:
        """MP_CAPABLE got through."""
        self._times = 0

    def active(self, now: Nanos) -> bool:
        """True while no MP_CAPABLE should be tried."""
        return bool(self._times) and now < self._until
