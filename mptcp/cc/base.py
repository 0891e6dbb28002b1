"""Coupled congestion control: the windows of one connection's subflows grow together, and take no more than one TCP.

Two subflows over one bottleneck would take twice a single connection's share. So a group knows all of them, and the
algorithms differ in how fast each may grow (`_growth`), given the others. Slow start, the halving on loss and all of
recovery are each subflow's own, as RFC 6356 §3 has it. Alone in its group a subflow is NewReno.

Deviation: where the program is the limit RFC 6356 §3 would count what is in flight in place of cwnd. A congestion
control does not hear of that; so who has not been limited by its window for a while (QUIET) does not count at all. It
is idle, a backup or dead, and would only make the others timid: two paths would carry less than the better one.
"""

import weakref

from stack.tcp.cc.base import MAX_CWND, CongestionControl
from stack.units import SEC, Nanos

QUIET: Nanos = SEC  # or so many round trips:
QUIET_ROUNDS = 8
FRESH = 8  # the growth is worked out anew this often a window (RFC 6356 §3 would allow once)


class Group:
    """The subflows of one connection that have a coupled congestion control.

    Holds them weakly: a congestion control that its subflow gave up, and that of a subflow that is gone, is out of it.
    """

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: list[weakref.ref[Coupled]] = []

    @property
    def members(self) -> "list[Coupled]":
        """Those that there are, the eldest first."""
        return [each for ref in self._members if (each := ref()) is not None]

    def add(self, member: "Coupled") -> None:
        """`Coupled.join` does this."""
        self._members.append(weakref.ref(member, self._members.remove))

    def remove(self, member: "Coupled") -> None:
        """`Coupled.leave` does this."""
        self._members[:] = [ref for ref in self._members if ref() is not member]

    def counted(self, now: Nanos) -> "list[Coupled]":
        """Those that compete: measured, and lately limited by their window."""
        return [each for each in self.members if each.srtt and each.active(now)]


class Coupled(CongestionControl):
    """NewReno whose congestion avoidance the group slows down. All windows are bytes."""

    coupled = True
    beta_ecn = 0.8  # RFC 8511 §4.1.1, as for reno
    __slots__ = ("__weakref__", "_credit", "_gain", "_gain_left", "_limited_at", "_reducing", "group", "srtt")

    def __init__(self, mss: int, now: Nanos) -> None:
        super().__init__(mss, now)
        self.group: Group | None = None
        self.srtt: Nanos = 0  # over the samples of ACKs while cwnd was the limit
        self._limited_at = now
        self._credit = 0.0  # bytes of growth that do not make a segment yet
        self._reducing = False
        self._gain = 0.0  # what _growth said
        self._gain_left = 0  # bytes to be acknowledged for which that still holds

    # ------------------------------------------------------------------ the group

    def join(self, group: Group) -> None:
        """Couple with the others of `group`; it leaves the one it was in."""
        if group is not self.group:
            self.leave()
            self.group = group
            group.add(self)

    def leave(self) -> None:
        """The subflow is gone or has another congestion control. Harmless if it is in no group."""
        if self.group is not None:
            self.group.remove(self)
            self.group = None

    def active(self, now: Nanos) -> bool:
        """False: it competes with nobody at the moment."""
        return now - self._limited_at <= max(QUIET, QUIET_ROUNDS * self.srtt)

    @property
    def window(self) -> int:
        """cwnd, or in recovery what it will be after it: RFC 6356 §3 uses ssthresh there."""
        return min(self.cwnd, self.ssthresh) if self._reducing else self.cwnd

    @property
    def rate(self) -> float:
        """Bytes a nanosecond: the x of the papers. Only with an srtt."""
        return self.window / self.srtt

    def _peers(self, now: Nanos) -> "list[Coupled]":
        """All that count, this one among them; empty where there is nobody to couple with."""
        if self.group is None or not self.srtt:
            return []
        found = self.group.counted(now)
        return found if len(found) > 1 else []

    # ------------------------------------------------------------------ verbs

    def start(self, srtt: Nanos, now: Nanos) -> None:
        """The handshake's round trip is the first sample."""
        self.srtt = srtt
        self._limited_at = now

    def on_ack(self, acked: int, rtt: Nanos, now: Nanos, in_flight: int) -> None:
        """Slow start below ssthresh; above it `_growth` bytes for each that is acknowledged."""
        self._reducing = False
        self._limited_at = now
        self._measure(rtt)
        if self.cwnd < self.ssthresh:
            grown = min(self.cwnd + acked, self.ssthresh, MAX_CWND)
            acked -= grown - self.cwnd
            self.cwnd = grown
        if acked > 0:
            if self._gain_left <= 0:
                peers = self._peers(now)
                self._gain = self._growth(peers) if peers else self.mss / self.cwnd
                self._gain_left = self.cwnd // FRESH
            self._gain_left -= acked
            self._grow(acked * self._gain)

    def on_loss(self, in_flight: int, now: Nanos) -> None:
        """Half of cwnd, as NewReno."""
        self._reduce(self.cwnd // 2, now)

    def on_rto(self, in_flight: int, now: Nanos) -> None:
        """A window of one segment is what it says: nothing more to reduce."""
        super().on_rto(in_flight, now)
        self._reducing = False

    def on_exit(self, now: Nanos) -> None:
        """The window is ssthresh now."""
        super().on_exit(now)
        self._reducing = False

    def on_undo(self, now: Nanos) -> None:
        """The window is what it was."""
        super().on_undo(now)
        self._reducing = False

    # ------------------------------------------------------------------ parts

    def _growth(self, peers: "list[Coupled]") -> float:
        """Bytes of cwnd for each byte acknowledged in congestion avoidance; `peers` are at least two, all measured."""
        raise NotImplementedError

    def _reduce(self, ssthresh: int, now: Nanos) -> None:
        self._remember()
        self._reducing = True
        self._credit = 0.0
        self._gain_left = 0
        self._limited_at = now
        self.ssthresh = max(ssthresh, 2 * self.mss)

    def _measure(self, rtt: Nanos) -> None:
        if rtt:
            self.srtt += (rtt - self.srtt) // 8 if self.srtt else rtt

    def _grow(self, growth: float) -> None:
        """By whole segments; what is left waits. Shrinking, for those that do, ends at one segment."""
        self._credit += growth
        if abs(self._credit) < self.mss:
            return
        step = int(self._credit / self.mss) * self.mss
        self._credit -= step
        self.cwnd = max(min(self.cwnd + step, MAX_CWND), self.mss)
        self.ssthresh = min(self.ssthresh, self.cwnd)  # a window that shrinks does not return to slow start
