"""A program's UDP, echo ("ping") or raw socket: datagrams between a SOCK_SEQPACKET carrier and the stack's endpoint.

Received datagrams are put into the carrier, so that poll, read and recv work natively; who sent each is kept in
`entries` beside it. When a program asks for the address, the supervisor takes the datagram out through a copy of the
program's end. It knows which entry that is even if the program mixed in plain reads: SIOCOUTQ of our end is the
memory of what has not been taken, each datagram's share depends on its length alone, so what is missing has been
read.

An asynchronous error (ICMP port unreachable) cannot make an AF_UNIX socket poll ERR, so an empty datagram wakes the
program; the notified calls and SO_ERROR then give the errno, a plain recv gives 0 bytes.
"""

import contextlib
import errno
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from nuse.shim import carrier
from nuse.shim.hub import Hub
from nuse.shim.poller import ERR, HUP, IN, OUT
from nuse.shim.sock import SockAddr, Socket
from stack.dgram_options import SendControl
from stack.errors import StackError
from stack.errqueue import SockError
from stack.events import FAILED

LARGEST = 65536
SENDS = 64  # datagrams taken from one program per turn


@dataclass(slots=True, eq=False)
class Entry:
    """What is known of a datagram in the carrier. `addr` None: the marker of an asynchronous error."""

    addr: SockAddr | None
    dst: bytes
    ttl: int
    tos: int
    link_index: int
    stamp: int  # CLOCK_REALTIME ns
    charge: int = 0
    segment: int = 0  # UDP_GRO


class _Charges:
    """SIOCOUTQ of one datagram by length, measured once per length on a pair of our own."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def of(self, length: int) -> int:
        charge = self._known.get(length)
        if charge is None:
            if self._pair is None:
                self._pair = carrier.make_pair(socket.SOCK_SEQPACKET, nonblock=True)
            ours, theirs = self._pair
            ours.send(bytes(length))
            charge = self._known[length] = carrier.untaken(ours)
            theirs.recv(length + 1)  # Python does nothing for recv(0)
        return charge


_charges = _Charges()


class DatagramSocket(Socket):
    """See the module. `waiting` holds blocked receive calls, each with a `serve(entry, data)`."""

    __slots__ = ("_held", "_mask", "_retired", "_total", "endpoint", "entries", "shut_read", "shut_write")

    def __init__(
        self,
        hub: Hub,
        v6: bool,
        proto: int,
        end: socket.socket,
        name: str,
        endpoint: Any,
        kind: int = socket.SOCK_DGRAM,
    ) -> None:
        super().__init__(hub, v6, kind, proto, end, name)
        self.endpoint = endpoint
        endpoint.owner = self
        self.entries: deque[Entry] = deque()
        self._total = 0  # charges of `entries`
        self._held: deque[tuple[Entry, bytes | memoryview]] = deque()  # go first: did not fit, or came back
        self._mask = IN
        self.shut_read = self.shut_write = False
        self._retired = False  # it is shut in both directions, so its close is not seen
        hub.add(self)
        hub.poller.watch(end.fileno(), IN, self._on_ready)

    @property
    def is_udp(self) -> bool:
        """A UDP socket, and not a ping or raw one."""
        return self.kind == socket.SOCK_DGRAM and self.proto == socket.IPPROTO_UDP

    # ------------------------------------------------------------------ towards the program

    def on_events(self, mask: int) -> None:
        """Datagrams or an error."""
        if mask & FAILED:
            self.error = self.endpoint.take_error() or self.error
            if self.error and self.waiting:
                self.waiting[0].finish(-self.take_error())
            elif self.error and not self._retired:
                self._put(Entry(None, b"", 0, 0, 0, 0), b"")
        self.deliver()

    def next(self) -> tuple[Entry, bytes | memoryview] | None:
        """The oldest datagram that is not in the carrier."""
        if self._held:
            return self._held.popleft()
        datagram = self.endpoint.recv()
        if datagram is None:
            return None
        entry = Entry(
            (datagram.addr, datagram.port),
            datagram.dst,
            datagram.ttl,
            datagram.tos,
            datagram.link.index,
            time.time_ns(),
            segment=datagram.segment,
        )
        return entry, datagram.data

    def deliver(self) -> None:
        """Answer blocked receivers, then fill the carrier."""
        while not self._retired:
            if self._mask & OUT and not self.waiting:
                return
            found = self.next()
            if found is None:
                return
            if self.waiting and found[0].addr is None:
                if self.error:
                    self.waiting[0].finish(-self.take_error())
            elif self.waiting:
                self.waiting[0].serve(*found)
            elif not self._put(*found):
                return

    def give_back(self, entry: Entry, data: bytes | memoryview) -> None:
        """A receiver was interrupted before it got this one: it is the next again."""
        self._held.appendleft((entry, data))
        self.deliver()

    def _put(self, entry: Entry, data: bytes | memoryview) -> bool:
        try:
            self.end.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self._held.appendleft((entry, data))
            self._want(self._mask | OUT)
            return False
        except OSError:  # closed; HUP tells next
            return False
        entry.charge = _charges.of(len(data))
        self._total += entry.charge
        self.entries.append(entry)
        return True

    def settle(self) -> None:
        """Forget the entries of datagrams that the program has taken by plain reads."""
        if self._retired:
            return
        left = carrier.untaken(self.end)
        while self._total > left and self.entries:
            self._total -= self.entries.popleft().charge

    def take(self, theirs: socket.socket, peek: bool) -> tuple[Entry, bytes] | None:
        """The next datagram out of the carrier, or None; `theirs` is a copy of the program's end."""
        self.settle()
        while self.entries:
            entry = self.entries[0]
            try:
                data = theirs.recv(LARGEST, socket.MSG_DONTWAIT | (socket.MSG_PEEK if peek else 0))
            except BlockingIOError:  # another thread was faster
                return None
            if not peek or entry.addr is None:
                self.entries.popleft()
                self._total -= entry.charge
            if entry.addr is not None:
                return entry, data
            if peek:
                theirs.recv(1, socket.MSG_DONTWAIT)
            if self.error:
                raise StackError(self.take_error(), "an earlier datagram was answered with an error")
        return None

    def take_report(self, theirs: socket.socket) -> SockError | None:
        """The oldest entry of the error queue. The pending errno follows it, and the markers go when it is none."""
        report: SockError | None = self.endpoint.take_error_queue()
        if report is not None:
            self.error = self.endpoint.take_error()
        if not self.error:
            self._drop_markers(theirs)
        return report

    def take_error(self) -> int:
        """SO_ERROR, or any other way to be told; nothing is left that polls."""
        error = super().take_error()
        if error and not self._retired and (theirs := self.copy()) is not None:
            with theirs:
                self._drop_markers(theirs)
        return error

    def _drop_markers(self, theirs: socket.socket) -> None:
        """Take the markers of errors out of the carrier, unless datagrams lie before them."""
        self.settle()
        while self.entries and self.entries[0].addr is None:
            with contextlib.suppress(BlockingIOError):
                theirs.recv(1, socket.MSG_DONTWAIT)
            self._total -= self.entries.popleft().charge

    # ------------------------------------------------------------------ from the program

    def _want(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            self.hub.poller.change(self.end.fileno(), mask)

    def _on_ready(self, bits: int) -> None:
        if bits & OUT:
            self._want(self._mask & ~OUT)
            self.deliver()
        if bits & (IN | HUP | ERR):
            self.send_pending(closed=bool(bits & (HUP | ERR)))
        if bits & (HUP | ERR):
            if self.shut_read and self.shut_write:
                self._retire()
            else:
                self._closed()

    def send_pending(self, *, closed: bool = False) -> None:
        """Send what the program has written natively."""
        sent = 0
        while sent < SENDS or closed:
            try:
                data = self.end.recv(LARGEST)
            except OSError:
                break
            if not data and (closed or self.shut_write) and not carrier.unread(self.end):
                if not closed:
                    self._want(self._mask & ~IN)
                break
            sent += 1
            self._send_native(data)
        if sent:
            self.hub.wake()

    def _send_native(self, data: bytes) -> None:
        """The program was told long ago that this is sent, so an errno has nowhere to go, as with a lost datagram."""
        try:
            self.endpoint.sendto(data, None, self.hub.now())
        except StackError as error:
            if error.errno == errno.ECONNREFUSED and not self.error:
                self.error = error.errno

    def send(self, data: bytes, dest: SockAddr | None, control: SendControl | None = None) -> int:
        """A notified sendto or sendmsg."""
        if not self._retired:
            self.send_pending()
        pending = self.error or (errno.EPIPE if self.shut_write else 0)
        if pending:
            self.endpoint.error = pending  # it is told there, unless something else is first
        try:
            self.endpoint.sendto(data, dest, self.hub.now(), control)
        finally:
            if pending and not self.endpoint.take_error() and self.error:
                self.take_error()
        self.hub.wake()
        return len(data)

    # ------------------------------------------------------------------ names and ends

    def local_address(self) -> SockAddr | None:
        """getsockname."""
        local: SockAddr = self.endpoint.local
        return local

    def remote_address(self) -> SockAddr | None:
        """getpeername; None without a port, too."""
        remote: SockAddr | None = self.endpoint.remote
        return remote if remote is not None and remote[1] else None

    def stop_reading(self) -> None:
        """SHUT_RD: who waits gets nothing."""
        self.shut_read = True
        for waiting in list(self.waiting):
            waiting.stop()

    @property
    def named(self) -> bool:
        """It has a port, or identifier."""
        return bool(self.endpoint.local[1])

    @property
    def held(self) -> Any:
        """A UDP endpoint is its own hold on the port."""
        return self.endpoint if self.is_udp else None

    def held_port(self) -> int | None:
        """Its port, or identifier; 0 if it has none yet."""
        port: int = self.endpoint.local[1]
        return None if self.endpoint.closed else port

    def release_port(self) -> None:
        """The endpoint is over."""
        self.endpoint.owner = None
        self.endpoint.close()

    def _retire(self) -> None:
        """After SHUT_RDWR HUP is spent; nothing moves any more, but the socket has its port and its options."""
        self._retired = True
        self.forget_end()
        self.hub.retire(self)

    def _closed(self) -> None:
        self.endpoint.owner = None
        self.endpoint.close()
        for waiting in list(self.waiting):
            waiting.finish(0)
        self.hub.remove(self)
        self.forget_end()
        self.hub.wake()

    def leave(self) -> None:
        """The program has a socket of the kernel in its place; who waits goes on waiting there."""
        for waiting in list(self.waiting):
            waiting.hand_on()
        self._closed()

    def kill(self) -> None:
        """The stack goes away."""
        theirs = self.copy()
        if theirs is not None:
            carrier.spoil(theirs)
            theirs.close()
        for waiting in list(self.waiting):
            waiting.finish(-errno.ENETDOWN)
        if not self._retired:
            self._closed()
