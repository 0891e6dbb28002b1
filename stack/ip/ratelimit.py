"""How many ICMP errors we may send: icmp_ratelimit per target and icmp_msgs_per_sec in all.

Two token buckets, as in Linux: a target gets six at once and then one every icmp_ratelimit ms; all targets together
icmp_msgs_burst at once and then icmp_msgs_per_sec. The table of targets is bounded, the longest silent goes first.
"""

from stack.config import Sysctl
from stack.errors import InvariantBroken
from stack.mib import Mib
from stack.units import MSEC, SEC, Nanos

TARGETS = 1024
BURST = 6  # Linux's XRLIM_BURST_FACTOR


class IcmpRateLimit:
    """Asked once for each error that is about to be sent."""

    def __init__(self, sysctl: Sysctl, mib: Mib) -> None:
        self._sysctl = sysctl
        self._mib = mib
        self._credit = 0  # ns·messages per second of the global bucket
        self._at: Nanos | None = None
        self._targets: dict[bytes, tuple[Nanos, Nanos]] = {}  # (credit in ns, when), the longest silent first

    def allow(self, target: bytes, now: Nanos) -> bool:
        """True if an error may go to `target` now; takes a token from both buckets then."""
        rate, most = self._sysctl.icmp_msgs_per_sec, self._sysctl.icmp_msgs_burst * SEC
        earned = most if self._at is None else (now - self._at) * rate
        self._credit = min(self._credit + earned, most)
        self._at = now
        if self._credit < SEC:
            self._mib.IcmpOutRateLimitGlobal += 1
            return False
        if not self._allow_target(target, now):
            self._mib.IcmpOutRateLimitHost += len(target) == 4
            self._mib.Icmp6OutRateLimitHost += len(target) == 16
            return False
        self._credit -= SEC
        return True

    def _allow_target(self, target: bytes, now: Nanos) -> bool:
        price = (self._sysctl.icmp6_ratelimit if len(target) == 16 else self._sysctl.icmp_ratelimit) * MSEC
        credit, since = self._targets.pop(target, (BURST * price, now))
        credit = min(credit + now - since, BURST * price)
        allowed = credit >= price
        if len(self._targets) >= TARGETS:
            del self._targets[next(iter(self._targets))]
        self._targets[target] = (credit - price if allowed else credit, now)
        return allowed

    def check(self) -> None:
        """Bounded."""
        if len(self._targets) > TARGETS:
            raise InvariantBroken(f"{len(self._targets)} rate-limited targets")
