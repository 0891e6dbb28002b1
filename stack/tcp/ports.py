"""Local ports: who holds which, when two may share one, and which comes next.

The rules are Linux's (inet_csk_get_port): two bindings of overlapping addresses conflict unless both have SO_REUSEADDR
and neither listens, or both have SO_REUSEPORT. Connections made from a listener share its binding, so its port stays
taken after the listener closed. Ports chosen by connect() are only counted: they may be shared among destinations.
Search for a free port starts at a keyed hash of the destination and steps at random, RFC 6056 §3.3.4.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from stack.config import Sysctl
from stack.entropy import Entropy
from stack.errors import InvariantBroken, StackError
from stack.ip.addr import ANY4, ANY6

GROUPS = 1024  # of destinations, each with a counter


@dataclass(slots=True, eq=False)
class Binding:
    """One socket's hold on (addr, port); shared by what was accepted from it."""

    table: "PortTable"
    addr: bytes  # 4 or 16 bytes; all zero: any
    port: int
    reuseaddr: bool
    reuseport: bool
    v6only: bool
    listening: bool = False
    refs: int = field(default=1)

    def share(self) -> "Binding":
        """One more holder."""
        self.refs += 1
        return self

    def release(self) -> None:
        """One holder less; the last one frees the port."""
        self.refs -= 1
        if not self.refs:
            self.table.free(self)

    def overlaps(self, addr: bytes, v6only: bool) -> bool:
        """True if some packet could be meant for both."""
        if self.addr == ANY6 and not self.v6only:
            return True
        if addr == ANY6 and not v6only:
            return True
        if len(addr) != len(self.addr):
            return False
        any_addr = ANY4 if len(addr) == 4 else ANY6
        return any_addr in (addr, self.addr) or addr == self.addr


class PortTable:
    """All bindings of one protocol, by port."""

    __slots__ = ("_auto", "_entropy", "_moved", "_ports", "_sysctl")

    def __init__(self, sysctl: Sysctl, entropy: Entropy) -> None:
        self._sysctl = sysctl
        self._entropy = entropy
        self._ports: dict[int, list[Binding]] = {}
        self._moved = [0] * GROUPS
        self._auto: dict[int, int] = {}  # port chosen by connect() → connections on it

    def bind(self, addr: bytes, port: int, *, reuseaddr: bool, reuseport: bool, v6only: bool) -> Binding:
        """Take a port, or any free one for 0. Raises StackError EADDRINUSE."""
        if not port:
            port = self._free_port(addr, v6only)
        elif self._conflicts(addr, port, reuseaddr, reuseport, v6only):
            raise StackError(errno.EADDRINUSE, f"port {port} is taken")
        binding = Binding(self, addr, port, reuseaddr, reuseport, v6only)
        self._ports.setdefault(port, []).append(binding)
        return binding

    def free(self, binding: Binding) -> None:
        """Forget a binding."""
        held = self._ports[binding.port]
        held.remove(binding)
        if not held:
            del self._ports[binding.port]

    def may_listen(self, binding: Binding) -> bool:
        """False if another socket is in the way, which SO_REUSEADDR allows to none that listens.

        As bind asked already; since then another may have begun to listen, or an option may have been taken back.
        """
        return not any(
            other is not binding
            and other.overlaps(binding.addr, binding.v6only)
            and _exclude(other, binding.reuseaddr, binding.reuseport)
            for other in self._ports[binding.port]
        )

    def bound(self, port: int) -> bool:
        """True if somebody bound `port` explicitly."""
        return port in self._ports

    def hold_auto(self, port: int) -> None:
        """connect() chose `port`."""
        self._auto[port] = self._auto.get(port, 0) + 1

    def drop_auto(self, port: int) -> None:
        """A connection with a chosen port ended."""
        left = self._auto[port] - 1
        if left:
            self._auto[port] = left
        else:
            del self._auto[port]

    def candidates(self, start: int) -> "_Ring":
        """Ephemeral ports in the order in which to try them; `start` is a hash of the destination.

        RFC 6056 §3.3.4: a counter for each of a thousand groups of destinations, moved on by `tried`, so that the
        search does not run over the ports of earlier connections again.
        """
        low, high = self._sysctl.ip_local_port_range
        return _Ring(low, high, start + self._moved[start % GROUPS])

    def tried(self, start: int, count: int) -> None:
        """The search that began at `start` found a port at its try number `count`."""
        self._moved[start % GROUPS] += count + self._entropy.below(8)

    def _free_port(self, addr: bytes, v6only: bool) -> int:
        low, high = self._sysctl.ip_local_port_range
        for port in _Ring(low, high, self._entropy.u32()):
            if port not in self._auto and not self._conflicts(addr, port, False, False, v6only):
                return port
        raise StackError(errno.EADDRINUSE, "no free port in ip_local_port_range")

    def _conflicts(self, addr: bytes, port: int, reuseaddr: bool, reuseport: bool, v6only: bool) -> bool:
        if port in self._auto and not reuseaddr:
            return True
        held = self._ports.get(port, ())
        return any(other.overlaps(addr, v6only) and _exclude(other, reuseaddr, reuseport) for other in held)

    def check(self) -> None:
        """Nothing free may be listed."""
        for port, held in self._ports.items():
            if not held or any(binding.refs < 1 for binding in held):
                raise InvariantBroken(f"port {port} is held by nobody")


def _exclude(other: Binding, reuseaddr: bool, reuseport: bool) -> bool:
    """A socket with these options cannot have the same port as `other` on overlapping addresses."""
    return not ((reuseaddr and other.reuseaddr and not other.listening) or (reuseport and other.reuseport))


class _Ring:
    """low..high once round, starting anywhere."""

    __slots__ = ("_low", "_size", "_start")

    def __init__(self, low: int, high: int, start: int) -> None:
        self._low = low
        self._size = high - low + 1
        self._start = start

    def __iter__(self) -> Iterator[int]:
        for step in range(self._size):
            yield self._low + (self._start + step) % self._size
