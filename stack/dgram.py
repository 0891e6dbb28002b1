"""What UDP and echo endpoints have in common: a bounded queue of datagrams, a pending error, a local and a remote end.

Rules are those of Linux's datagram sockets. An address of 4 bytes on an IPv6 endpoint is IPv4: such endpoints are
dual-stack unless `v6only`, and whoever shows addresses to programs maps them.
"""

import errno
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.errors import InvariantBroken, StackError
from stack.events import FAILED, READABLE
from stack.ip.addr import ANY4, ANY6, LOOPBACK4, LOOPBACK6, show_addr
from stack.ip.link import Link
from stack.ip.route import Route, is_multicast

if TYPE_CHECKING:
    from stack.host import Stack

SockAddr = tuple[bytes, int]

OVERHEAD = 256  # what a queued datagram is charged beside its packet


@dataclass(slots=True, eq=False)
class Datagram:
    """One received datagram. `data` is a view of the packet it came in."""

    data: memoryview
    addr: bytes
    port: int
    dst: bytes
    ttl: int
    tos: int
    link: Link
    charge: int = 0


@dataclass(slots=True, eq=False)
class DatagramOptions:
    """Socket options; ttl 0 means the sysctl's."""

    rcvbuf: int
    sndbuf: int
    ttl: int = 0
    tos: int = 0
    broadcast: bool = False


def is_any(addr: bytes) -> bool:
    """0.0.0.0 or ::."""
    return addr in (ANY4, ANY6)


class DatagramEndpoint:
    """State and verbs shared by UdpEndpoint and EchoEndpoint. None of the verbs emits: packets go to the outbox."""

    def __init__(self, stack: "Stack", v6: bool) -> None:
        self._stack = stack
        self.id = stack.next_id()
        self.owner: Any = None
        self.events = 0
        self.v6 = v6
        self.v6only = False
        self.local: SockAddr = (ANY6 if v6 else ANY4, 0)  # port 0: not bound
        self.remote: SockAddr | None = None
        self.error = 0  # pending errno, reported once
        self.closed = False
        self.drops = 0  # datagrams that found the queue full
        rcvbuf = stack.sysctl.rmem_default
        self.options = DatagramOptions(rcvbuf, rcvbuf)
        self._queue: deque[Datagram] = deque()
        self._charge = 0

    # --- receiving

    @property
    def queued(self) -> int:
        """Datagrams waiting."""
        return len(self._queue)

    @property
    def next_size(self) -> int:
        """Bytes of the datagram that `recv` returns next, 0 if there is none (FIONREAD)."""
        return len(self._queue[0].data) if self._queue else 0

    def recv(self) -> Datagram | None:
        """The oldest datagram."""
        if not self._queue:
            return None
        datagram = self._queue.popleft()
        self._charge -= datagram.charge
        return datagram

    def deliver(self, datagram: Datagram) -> bool:
        """For the demultiplexer: queue a datagram; False if rcvbuf is full. One that is too large goes in alone."""
        charge = datagram.charge + OVERHEAD
        if self._queue and self._charge + charge > self.options.rcvbuf:
            self.drops += 1
            return False
        datagram.charge = charge
        self._charge += charge
        self._queue.append(datagram)
        self._stack.post_event(self, READABLE)
        return True

    # --- errors

    def fail(self, err: int) -> None:
        """For the demultiplexer: an ICMP error arrived; the next call reports it."""
        self.error = err
        self._stack.post_event(self, FAILED)

    def take_error(self) -> int:
        """The pending errno, which is gone then (SO_ERROR)."""
        err, self.error = self.error, 0
        return err

    def _raise_pending(self) -> None:
        if self.closed:
            raise StackError(errno.EBADF, "closed")
        if self.error:
            raise StackError(self.take_error(), "an earlier datagram was answered with an error")

    # --- addresses

    def _check_family(self, addr: bytes) -> None:
        if len(addr) == 16 and not self.v6:
            raise StackError(errno.EAFNOSUPPORT, "an IPv6 address on an IPv4 socket")
        if len(addr) == 4 and self.v6 and self.v6only:
            raise StackError(errno.ENETUNREACH, "an IPv4 address on an IPv6-only socket")

    def _check_bindable(self, addr: bytes) -> None:
        self._check_family(addr)
        routes = self._stack.routes
        if not (is_any(addr) or routes.is_local(addr) or is_multicast(addr) or routes.is_broadcast(addr)):
            raise StackError(errno.EADDRNOTAVAIL, f"{show_addr(addr)} is not ours")

    def _route(self, addr: bytes) -> tuple[bytes, Route]:
        """(destination, route) for a datagram to `addr`, from our address if we have one."""
        self._check_family(addr)
        if is_any(addr):
            addr = LOOPBACK4 if len(addr) == 4 else LOOPBACK6
        if len(addr) == 4 and not self.options.broadcast and self._stack.routes.is_broadcast(addr):
            raise StackError(errno.EACCES, "broadcast without SO_BROADCAST")
        mine = self.local[0]
        src = mine if self._stack.routes.is_local(mine) else None
        if src is not None and len(src) != len(addr):
            raise StackError(errno.ENETUNREACH, f"{show_addr(addr)} cannot be reached from {show_addr(src)}")
        try:
            return addr, self._stack.route(addr, src)
        except StackError:
            self._stack.mib.IpOutNoRoutes += len(addr) == 4
            self._stack.mib.Ip6OutNoRoutes += len(addr) == 16
            raise

    def accepts(self, dst: bytes) -> bool:
        """True if packets to `dst` may be ours as far as family and local address go."""
        mine = self.local[0]
        if len(dst) == 4:
            return mine in (dst, ANY4) or (mine == ANY6 and not self.v6only)
        return mine in (dst, ANY6)

    def _drop_queue(self) -> None:
        self._queue.clear()
        self._charge = 0

    def check(self) -> None:
        """The charge adds up; a closed endpoint holds nothing."""
        if self._charge != sum(datagram.charge for datagram in self._queue):
            raise InvariantBroken("datagram queue charge")
        if self.closed and self._queue:
            raise InvariantBroken("a closed endpoint holds datagrams")
