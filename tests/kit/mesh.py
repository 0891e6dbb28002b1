"""Two stacks with Multipath TCP and several wires between them, in virtual time.

Wire N joins `tunN` of both: 10.(64+N).0.1 and fd64:N::1 on `a`, .2 on `b`. Everything that crosses may be seen, changed
or dropped by a middlebox: a function of direction, wire and packet that returns the packets to carry.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from heapq import heappop, heappush
from typing import Any

from kit.clock import Clock
from kit.link import Link
from kit.oracle import segments
from kit.pair import CHUNK, PORT, Program, Stepping, pumping, tell_owners
from kit.wire import pattern
from mptcp.config import MptcpSysctl
from mptcp.host import MptcpHost
from stack import Stack
from stack.config import Sysctl, sysctl_set
from stack.tcp.options import TcpOptions
from stack.units import SEC, Nanos

Box = Callable[[str, int, bytes], Iterable[bytes]]


def addr(name: str, wire: int, v6: bool = False) -> bytes:
    """The address of `a` or `b` on a wire."""
    last = 1 if name == "a" else 2
    return bytes((0xFD, 0x64, 0, wire, *bytes(11), last)) if v6 else bytes((10, 64 + wire, 0, last))


@dataclass(slots=True, eq=False)
class Mesh(Stepping):
    """`a` connects, `b` listens. Wires may be cut and mended (`up`)."""

    links: list[Link] = field(default_factory=lambda: [Link(), Link()])
    v6: bool = False
    offload: bool = True
    mtus: tuple[int, ...] = ()
    seed: int = 1
    sysctl: dict[str, str] = field(default_factory=dict)
    mptcp: dict[str, Any] = field(default_factory=dict)  # MptcpSysctl of both
    mptcp_b: dict[str, Any] = field(default_factory=dict)  # … of b only, on top
    box: Box | None = None
    clock: Clock = field(default_factory=Clock)
    a: Stack = field(init=False)
    b: Stack = field(init=False)
    host_a: MptcpHost = field(init=False)
    host_b: MptcpHost = field(init=False)
    up: list[bool] = field(init=False)
    taps: list[Callable[[str, int, bytes, Nanos], None]] = field(default_factory=list)
    carried: list[int] = field(init=False)  # bytes by wire, both ways
    _wires: dict[tuple[str, int], Link] = field(init=False)
    _flying: list[tuple[Nanos, int, str, int, bytes]] = field(default_factory=list)
    _order: int = 0
    _steps: int = 0

    def __post_init__(self) -> None:
        self._wires = {}
        for number, link in enumerate(self.links):
            self._wires["a", number], self._wires["b", number] = link, link.twin()
        self.up = [True] * len(self.links)
        self.carried = [0] * len(self.links)
        self.a, self.b = self._stack("a"), self._stack("b")
        self.host_a = MptcpHost(self.a, sysctl=MptcpSysctl(**self.mptcp))
        self.host_b = MptcpHost(self.b, sysctl=MptcpSysctl(**(self.mptcp | self.mptcp_b)))

    def _stack(self, name: str) -> Stack:
        knobs = Sysctl()
        for key, value in self.sysctl.items():
            sysctl_set(knobs, key, value)
        stack = Stack(sysctl=knobs, secret=sha256(f"{self.seed} {name}".encode()).digest(), now=self.clock.now)
        for number in range(len(self.links)):
            mtu = self.mtus[number] if self.mtus else 1500
            addrs = [(addr(name, number), 24)]
            if mtu >= 1280:
                addrs.append((addr(name, number, True), 64))
            stack.add_link(f"tun{number}", addrs, mtu=mtu, offload=self.offload)
        return stack

    # --- running

    def flush(self) -> None:
        """Hand out events and put what both stacks emit on their wires."""
        for name, stack in (("a", self.a), ("b", self.b)):
            tell_owners(stack)
            while (out := stack.poll_transmit(self.clock.now)) is not None:
                wire = int(out[0].name[3:])
                for packet in segments(out[1]):
                    self._put(name, wire, packet)

    def _put(self, name: str, wire: int, packet: bytes) -> None:
        for tap in self.taps:
            tap(name, wire, packet, self.clock.now)
        packets: Iterable[bytes] = (packet,) if self.box is None else self.box(name, wire, packet)
        for each in packets:
            if not self.up[wire]:
                continue
            self.carried[wire] += len(each) - 10
            for arrival, copy in self._wires[name, wire].send(each, self.clock.now):
                self._order += 1
                heappush(self._flying, (arrival, self._order, "b" if name == "a" else "a", wire, copy))

    def inject(self, to: str, wire: int, packet: bytes) -> None:
        """A packet that a box made up arrives."""
        self._order += 1
        heappush(self._flying, (self.clock.now, self._order, to, wire, packet))

    def step(self) -> bool:
        """One event: an arrival, or a deadline of either stack. False if nothing will ever happen again."""
        due = [when for stack in (self.a, self.b) if (when := stack.poll_timeout()) is not None]
        if self._flying:
            due.append(self._flying[0][0])
        if not due:
            return False
        self.clock.advance_to(max(min(due), self.clock.now))
        now = self.clock.now
        while self._flying and self._flying[0][0] <= now:
            _, _, name, wire, packet = heappop(self._flying)
            stack = self.a if name == "a" else self.b
            if self.up[wire]:
                stack.receive(packet, now, stack.links[f"tun{wire}"])
        for stack in (self.a, self.b):
            when = stack.poll_timeout()
            if when is not None and when <= now:
                stack.handle_timeout(now)
        self.flush()
        self._steps += 1
        if self._steps % 64 == 0:
            self.check()
        return True

    def check(self) -> None:
        """Every invariant."""
        for stack, host in ((self.a, self.host_a), (self.b, self.host_b)):
            host.check()
            for conn in list(stack.tcp.conns()):
                conn.check()

    # --- connections

    def connect(self, options: TcpOptions | None = None, *, plain_server: bool = False) -> tuple[Any, Any]:
        """A connection over wire 0, established on both sides: (client, server)."""
        where = addr("b", 0, self.v6)
        binding = self.b.tcp.bind(bytes(len(where)), PORT, reuseaddr=True)
        listener = (self.b.tcp if plain_server else self.host_b).listen(binding, 16)
        client = self.host_a.connect((where, PORT), self.clock.now, options=options)
        self.flush()
        accepted: list[Any] = []

        def try_accept() -> bool:
            if (conn := listener.accept()) is not None:
                accepted.append(conn)
            return bool(accepted) and client.established

        assert self.run(try_accept, 300 * SEC), f"never connected: {client.state} error {client.error}"
        return client, accepted[0]

    def programs(self, client: Any, server: Any, to_b: int, to_a: int) -> list[Program]:
        """Start writing and reading on both ends."""
        now = self.clock.now
        programs = [Program(to_b, conn=client, started=now), Program(to_a, conn=server, started=now)]
        for program in programs:
            program.conn.owner = pumping(program, self.clock)
        for program in programs:
            program.pump(now)
        self.flush()
        return programs

    def transfer(
        self, to_b: int = 0, to_a: int = 0, *, limit: Nanos = 600 * SEC, then: Callable[[Any, Any], None] | None = None
    ) -> "Result":
        """Connect, send both ways at once, close, compare digests. `then(client, server)` is called once connected."""
        client, server = self.connect()
        if then is not None:
            then(client, server)
        start = self.clock.now
        programs = self.programs(client, server, to_b, to_a)
        self.run(lambda: all(program.finished for program in programs), limit)
        self.check()
        want = [sha256(pattern(0, to_a)).digest(), sha256(pattern(0, to_b)).digest()]
        intact = all(p.finished and p.digest.digest() == w for p, w in zip(programs, want, strict=True))
        return Result(intact, max(max(program.done_at for program in programs) - start, 1), client, server, programs)


@dataclass(slots=True, eq=False)
class Result:
    """What a transfer came to."""

    intact: bool
    elapsed: Nanos
    client: Any
    server: Any
    programs: list[Program]

    def goodput(self) -> int:
        """Bit/s of the larger direction."""
        return max(program.total for program in self.programs) * 8 * SEC // self.elapsed


__all__ = ["CHUNK", "Mesh", "Result", "addr"]
