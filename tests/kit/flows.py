"""Congestion controls over common bottlenecks, packet by packet, without TCP: who gets how much, how long queues are.

A flow keeps cwnd in flight. Each packet waits in its bottleneck's queue or is dropped, the likelier the longer the
queue is (RED), so that drops hit flows by their share, as the papers assume. A drop is noticed a round trip later and
counts once a window, as fast recovery would have it. Time is virtual.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from stack.tcp.cc.base import CongestionControl
from stack.units import SEC, Nanos

MSS = 1500


MOST_RED = 0.1  # chance of a drop where the queue is just not full; none while it is a quarter full


@dataclass(slots=True, eq=False)
class Bottleneck:
    """A wire of `rate` bytes a second with room for `limit` packets before it."""

    rate: int
    limit: int
    passed: int = 0  # bytes since `Flows.reset`
    waited: Nanos = 0  # sum over packets
    packets: int = 0
    drops: int = 0
    _free_at: Nanos = 0

    def take(self, now: Nanos, random: Random) -> Nanos | None:
        """When a packet that comes now is through; None if it is dropped."""
        wait = max(self._free_at - now, 0)
        filled = wait * self.rate / SEC / MSS / self.limit
        if filled >= 1 or random.random() < MOST_RED * (filled - 0.25) / 0.75:
            self.drops += 1
            return None
        self._free_at = now + wait + MSS * SEC // self.rate
        self.passed += MSS
        self.packets += 1
        self.waited += wait
        return self._free_at

    @property
    def queue(self) -> float:
        """Packets that one meets there, on average."""
        return self.waited * self.rate / SEC / MSS / max(self.packets, 1)


@dataclass(slots=True, eq=False)
class Flow:
    """One sender with all the data that it can get out."""

    cc: CongestionControl
    via: Bottleneck
    rtt: Nanos  # of the path alone
    starts: Nanos = 0
    stops: Nanos = 1 << 62
    delivered: int = 0  # since `Flows.reset`
    in_flight: int = 0
    recovering_until: Nanos = -1  # what was sent before is the same episode
    in_recovery: bool = False

    @property
    def window(self) -> int:
        """PRR's goal while it recovers."""
        return min(self.cc.cwnd, self.cc.ssthresh) if self.in_recovery else self.cc.cwnd


@dataclass(slots=True, eq=False)
class Flows:
    """All of them, from the start."""

    flows: list[Flow]
    seed: int = 1
    now: Nanos = 0
    _events: list[tuple[Nanos, int, Flow, bool, Nanos]] = field(default_factory=list)
    _order: int = 0
    _random: Random = field(init=False)
    _since: Nanos = 0

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        for flow in self.flows:
            flow.cc.start(flow.rtt, 0)
            self._at(flow.starts, flow, True, -1)

    def run(self, seconds: float) -> "Flows":
        """Go on for so long."""
        until = self.now + int(seconds * SEC)
        while self._events and self._events[0][0] < until:
            self.now, _, flow, arrived, sent_at = heappop(self._events)
            if sent_at >= 0:
                self._answer(flow, arrived, sent_at)
            while flow.in_flight + MSS <= flow.window and self.now < flow.stops:
                self._send(flow)
        self.now = until
        return self

    def reset(self) -> "Flows":
        """Measure from here."""
        self._since = self.now
        for flow in self.flows:
            flow.delivered = 0
            flow.via.passed = flow.via.waited = flow.via.packets = flow.via.drops = 0
        return self

    def rate(self, *flows: Flow) -> float:
        """Bytes a second that they delivered together."""
        return sum(flow.delivered for flow in flows) * SEC / (self.now - self._since)

    def _at(self, delay: Nanos, flow: Flow, arrived: bool, sent_at: Nanos) -> None:
        self._order += 1
        heappush(self._events, (self.now + delay, self._order, flow, arrived, sent_at))

    def _send(self, flow: Flow) -> None:
        flow.in_flight += MSS
        # Hosts are not clockwork: without this little, flows lock into phase and one of them takes every drop.
        jitter = self._random.randrange(MSS * SEC // flow.via.rate)
        through = flow.via.take(self.now, self._random)
        if through is None:
            self._at(flow.rtt + jitter, flow, False, self.now)
        else:
            self._at(through - self.now + flow.rtt + jitter, flow, True, self.now)

    def _answer(self, flow: Flow, arrived: bool, sent_at: Nanos) -> None:
        prior = flow.in_flight
        flow.in_flight -= MSS
        if arrived:
            flow.delivered += MSS
        if flow.in_recovery and sent_at > flow.recovering_until:
            flow.in_recovery = False
            flow.cc.on_exit(self.now)
        if not arrived:
            if sent_at > flow.recovering_until:
                flow.cc.on_loss(prior, self.now)
                flow.in_recovery, flow.recovering_until = True, self.now
        elif not flow.in_recovery:
            flow.cc.on_ack(MSS, self.now - sent_at, self.now, prior)
