"""Two stacks and the wires between them, run to completion in virtual time: thousands of packets, no real second.

Every packet passes a lawyer (kit/lawyer.py), who knows what no TCP may ever do.

pair = Pair(Link(rate=50_000_000, delay=20 * MSEC, loss=0.01))
report = pair.transfer(1_000_000)
assert report.intact
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from heapq import heappop, heappush
from typing import Any

from kit.build import icmp_about
from kit.clock import Clock
from kit.lawyer import Lawyer
from kit.link import Link
from kit.oracle import segments
from kit.wire import pattern
from stack import Stack, events
from stack.config import Sysctl, sysctl_set
from stack.ip.addr import parse_addr
from stack.tcp.options import TcpOptions
from stack.units import MSEC, SEC, Nanos

ADDRS = {"a": ("10.64.0.1", "fd64::1"), "b": ("10.64.0.2", "fd64::2")}
CHUNK = 65536
PORT = 5001


@dataclass(slots=True, eq=False)
class Program:
    """What an application does with one connection: write `total` bytes, read until the end, close."""

    total: int = 0
    written: int = 0
    received: int = 0
    digest: Any = field(default_factory=sha256)
    shut: bool = False
    done_at: Nanos = 0  # when the peer's end of stream was read
    read_rate: int = 0  # bytes a second; 0: at once
    started: Nanos = 0
    conn: Any = None

    def pump(self, now: Nanos) -> None:
        """Write and read as much as goes."""
        conn = self.conn
        if conn.error or not conn.established:
            return
        while self.written < self.total and conn.send_space > 0:
            size = min(CHUNK, self.total - self.written)
            conn.send(pattern(self.written, size))
            self.written += size
        if self.written == self.total and not self.shut:
            self.shut = True
            conn.shutdown()
        self._read(now)

    def _read(self, now: Nanos) -> None:
        conn = self.conn
        allowed = conn.readable
        if self.read_rate:
            allowed = min(allowed, (now - self.started) * self.read_rate // SEC - self.received)
        while allowed > 0:
            size = 0
            for view in conn.views(allowed):
                self.digest.update(view)
                size += len(view)
            conn.consume(size)
            self.received += size
            allowed -= size
        if conn.peer_closed and not conn.readable and not self.done_at:
            self.done_at = now

    @property
    def finished(self) -> bool:
        return bool(self.done_at) and self.shut

    def expected(self) -> bytes:
        """The digest that the peer of this program should come to."""
        return sha256(pattern(0, self.total)).digest()


@dataclass(slots=True, eq=False)
class Report:
    """What a transfer came to."""

    intact: bool  # both digests are right
    elapsed: Nanos
    goodput: int  # bit/s of the slower direction that had data
    info: Any  # tcp_info of the client at the end
    peer_info: Any
    retrans_segs: int
    timeouts: int


def tell_owners(stack: Stack) -> None:
    """Hand each event to who owns its endpoint."""
    while (event := stack.poll_event()) is not None:
        endpoint, mask = event
        if endpoint.owner is not None:
            endpoint.owner(endpoint, mask)


class Stepping:
    """A world in virtual time: two stacks, what flies between them, and one event after the other."""

    __slots__ = ()

    clock: Clock
    a: Stack
    b: Stack
    _flying: list[Any]

    def step(self) -> bool:
        """One event. False if nothing will ever happen again."""
        raise NotImplementedError

    def run(self, until: Callable[[], bool], limit: Nanos = 600 * SEC) -> bool:
        """Step until `until()`; False if nothing more happens or `limit` of virtual time is over."""
        end = self.clock.now + limit
        while not until():
            if self.clock.now > end or not self.step():
                return until()
        return True

    def idle(self, span: Nanos) -> None:
        """Let `span` of virtual time pass."""
        end = self.clock.now + span
        while True:
            due = [when for stack in (self.a, self.b) if (when := stack.poll_timeout()) is not None]
            due += [flight[0] for flight in self._flying[:1]]
            if not due or min(due) > end:
                break
            self.step()
        self.clock.advance_to(max(end, self.clock.now))


@dataclass(slots=True, eq=False)
class Pair(Stepping):
    """Stacks `a` and `b`. `link` carries a → b, `back` b → a (default: its twin)."""

    link: Link = field(default_factory=Link)
    back: Link | None = None
    v6: bool = False
    offload: bool = True
    mtu: int = 1500
    seed: int = 1
    sysctl: dict[str, str] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    a: Stack = field(init=False)
    b: Stack = field(init=False)
    taps: list[Callable[[str, bytes, Nanos], None]] = field(default_factory=list)  # see every packet on the wire
    check_every: int = 64  # steps between checks of all invariants
    router_mtu: int = 0  # of a router in the middle, which answers what is too big with ICMP; 0: no router
    tick: Nanos = 0  # also stop this often, for programs that act by the clock; 0: only where something happens
    lawyer: Lawyer = field(default_factory=Lawyer)
    _wires: dict[str, Link] = field(init=False)
    _flying: list[tuple[Nanos, int, str, bytes]] = field(default_factory=list)
    _order: int = 0
    _steps: int = 0

    def __post_init__(self) -> None:
        self._wires = {"a": self.link, "b": self.back if self.back is not None else self.link.twin()}
        self.a, self.b = self._stack("a"), self._stack("b")

    def _stack(self, name: str) -> Stack:
        knobs = Sysctl()
        for key, value in self.sysctl.items():
            sysctl_set(knobs, key, value)
        secret = sha256(f"{self.seed} {name}".encode()).digest()
        stack = Stack(sysctl=knobs, secret=secret, now=self.clock.now)
        text4, text6 = ADDRS[name]
        addrs = [(parse_addr(text4), 24)]
        if self.mtu >= 1280:
            addrs.append((parse_addr(text6), 64))
        stack.add_link("tun0", addrs, mtu=self.mtu, offload=self.offload)
        return stack

    # --- running

    def flush(self) -> None:
        """Hand out events and put what both stacks emit on their wires."""
        for name, stack in (("a", self.a), ("b", self.b)):
            tell_owners(stack)
            while (out := stack.poll_transmit(self.clock.now)) is not None:
                for packet in segments(out[1]):
                    self._put(name, packet)

    def _put(self, name: str, packet: bytes) -> None:
        self.lawyer.sees(packet)
        for tap in self.taps:
            tap(name, packet, self.clock.now)
        far = "b" if name == "a" else "a"
        if self.router_mtu and len(packet) - 10 > self.router_mtu:
            packet, far = self._too_big(packet), name
        for arrival, copy in self._wires[name].send(packet, self.clock.now):
            self._order += 1
            heappush(self._flying, (arrival, self._order, far, copy))

    def _too_big(self, packet: bytes) -> bytes:
        """What the router answers instead of forwarding."""
        kind, code = (2, 0) if self.v6 else (3, 4)
        return icmp_about(packet, parse_addr("fd64::fe" if self.v6 else "10.64.0.254"), kind, code, self.router_mtu)

    def step(self) -> bool:
        """One event: an arrival, or a deadline of either stack. False if nothing will ever happen again."""
        due = [when for stack in (self.a, self.b) if (when := stack.poll_timeout()) is not None]
        if self._flying:
            due.append(self._flying[0][0])
        if not due:
            return False
        if self.tick:
            due.append(self.clock.now + self.tick)
        self.clock.advance_to(max(min(due), self.clock.now))
        now = self.clock.now
        while self._flying and self._flying[0][0] <= now:
            _, _, name, packet = heappop(self._flying)
            stack = self.a if name == "a" else self.b
            stack.receive(packet, now, stack.links["tun0"])
        for stack in (self.a, self.b):
            when = stack.poll_timeout()
            if when is not None and when <= now:
                stack.handle_timeout(now)
        self.flush()
        self._steps += 1
        if self._steps % self.check_every == 0:
            self.check()
        return True

    def check(self) -> None:
        """Every invariant of every connection."""
        for stack in (self.a, self.b):
            for conn in list(stack.tcp.conns()):
                conn.check()

    # --- connections

    def connect(
        self,
        options: TcpOptions | None = None,
        server_options: TcpOptions | None = None,
        *,
        extension: Any = None,
        server_extension: Any = None,
    ) -> tuple[Any, Any]:
        """A connection from `a` to `b`, established: (client, server)."""
        addr = parse_addr(ADDRS["b"][self.v6])
        binding = self.b.tcp.bind(addr, PORT, reuseaddr=True)
        listener = self.b.tcp.listen(binding, 16, options=server_options)
        listener.extension = server_extension
        client = self.a.tcp.connect((addr, PORT), self.clock.now, options=options, extension=extension)
        self.flush()
        accepted: deque[Any] = deque()

        def try_accept() -> bool:
            if (conn := listener.accept()) is not None:
                accepted.append(conn)
            return bool(accepted) and client.established

        assert self.run(try_accept, 300 * SEC), f"never connected: {client.state} error {client.error}"
        listener.close()
        return client, accepted[0]

    def transfer(
        self,
        to_b: int = 0,
        to_a: int = 0,
        *,
        read_rate: int = 0,
        limit: Nanos = 600 * SEC,
        options: TcpOptions | None = None,
        server_options: TcpOptions | None = None,
    ) -> Report:
        """Connect, send `to_b` bytes from a to b and `to_a` back at the same time, close, compare digests."""
        client, server = self.connect(options, server_options)
        start = self.clock.now
        programs = [Program(to_b, conn=client, started=start), Program(to_a, conn=server, started=start)]
        self.tick = MSEC if read_rate else 0
        for program in programs:
            program.read_rate = read_rate
            program.conn.owner = pumping(program, self.clock)
        for program in programs:
            program.pump(start)
        self.flush()

        def finished() -> bool:
            if read_rate:
                for program in programs:
                    program.pump(self.clock.now)
                self.flush()
            return all(program.finished for program in programs)

        self.run(finished, limit)
        self.check()
        want = [sha256(pattern(0, to_a)).digest(), sha256(pattern(0, to_b)).digest()]
        intact = all(p.finished and p.digest.digest() == w for p, w in zip(programs, want, strict=True))
        elapsed = max(max(program.done_at for program in programs) - start, 1)
        sizes = [size for size in (to_b, to_a) if size]
        return Report(
            intact=intact,
            elapsed=elapsed,
            goodput=min(sizes, default=0) * 8 * SEC // elapsed,
            info=client.info(self.clock.now),
            peer_info=server.info(self.clock.now),
            retrans_segs=self.a.mib.TcpRetransSegs + self.b.mib.TcpRetransSegs,
            timeouts=self.a.mib.TcpExtTCPTimeouts + self.b.mib.TcpExtTCPTimeouts,
        )


def pumping(program: Program, clock: Clock) -> Callable[[Any, int], None]:
    wanted = events.READABLE | events.WRITABLE | events.PEER_CLOSED | events.CONNECTED

    def on_event(_endpoint: Any, mask: int) -> None:
        if mask & wanted:
            program.pump(clock.now)

    return on_event
