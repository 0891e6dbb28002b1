"""What UDP, echo and raw endpoints have in common: bounded queues of datagrams and errors, ends, options, the way out.

Rules are those of Linux's datagram sockets. An address of 4 bytes on an IPv6 endpoint is IPv4: such endpoints are
dual-stack unless `v6only`, and whoever shows addresses to programs maps them.
"""

import errno
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stack.dgram_options import DO, DONT, INTERFACE, OMIT, PROBE, WANT, DatagramOptions, SendControl
from stack.errors import InvariantBroken, StackError
from stack.errqueue import ORIGIN_LOCAL, ErrorQueue, SockError
from stack.events import FAILED, READABLE, WRITABLE
from stack.ip.addr import ANY4, ANY6, LOOPBACK4, LOOPBACK6, is_multicast, show_addr
from stack.ip.link import Link
from stack.ip.multicast import Membership, Memberships
from stack.ip.route import Route

if TYPE_CHECKING:
    from stack.host import Stack

SockAddr = tuple[bytes, int]

OVERHEAD = 256  # what a queued datagram is charged beside its packet
_NO_CONTROL = SendControl()


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
    segment: int = 0  # UDP_GRO: `data` is several datagrams of this size, the last one perhaps shorter


@dataclass(slots=True, eq=False)
class Way:
    """How one datagram leaves: what route, options and ancillary data make of it."""

    addr: bytes
    route: Route
    ttl: int
    tos: int
    df: bool  # IPv4: set DF on what fits
    cut: bool  # fragment here what does not fit


def is_any(addr: bytes) -> bool:
    """0.0.0.0 or ::."""
    return addr in (ANY4, ANY6)


class DatagramEndpoint:
    """State and verbs shared by the endpoints without connections. Verbs do not emit: packets go to the outbox."""

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
        self.errors = ErrorQueue()
        self.closed = False
        self.drops = 0  # datagrams that found the queue full
        self.memberships = Memberships()
        sysctl = stack.sysctl
        self.options = DatagramOptions(
            sysctl.rmem_default, sysctl.wmem_default, mtu_discover=DONT if sysctl.ip_no_pmtu_disc else WANT
        )
        self._queue: deque[Datagram] = deque()
        self._charge = 0
        self._sent = 0  # bytes handed to the outbox since it was last empty, at `_sent_at`
        self._sent_at = -1
        # tables' version, destination, source, SO_BINDTODEVICE
        self._route_for: tuple[int, bytes, bytes, Link | None, Route] | None = None

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

    def on_report(self, report: SockError, hard: bool) -> bool:
        """An ICMP error about a datagram of ours. True if it may teach a path MTU.

        As in Linux: with IP_RECVERR everything is queued and reported, without it only hard errors of connected
        endpoints are. "Too big" is hard unless IP_PMTUDISC_DONT; it is a rumour to those who ignore path MTUs.
        """
        v4 = len(report.dst[0]) == 4
        mode = self.options.mtu_discover if v4 else self.options.mtu_discover6
        too_big = report.errno == errno.EMSGSIZE
        if too_big and v4 and mode == DONT:
            return True
        hard = hard or (too_big and mode != DONT)
        if self.options.recverr if v4 else self.options.recverr6:
            if not self.errors.put(report, self.options.rcvbuf):
                self.drops += 1
            self.fail(report.errno)
        elif hard and self.remote is not None and self.remote[0] == report.dst[0]:
            self.fail(report.errno)
        return mode not in (INTERFACE, OMIT)

    def take_error(self) -> int:
        """The pending errno, which is gone then (SO_ERROR)."""
        err, self.error = self.error, 0
        return err

    def take_error_queue(self) -> SockError | None:
        """The oldest entry of the error queue (MSG_ERRQUEUE); the pending errno becomes the next entry's."""
        report = self.errors.take()
        if report is not None:
            following = self.errors.peek()
            self.error = 0 if following is None or following.origin == ORIGIN_LOCAL else following.errno
        return report

    def _check_open(self) -> None:
        if self.closed:
            raise StackError(errno.EBADF, "closed")

    def _raise_pending(self) -> None:
        """Where Linux takes memory for a packet: what is wrong with the datagram itself is told first."""
        if self.error:
            raise StackError(self.take_error(), "an earlier datagram was answered with an error")

    def _too_big(self, dest: SockAddr, mtu: int, size: int) -> StackError:
        """EMSGSIZE, with an entry in the error queue for who keeps one (ip_local_error)."""
        if self.options.recverr if len(dest[0]) == 4 else self.options.recverr6:
            report = SockError(errno.EMSGSIZE, ORIGIN_LOCAL, 0, 0, mtu, None, dest, b"")
            self.errors.put(report, self.options.rcvbuf)
        return StackError(errno.EMSGSIZE, f"{size} bytes do not fit a path of {mtu}")

    # --- multicast

    def join(self, group: bytes, link: Link | None = None, source: bytes | None = None) -> None:
        """Receive `group` on `link` (the one that the group is routed over), from anybody or from `source` only.

        Raises EINVAL, ENODEV, EADDRINUSE for a repetition, ENOBUFS beyond igmp_max_memberships or igmp_max_msf.
        """
        self._check_group(group)
        self._stack.multicast.join(self.memberships, group, self._group_link(group, link), source)

    def leave(self, group: bytes, link: Link | None = None, source: bytes | None = None) -> None:
        """Undo `join`. Raises EADDRNOTAVAIL."""
        self._check_group(group)
        self._stack.multicast.leave(self.memberships, group, self._group_link(group, link), source)

    def block(self, group: bytes, source: bytes, link: Link | None = None, *, unblock: bool = False) -> None:
        """Of a group joined from anybody, refuse one source, or take that back. Raises EINVAL, EADDRNOTAVAIL."""
        self._check_group(group)
        self._stack.multicast.block(self.memberships, group, self._group_link(group, link), source, unblock)

    def set_filter(self, group: bytes, sources: list[bytes], *, include: bool, link: Link | None = None) -> None:
        """The whole source filter at once (MCAST_MSFILTER). Raises as `join`."""
        self._check_group(group)
        self._stack.multicast.set_filter(self.memberships, group, self._group_link(group, link), sources, include)

    def membership(self, group: bytes, link: Link) -> Membership | None:
        """What this endpoint asked for."""
        return self.memberships.get((group, link.index))

    def hears(self, group: bytes, source: bytes, link: Link) -> bool:
        """The filter of RFC 3376 §3.1. One that was never asked hears all, unless IP_MULTICAST_ALL is off."""
        membership = self.memberships.get((group, link.index))
        return self.options.mcast_all if membership is None else membership.allows(source)

    def _check_group(self, group: bytes) -> None:
        if self.closed:
            raise StackError(errno.EBADF, "closed")
        if not is_multicast(group) or (len(group) == 16) is not self.v6:
            raise StackError(errno.EINVAL, f"{show_addr(group)} is no group for this endpoint")

    def _group_link(self, group: bytes, link: Link | None) -> Link:
        link = link or self.options.link or self._stack.multicast.link_for(group)
        if link is None:
            raise StackError(errno.ENODEV, "no link to receive the group on")
        return link

    # --- addresses

    def _check_family(self, addr: bytes) -> None:
        if len(addr) == 16 and not self.v6:
            raise StackError(errno.EAFNOSUPPORT, "an IPv6 address on an IPv4 socket")
        if len(addr) == 4 and self.v6 and self.v6only:
            raise StackError(errno.ENETUNREACH, "an IPv4 address on an IPv6-only socket")

    def _is_bound_to(self, _addr: bytes) -> bool:
        """The program chose this address, and not connect."""
        return True

    def _check_bindable(self, addr: bytes) -> None:
        self._check_family(addr)
        routes = self._stack.routes
        if not (is_any(addr) or routes.is_local(addr) or is_multicast(addr) or routes.is_broadcast(addr)):
            raise StackError(errno.EADDRNOTAVAIL, f"{show_addr(addr)} is not ours")

    def _route(self, addr: bytes, control: SendControl = _NO_CONTROL) -> tuple[bytes, Route]:
        """(destination, route) for a datagram to `addr`, from our address if we have one.

        The last route is kept while no table changes: a lookup costs ten times what this does.
        """
        stack = self._stack
        mine = self.local[0]
        known = self._route_for
        version = stack.routes.version + stack.pmtu.version
        if (
            known is not None
            and control is _NO_CONTROL
            and known[0] == version
            and known[1] == addr
            and known[2] is mine
            and known[3] is self.options.link
        ):
            return addr, known[4]
        self._check_family(addr)
        if is_any(addr):
            addr = LOOPBACK4 if len(addr) == 4 else LOOPBACK6
        routes = stack.routes
        if len(addr) == 4 and not self.options.broadcast and routes.is_broadcast(addr):
            raise StackError(errno.EACCES, "broadcast without SO_BROADCAST")
        src = control.src or (mine if routes.is_local(mine) else None)
        if src is not None and len(src) != len(addr):
            if control.src is not None or len(src) == 4 or self._is_bound_to(src):
                routes.route(addr, None, control.link or self.options.link)  # that there is none is told first
                code = errno.EAFNOSUPPORT if len(src) == 4 else errno.ENETUNREACH
                raise StackError(code, f"{show_addr(addr)} cannot be reached from {show_addr(src)}")
            src = None
        link = control.link or self.options.link
        group = is_multicast(addr)
        if group:
            link = link or self.options.mcast_link
            if src is None and len(addr) == 4:
                src = self.options.mcast_addr
        try:
            route = routes.route(addr, src, link)
        except StackError:
            stack.mib.IpOutNoRoutes += len(addr) == 4
            stack.mib.Ip6OutNoRoutes += len(addr) == 16
            raise
        if group or routes.is_broadcast(addr):
            route.many = True
            route.looped = not route.link.loopback and (  # what leaves by lo comes back anyway
                not group or (self.options.mcast_loop and stack.multicast.accepts(addr, route.src, route.link))
            )
        elif control is _NO_CONTROL:
            self._route_for = (version, addr, mine, link, route)
        return addr, route

    def _way(self, dest: bytes, control: SendControl | None) -> Way:
        """Everything that says how a datagram to `dest` leaves. Raises as `_route`."""
        options = self.options
        addr, route = self._route(dest, control or _NO_CONTROL)
        ttl, tos = options.ttl or self._stack.sysctl.ip_default_ttl, options.tos
        v4 = len(addr) == 4
        mode = options.mtu_discover if v4 else options.mtu_discover6
        if route.many and is_multicast(addr):
            ttl = options.mcast_ttl
        if control is not None:
            ttl = ttl if control.ttl is None else control.ttl
            tos = tos if control.tos is None else control.tos
            mode = DO if control.dontfrag else mode
        if mode >= PROBE and route.mtu != route.link.mtu:
            route = replace(route, mtu=route.link.mtu)
        return Way(addr, route, ttl, tos, mode in (WANT, DO, PROBE), mode < DO or mode == OMIT)

    def accepts(self, dst: bytes) -> bool:
        """True if packets to `dst` may be ours as far as family and local address go."""
        mine = self.local[0]
        if len(dst) == 4:
            return mine in (dst, ANY4) or (mine == ANY6 and not self.v6only)
        return mine in (dst, ANY6)

    # --- the send buffer

    @property
    def send_space(self) -> int:
        """Bytes that may still be sent before the outbox has drained; WRITABLE follows after it was none.

        Callers should respect it, as TcpConn's; what exceeds it is lost only when the outbox itself is full.
        """
        if self._sent_at != self._stack.drained:
            return self.options.sndbuf
        return self.options.sndbuf - self._sent

    def _charge_sent(self, size: int) -> None:
        """Account `size` bytes to the outbox; who overshoots is told when there is room again."""
        stack = self._stack
        if self._sent_at != stack.drained:
            self._sent_at, self._sent = stack.drained, 0
        self._sent += size + OVERHEAD
        if self._sent >= self.options.sndbuf:
            stack.blocked[self.id] = self

    def on_drained(self) -> None:
        """For the stack: the outbox is empty, and we had filled our part of it."""
        if not self.closed:
            self._stack.post_event(self, WRITABLE)

    def _forget_all(self) -> None:
        """What every close does."""
        self.owner = None
        self._queue.clear()
        self._charge = 0
        self.errors.clear()
        self._stack.multicast.leave_all(self.memberships)

    def check(self) -> None:
        """The charges add up; a closed endpoint holds nothing."""
        self.errors.check()
        if self._charge != sum(datagram.charge for datagram in self._queue):
            raise InvariantBroken("datagram queue charge")
        if self.closed and (self._queue or self.memberships):
            raise InvariantBroken("a closed endpoint holds datagrams or groups")
