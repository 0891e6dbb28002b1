"""TCP of one stack: which segment is whose, who wants to send, whose deadline is next, and who is made and dropped.

`flows` maps address and port bytes, as they lie in a received packet, to connections. The heap of deadlines holds one
lazy entry a connection: it may be early, never late, so re-arming a timer costs a store.
"""

import errno
from collections import deque
from collections.abc import Callable, Container, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from stack.checksum import ones_sum
from stack.errors import Malformed, StackError
from stack.errqueue import SockError
from stack.events import CLOSED as EV_CLOSED
from stack.events import CONNECTED
from stack.ip.addr import ANY4, ANY6, is_multicast, show_addr
from stack.ip.link import Link
from stack.ip.output import OUTBOX_LIMIT
from stack.ip.route import Route
from stack.tcp.bare import build_bare, reset_numbers
from stack.tcp.cc import find_congestion_control
from stack.tcp.conn import SockAddr, TcpConn, flow_key
from stack.tcp.extension import TcpExtension
from stack.tcp.fastopen import FastOpen
from stack.tcp.input import segment_arrives
from stack.tcp.isn import IsnGenerator
from stack.tcp.lazyheap import LazyHeap
from stack.tcp.listen import TcpListener
from stack.tcp.options import TcpOptions
from stack.tcp.output import next_packet
from stack.tcp.packet import Packet
from stack.tcp.passive import PassiveOpens
from stack.tcp.ports import Binding, PortTable
from stack.tcp.recovery import on_smaller_mss
from stack.tcp.request import Request
from stack.tcp.state import CLOSED, SYN_RECEIVED, SYN_SENT, TIME_WAIT
from stack.tcp.timeouts import deadlines_pass
from stack.tcp.timers import NEVER, Timers
from stack.tcp.timewait import TimeWait
from stack.tcp.tlp import tlp_schedule
from stack.units import SEC, Nanos
from stack.wire.tcp import ACK, FIN, RST, SYN, Segment, parse
from stack.wire.vnet import VNET

if TYPE_CHECKING:
    from stack.host import Stack

Flow = TcpConn | Request | TimeWait


class TcpDemux:
    """Everything TCP of one stack."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self.sysctl = stack.sysctl
        self.mib = stack.mib
        self.isn = IsnGenerator(stack.secret)
        self.flows: dict[bytes, Flow] = {}
        self.fastopen = FastOpen(self, stack.secret)
        self.passive = PassiveOpens(self, stack.secret)
        self.ports = PortTable(stack.sysctl, stack.entropy)
        self.clock: Nanos = stack.now
        self._listeners: dict[tuple[bytes, int], list[TcpListener]] = {}
        self._dirty: deque[TcpConn] = deque()
        self._heap: list[tuple[Nanos, int, Timers]] = []
        self._time_wait: LazyHeap[TimeWait] = LazyHeap()
        self.time_waits = 0
        self.orphans: set[TcpConn] = set()
        self._challenge_second = 0
        self._challenges = 0
        self.post_event = stack.post_event
        self.next_id = stack.next_id
        self.route = stack.route
        self.on_report: Callable[[TcpConn, SockError], None] | None = None  # told of believed ICMP errors (IP_RECVERR)

    # ------------------------------------------------------------------ the program's way in

    def bind(
        self,
        addr: bytes,
        port: int,
        *,
        reuseaddr: bool = False,
        reuseport: bool = False,
        v6only: bool = False,
    ) -> Binding:
        """Hold a local port. Raises StackError EADDRNOTAVAIL, EADDRINUSE."""
        if addr not in (ANY4, ANY6) and not self._stack.routes.is_local(addr):
            raise StackError(errno.EADDRNOTAVAIL, "not an address of this stack")
        return self.ports.bind(addr, port, reuseaddr=reuseaddr, reuseport=reuseport, v6only=v6only)

    def listen(self, binding: Binding, backlog: int, options: TcpOptions | None = None) -> TcpListener:
        """Accept connections on a binding.

        Raises StackError EADDRINUSE if another listener is in the way, ENOENT for a congestion control that is none.
        """
        if options is not None and options.congestion:
            find_congestion_control(options.congestion)
        if not self.ports.may_listen(binding):
            raise StackError(errno.EADDRINUSE, f"somebody listens on port {binding.port}")
        binding.listening = True
        listener = TcpListener(self, self._stack.next_id(), binding, backlog, options or TcpOptions())
        self._listeners.setdefault((binding.addr, binding.port), []).append(listener)
        return listener

    def unlisten(self, listener: TcpListener) -> None:
        """Called by TcpListener.close."""
        same = self._listeners[listener.local]
        same.remove(listener)
        if not same:
            del self._listeners[listener.local]
        listener.binding.listening = False
        listener.binding.release()

    def connect(
        self,
        remote: SockAddr,
        now: Nanos,
        *,
        binding: Binding | None = None,
        local_addr: bytes | None = None,
        options: TcpOptions | None = None,
        extension: TcpExtension | None = None,
        data: bytes | memoryview = b"",
        fast: bool = False,
    ) -> TcpConn:
        """Open actively: a connection in SYN-SENT, which owns `binding` from now on.

        `data` goes into the SYN if the peer gave us a Fast Open cookie, else it is sent when the handshake is done;
        with `fast` so does what an extension queues before anything else happens.
        With options.fastopen_connect and a cookie no SYN leaves before the first `send`; CONNECTED is told at once.

        Raises StackError ENETUNREACH without a route or to many, EADDRNOTAVAIL without a free port or if the
        4-tuple is in use, ECONNREFUSED for port 0, EAFNOSUPPORT and ENETUNREACH if bound to the other family.
        """
        self.clock = now
        src = local_addr or (binding.addr if binding is not None and binding.addr not in (ANY4, ANY6) else None)
        if src is not None and len(src) != len(remote[0]):
            self._stack.route(remote[0], None)  # that there is none is told first
            code = errno.EAFNOSUPPORT if len(src) == 4 else errno.ENETUNREACH
            raise StackError(code, f"{show_addr(remote[0])} cannot be reached from {show_addr(src)}")
        route = self._stack.route(remote[0], src)
        if is_multicast(remote[0]) or self._stack.routes.is_broadcast(remote[0]):
            raise StackError(errno.ENETUNREACH, f"{show_addr(remote[0])} is many; RFC 9293 MUST-46")
        if not remote[1]:
            raise StackError(errno.ECONNREFUSED, "port 0")
        if binding is not None:
            local = (route.src, binding.port)
            iss = self._make_room(flow_key(remote, local), bound=True)
            if iss < 0:
                raise StackError(errno.EADDRNOTAVAIL, "this connection exists")
        else:
            local, iss = self._choose_port(route.src, remote)
        options = options.copy() if options is not None else TcpOptions()
        conn = TcpConn(
            self, self._stack.next_id(), local, remote, route.link, route.mtu, options, now, advmss=route.advmss
        )
        conn.binding = binding
        conn.ext = extension or conn.ext
        if binding is None:
            self.ports.hold_auto(local[1])
        self._start(conn, iss, now)
        conn.state = SYN_SENT
        conn.syn_due = True
        if data or fast or options.fastopen_connect:
            self._open_fast(conn, data, fast, now)
        self.mib.TcpActiveOpens += 1
        self.trace("opened", conn)
        self.mark(conn)
        return conn

    def _open_fast(self, conn: TcpConn, data: bytes | memoryview, fast: bool, now: Nanos) -> None:
        """RFC 7413 §4.2.1."""
        opened = conn.fastopen = self.fastopen.begin(conn.remote[0], now)
        if data:
            conn.send(data)
        elif opened is not None and opened.cookie is not None and not fast:
            opened.deferred = True
            conn.syn_due = False
            conn.post(CONNECTED)

    def _choose_port(self, src: bytes, remote: SockAddr) -> tuple[SockAddr, int]:
        start = self.isn.port_offset(src + remote[0] + remote[1].to_bytes(2, "big"))
        for count, port in enumerate(self.ports.candidates(start), 1):
            if not self.ports.bound(port):
                iss = self._make_room(flow_key(remote, (src, port)), bound=False)
                if iss >= 0:
                    self.ports.tried(start, count)
                    return (src, port), iss
        raise StackError(errno.EADDRNOTAVAIL, "all ephemeral ports are in use")

    def _make_room(self, key: bytes, *, bound: bool) -> int:
        """−1 if no new connection may have this key; else the ISS that it must have, 0 for any.

        Ends one in TIME-WAIT that may be followed already, RFC 6191.
        """
        old = self.flows.get(key)
        if old is None:
            return 0
        if isinstance(old, TimeWait) and old.reusable(self.clock, bound=bound):
            self.mib.TcpExtTWRecycled += 1
            self.end_time_wait(old)
            return old.next_iss
        return -1

    def _start(self, conn: TcpConn, iss: int, now: Nanos) -> None:
        fresh, ts_offset = self.isn.iss_and_ts_offset(conn.key, now)
        conn.set_iss(iss or fresh, ts_offset)
        self.flows[conn.key] = conn

    def route_over(self, link: Link, dst: bytes, src: bytes) -> Route:
        """The way back to `dst` over the link that it was heard on. Raises StackError."""
        return self._stack.routes.route(dst, src, link)

    def conns(self) -> Iterator[Flow]:
        """Every connection, half-open ones and those in TIME-WAIT included."""
        return iter(list(self.flows.values()))

    def listeners(self) -> Iterator[TcpListener]:
        """Every listener."""
        return iter([each for same in self._listeners.values() for each in same])

    # ------------------------------------------------------------------ packets in

    def receive(
        self, pkt: bytes, l3: int, l4: int, end: int, key: bytes, link: Link, tos: int, csum_ok: bool, now: Nanos
    ) -> None:
        """One TCP packet for an address of ours. Raises Malformed."""
        self.clock = now
        mib = self.mib
        mib.TcpInSegs += 1
        if not csum_ok and not _checksum_ok(pkt, l4, end, key):
            mib.TcpInErrs += 1
            mib.TcpInCsumErrors += 1
            return
        try:
            seg = parse(pkt, l4, end)
        except Malformed:
            mib.TcpInErrs += 1
            raise
        if tos & 3:
            seg.ecn = tos & 3
        if pkt[1] and (size := VNET.unpack_from(pkt)[3]):
            seg.packets = -(-seg.length // size) or 1
        conn = self.flows.get(key)
        if conn is not None:
            if isinstance(conn, TcpConn):
                segment_arrives(conn, seg, now)
            elif isinstance(conn, Request):
                self.passive.segment_arrives(conn, seg, now)
            elif conn.on_segment(seg, now):
                self._reopen(conn, seg, now, pkt[l3 : end - seg.length])
            return
        self._no_connection(key, seg, link, now, pkt[l3 : end - seg.length] if seg.flags & SYN else b"")

    def _reopen(self, old: TimeWait, seg: Segment, now: Nanos, head: bytes) -> None:
        """A SYN that may follow a connection in TIME-WAIT, if somebody listens (RFC 9293 MAY-2, RFC 6191)."""
        listener = self._find_listener(old.local, old.key)
        if listener is None:
            old.owe_ack(seg, now)
        else:
            self.end_time_wait(old)
            self.passive.syn_arrives(listener, old.key, seg, old.link, now, old.next_iss, head)

    def _no_connection(self, key: bytes, seg: Segment, link: Link, now: Nanos, head: bytes) -> None:
        """RFC 9293 §3.10.7.1 (CLOSED) and §3.10.7.2 (LISTEN)."""
        if seg.flags & RST:
            return
        size = (len(key) - 4) // 2
        local = (key[size:-4], int.from_bytes(key[-2:], "big"))
        listener = self._find_listener(local, key)
        if listener is None:
            self._reset(key, seg, link)
        elif seg.flags & ACK:
            if not self.passive.ack_arrives(listener, key, seg, link, now):
                self._reset(key, seg, link)
        elif seg.flags & (SYN | FIN) == SYN:
            self.passive.syn_arrives(listener, key, seg, link, now, head=head)

    def _find_listener(self, local: SockAddr, key: bytes) -> TcpListener | None:
        addr, port = local
        listeners = self._listeners
        found = (
            listeners.get(local)
            or listeners.get((ANY4 if len(addr) == 4 else ANY6, port))
            or (listeners.get((ANY6, port)) if len(addr) == 4 else None)
        )
        if not found:
            return None
        if len(addr) == 4 and found[0].binding.addr == ANY6 and found[0].binding.v6only:
            return None
        if len(found) == 1:
            return found[0]
        return found[self.isn.port_offset(key) % len(found)]  # SO_REUSEPORT: spread by flow

    def _reset(self, key: bytes, seg: Segment, link: Link) -> None:
        size = (len(key) - 4) // 2
        try:
            route = self._stack.route(key[:size], key[size:-4])
        except StackError:
            return
        self.reset_for_key(key, seg, link if link.loopback else route.link)

    def reset_for_key(self, key: bytes, seg: Segment, link: Link, options: bytes = b"") -> None:
        """Answer a segment with RST, out of `link`."""
        seq, ack, flags = reset_numbers(seg)
        self.mib.TcpOutRsts += 1
        self.emit_bare(key, seq, ack, flags, link, options=options)

    def emit_bare(
        self,
        key: bytes,
        seq: int,
        ack: int,
        flags: int,
        link: Link,
        *,
        wnd: int = 0,
        options: bytes = b"",
        ttl: int = 0,
        tos: int = 0,
    ) -> None:
        """Put a segment without text and without connection into the outbox, if there is room."""
        outbox = self._stack.outbox
        if len(outbox) >= OUTBOX_LIMIT:
            self.mib.NuseOutboxDrops += 1
            self.mib.TcpExtTCPAbortFailed += 1 if flags & RST else 0
            link.stats.tx_dropped += 1
            return
        self.mib.TcpOutSegs += 1
        ttl = ttl or self.sysctl.ip_default_ttl
        label = self.isn.port_offset(key) & 0xFFFFF if len(key) > 12 and not flags & RST else 0
        packet = build_bare(
            key, seq, ack, flags, wnd=wnd, options=options, offload=link.offload, ttl=ttl, tos=tos, label=label
        )
        outbox.append((link, (packet,)))

    def reset_for(self, conn: TcpConn, seg: Segment) -> None:
        """Answer a segment that belongs to no synchronised state of `conn`, RFC 9293 §3.10.7.3–4."""
        self.reset_for_key(conn.key, seg, conn.link)

    def icmp_error(
        self,
        key: bytes,
        err: int,
        hard: bool,
        mtu: int | None,
        seq: int,
        now: Nanos,
        report: SockError | None = None,
    ) -> None:
        """An ICMP error quoted a segment of ours; RFC 5927 §4: only one that is in flight is believed."""
        conn = self.flows.get(key)
        if conn is None or not conn.in_flight_at(seq):
            return
        if not isinstance(conn, TcpConn):
            return  # a peer behind trouble tries again, or we do
        if report is not None and self.on_report is not None:
            self.on_report(conn, report)
        if mtu is not None:
            self._smaller_mtu(conn, mtu, now)
        elif conn.state is SYN_SENT or conn.state is SYN_RECEIVED:
            if conn.listener is None:
                self.trace("unreachable", conn)
                self.mib.TcpAttemptFails += 1
                conn.fail(err)
        else:
            conn.soft_error = err  # remembered for the day it times out (RFC 1122 §4.2.3.9, RFC 5461)

    def _smaller_mtu(self, conn: TcpConn, mtu: int, now: Nanos) -> None:
        if mtu >= conn.mtu:
            return
        conn.mtu = mtu
        old = conn.tcb.mss_cache
        conn.sync_mss()
        if conn.tcb.mss_cache < old:
            on_smaller_mss(conn, now)
        self.mark(conn)

    def link_mtu_changed(self, link: Link) -> None:
        """The device's MTU changed: every connection over it follows."""
        for conn in list(self.flows.values()):
            if conn.link is link and isinstance(conn, TcpConn):
                if link.mtu < conn.mtu:
                    self._smaller_mtu(conn, link.mtu, self.clock)
                else:
                    self._larger_mtu(conn)

    def pmtu_raised(self, destinations: Container[bytes]) -> None:
        """What was known about these paths is too old (RFC 8201 §4): try the links' MTU again."""
        for conn in self.flows.values():
            if isinstance(conn, TcpConn) and conn.remote[0] in destinations:
                self._larger_mtu(conn)

    def _larger_mtu(self, conn: TcpConn) -> None:
        try:
            mtu = self._stack.route(conn.remote[0], conn.local[0]).mtu
        except StackError:
            return
        if mtu > conn.mtu:
            conn.mtu = mtu
            conn.sync_mss()

    # ------------------------------------------------------------------ packets out, and time

    def mark(self, conn: TcpConn) -> None:
        """`conn` may have something to send, or another deadline."""
        if not conn.dirty:
            conn.dirty = True
            self._dirty.append(conn)

    @property
    def marked(self) -> bool:
        """Some connection is."""
        return bool(self._dirty)

    def poll_transmit(self, now: Nanos) -> Packet | None:
        """The next packet of any connection, in turn; each connection is asked until it is content."""
        self.clock = now
        dirty = self._dirty
        while dirty:
            conn = dirty[0]
            packet = next_packet(conn, now)
            if packet is not None:
                if len(dirty) > 1:
                    dirty.rotate(-1)
                return packet
            dirty.popleft()
            conn.dirty = False
            timers = conn.timers
            if conn.tlp_stale:
                conn.tlp_stale = False
                tlp_schedule(conn, now)
            earliest = min(timers.at)
            if earliest < timers.heap_at:
                timers.heap_at = earliest
                timers.conn = conn
                heappush(self._heap, (earliest, conn.id, timers))
        return None

    def poll_timeout(self) -> Nanos | None:
        """The earliest deadline; may be earlier than anything that is really due."""
        requests, shadows = self.passive.poll_timeout(), self._time_wait.earliest()
        earliest = self._heap[0][0] if self._heap else NEVER
        if requests is not None and requests < earliest:
            earliest = requests
        if shadows is not None and shadows < earliest:
            earliest = shadows
        return earliest if earliest != NEVER else None

    def handle_timeout(self, now: Nanos) -> None:
        """Run what is due by `now`."""
        self.clock = now
        self.passive.handle_timeout(now)
        for shadow in self._time_wait.due(now):
            self.mib.TcpExtTW += 1
            self.end_time_wait(shadow)
        heap = self._heap
        while heap and heap[0][0] <= now:
            deadline, ident, timers = heappop(heap)
            conn = timers.conn
            if deadline != timers.heap_at or conn is None:
                continue  # an earlier deadline took this entry's place, or the connection is gone
            timers.heap_at = NEVER
            earliest = min(timers.at)
            if earliest <= now:
                deadlines_pass(conn, now)
            elif earliest != NEVER:
                timers.heap_at = earliest
                heappush(heap, (earliest, ident, timers))

    def may_challenge(self, now: Nanos) -> bool:
        """RFC 5961 §7: so many challenge ACKs a second for the whole stack."""
        second = now // SEC
        if second != self._challenge_second:
            self._challenge_second = second
            self._challenges = 0
        self._challenges += 1
        return self._challenges <= self.sysctl.tcp_challenge_ack_limit

    # ------------------------------------------------------------------ the end of a connection

    def orphaned(self, conn: TcpConn) -> bool:
        """The program closed it, and it lives on to send what is left; False if there are tcp_max_orphans of them."""
        if len(self.orphans) >= self.sysctl.tcp_max_orphans:
            return False
        self.orphans.add(conn)
        return True

    def begin_time_wait(self, conn: TcpConn, now: Nanos) -> None:
        """A light shadow takes the connection's place, or nothing if there are tcp_max_tw_buckets of them."""
        self.orphans.discard(conn)
        shadow = TimeWait(self, conn.id, conn.key, conn.link, conn.tcb, now)
        shadow.tos, shadow.ttl = conn.tos, conn.ttl
        conn.timers.conn = None
        shadow.binding, conn.binding = conn.binding, None
        if not conn.orphan or conn.ext is not None:
            shadow.conn = conn
        if self.time_waits >= self.sysctl.tcp_max_tw_buckets:
            self.mib.TcpExtTCPTimeWaitOverflow += 1
            shadow.acknowledge(now)
            del self.flows[conn.key]
            self._release(shadow)
            conn.closed()
            self.trace("closed", conn)
            return
        self.flows[conn.key] = shadow
        self._time_wait.push(shadow)
        self.time_waits += 1

    def end_time_wait(self, shadow: TimeWait) -> None:
        """The shadow leaves the tables; a program that still holds the connection is told."""
        shadow.deadline = NEVER
        self.time_waits -= 1
        if self.flows.get(shadow.key) is shadow:
            del self.flows[shadow.key]
        self._release(shadow)
        conn, shadow.conn = shadow.conn, None
        if conn is not None:
            conn.closed()
        self.trace("closed", shadow if conn is None else conn)

    def _release(self, flow: TcpConn | TimeWait) -> None:
        """Give its port back."""
        if flow.binding is not None:
            flow.binding.release()
            flow.binding = None
        else:
            self.ports.drop_auto(flow.local[1])

    def drop(self, conn: TcpConn) -> None:
        """The connection leaves the tables, whatever state it was in; what is in TIME-WAIT leaves its shadow there."""
        held = self.flows.get(conn.key)
        if held is conn:
            del self.flows[conn.key]
        elif isinstance(held, TimeWait) and held.conn is conn and conn.state is TIME_WAIT:
            if conn.ext is None:
                held.conn = None
                conn.forget_queues()
                conn.post(EV_CLOSED)
            return
        elif conn.state is CLOSED or conn.state is TIME_WAIT:
            return
        self.orphans.discard(conn)
        if conn.fastopen is not None:
            conn.fastopen.over()
            self.fastopen.worked(conn)
        if conn.listener is not None:
            conn.listener.forget(conn)
            conn.listener = None
        self._release(conn)
        conn.closed()
        self.trace("closed", conn)

    def trace(self, name: str, conn: Any) -> None:
        """Tell the stack's tracer, if there is one."""
        tracer = self._stack.tracer
        if tracer is not None:
            tracer(name, conn)

    def check(self) -> None:
        """Raise InvariantBroken if any connection or table contradicts itself."""
        self.ports.check()
        for conn in self.flows.values():
            conn.check()


def _checksum_ok(pkt: bytes, l4: int, end: int, key: bytes) -> bool:
    total = ones_sum(memoryview(pkt)[l4:end]) + ones_sum(key[:-4]) + 6 + end - l4
    return total % 0xFFFF == 0
