"""A connection over several paths as its scheduler sees it: fixed windows, no loss, virtual time, no packets.

What is sent on a path waits for its wire, arrives after half the round trip, and is acknowledged after the other half;
the receiver hands on what is in order, and only that moves the window on. Copies of a scheduler that duplicates start
where the path is, go before new text, and skip what was acknowledged. Where nothing happens any more although there is
something to send, RTO passes and the scheduler is asked again, as after a timer of the connection.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush

from mptcp.sched.base import Path, Scheduler, SendState
from stack.units import MSEC, SEC, Nanos

SUPER = 4  # segments that one answer may take
RTO = 200 * MSEC


@dataclass(slots=True, eq=False)
class SimPath:
    """One subflow: a wire of `rate` bytes a second after which the round trip is `rtt`."""

    id: int
    rate: int
    rtt: Nanos
    cwnd: int = 0  # 0: what the wire holds, and half as much again
    weight: int = 1
    mss: int = 1000
    dead_at: Nanos = 1 << 62  # from then on it swallows everything
    srtt: Nanos = 0
    rttvar: Nanos = 0
    in_flight: int = 0
    carried: int = 0
    next: int = 0  # place in the stream, with a scheduler that duplicates
    _free_at: Nanos = 0

    def __post_init__(self) -> None:
        self.srtt = self.srtt or self.rtt
        self.cwnd = self.cwnd or max(self.rate * self.rtt * 3 // (2 * SEC) + SUPER * self.mss, 2 * self.mss)

    @property
    def room(self) -> int:
        """As the congestion window leaves it."""
        room = self.cwnd - self.in_flight
        return room if room >= self.mss else 0

    def put(self, size: int, now: Nanos) -> Nanos:
        """`size` bytes leave; says when they arrive."""
        self.in_flight += size
        self.carried += size
        self._free_at = max(self._free_at, now) + size * SEC // self.rate
        return self._free_at + self.rtt // 2

    def acked(self, size: int, sample: Nanos) -> None:
        """RFC 6298's estimators."""
        self.in_flight -= size
        self.rttvar += (abs(sample - self.srtt) - self.rttvar) // 4
        self.srtt += (sample - self.srtt) // 8


@dataclass(slots=True, eq=False)
class Transfer:
    """`total` bytes from a program that writes `write_rate` a second (0: all at once), through a peer's window."""

    paths: list[SimPath]
    sched: Scheduler
    total: int
    window: int = 1 << 30
    write_rate: int = 0
    now: Nanos = 0
    snd_una: int = 0
    snd_nxt: int = 0
    waits: int = 0  # how often somebody had room and nobody sent
    timeouts: int = 0  # how often nothing would have happened any more
    first_at: dict[int, Nanos] = field(default_factory=dict)  # each piece's arrival
    _events: list[tuple[Nanos, int, str, SimPath, int, int, Nanos]] = field(default_factory=list)
    _order: int = 0
    _got: list[tuple[int, int]] = field(default_factory=list)  # beyond a hole
    _rcv_nxt: int = 0

    def run(self, until: Nanos = 1 << 62) -> "Transfer":
        """Until all is acknowledged, or nothing can happen any more, or `until`."""
        if self.write_rate:
            self._at(SEC // 1000, "tick", self.paths[0], 0, 0)
        self._send()
        while self.snd_una < self.total and self.now < until and (self._events or self._time_out()):
            self.now, _, what, path, start, end, sent_at = heappop(self._events)
            if what == "arrive":
                self._arrive(start, end)
                self._at(path.rtt - path.rtt // 2, "ack", path, start, end, sent_at)
            elif what == "ack":
                path.acked(end - start, self.now - sent_at)
                self.snd_una = max(self.snd_una, self._rcv_nxt)
            else:
                self._at(SEC // 1000, "tick", path, 0, 0)
            self._send()
        return self

    def _time_out(self) -> bool:
        self.now += RTO
        self.timeouts += 1
        self._send()
        return bool(self._events)

    @property
    def goodput(self) -> float:
        """Bytes a second, in order and acknowledged."""
        return self.snd_una * SEC / self.now

    def _at(self, delay: Nanos, what: str, path: SimPath, start: int, end: int, sent_at: Nanos = 0) -> None:
        self._order += 1
        heappush(self._events, (self.now + delay, self._order, what, path, start, end, sent_at))

    def _written(self) -> int:
        return min(self.write_rate * self.now // SEC, self.total) if self.write_rate else self.total

    def _send(self) -> None:
        while True:
            if self.sched.duplicates:
                self._copy()
            queued = self._written() - self.snd_nxt
            free = self.snd_una + self.window - self.snd_nxt
            if queued <= 0 or free <= 0:
                break
            path = self.sched.pick(self.paths, SendState(free, queued), self.now)
            if path is None or not path.room:
                self.waits += any(each.room for each in self.paths)
                break
            size = min(path.room, SUPER * path.mss, queued, free)
            self._put(self._mine(path), self.snd_nxt, size)
            self.snd_nxt += size
            self.sched.on_sent(path, size, self.now)

    def _copy(self) -> None:
        for path in self.paths:
            path.next = max(path.next, self.snd_una)
            while path.room and path.next < self.snd_nxt:
                self._put(path, path.next, min(path.room, SUPER * path.mss, self.snd_nxt - path.next))

    def _put(self, path: SimPath, start: int, size: int) -> None:
        arrives = path.put(size, self.now)
        if path.next == start:
            path.next = start + size
        if arrives < path.dead_at:
            self._at(arrives - self.now, "arrive", path, start, start + size, self.now)

    def _mine(self, path: Path) -> SimPath:
        return next(each for each in self.paths if each is path)

    def _arrive(self, start: int, end: int) -> None:
        self.first_at.setdefault(start, self.now)
        self._got.append((start, end))
        self._got.sort()
        while self._got and self._got[0][0] <= self._rcv_nxt:
            self._rcv_nxt = max(self._rcv_nxt, self._got.pop(0)[1])
