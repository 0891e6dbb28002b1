"""The data pump of an established connection: carrier ⇄ TcpConn, never a copy of payload in Python.

Towards the program: views of the receive queue go into one writev, and only what the carrier took is consumed, so a
slow program closes the TCP window. From the program: one read gives an immutable chunk that the send queue keeps;
with a full send queue the carrier is left unread, and the program blocks or polls not-writable.
"""

import os
import socket
from collections.abc import Callable
from socket import MSG_OOB
from typing import Any, Protocol

from nuse.shim import carrier
from nuse.shim.poller import ERR, HUP, IN, OUT, Poller
from stack.errors import StackError

READ = 1 << 18  # bytes a read may take from the program at once
READ_BULK = 1 << 20  # the same when the one before it was that large
WRITE = 1 << 20  # bytes offered to the program at once
READS = 4  # chunks per turn, so that one bulk sender leaves the others their share


class Ends(Protocol):
    """Who is told how either side ends."""

    def program_half_closed(self) -> None:
        """shutdown(SHUT_WR): everything before it has been sent on."""

    def program_closed(self, unread: bool) -> None:
        """The last descriptor is closed; `unread` says that data in the carrier was not read."""

    def all_delivered(self) -> None:
        """After `fail`: the program's end of the carrier holds all that the peer had sent."""


class Pump:
    """Moves bytes while both sides live. The owner calls `to_program` on READABLE and PEER_CLOSED, `from_program` on
    WRITABLE; the poller calls `on_ready`."""

    __slots__ = (
        "_ends",
        "_eof",
        "_failing",
        "_hup",
        "_mask",
        "_poller",
        "_read",
        "_reset",
        "_wake",
        "conn",
        "discard",
        "end",
        "fd",
        "fin_passed",
    )

    def __init__(self, end: socket.socket, conn: Any, poller: Poller, ends: Ends, wake: Callable[[], None]) -> None:
        self.end = end
        self.fd = end.fileno()
        self.conn = conn
        self.discard = False  # the program did SHUT_RD: what comes is thrown away
        self._poller = poller
        self._ends = ends
        self._wake = wake
        self._read = READ  # how much to ask the carrier for
        self._eof = False  # nothing more comes from the program
        self._hup = False  # the program has closed; the poller no longer watches
        self._reset = False  # the program closed with unread data, told by a write
        self._failing = False  # the connection is dead; only the rest has to be delivered
        self.fin_passed = False  # the peer's FIN has been shown to the program: our direction of the carrier is shut
        self._mask = IN

    def start(self) -> None:
        """Begin; the poller must not know the descriptor yet."""
        self._poller.watch(self.fd, self._mask, self.on_ready)
        self.to_program()

    def _want(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            if not self._hup:
                self._poller.change(self.fd, mask)

    def on_ready(self, bits: int) -> None:
        """The carrier can be read or written, or the program has closed it."""
        if bits & OUT:
            self._want(self._mask & ~OUT)
            self.to_program()
            if self._failing and self._eof:  # that was the rest, and our end is gone
                return
        if bits & (HUP | ERR):
            self._hup = True
            self._poller.forget(self.fd)
            self._look_for_reset()  # which does not wait for room in the send queue, as what was written does
            self._reset = self._reset or self._failing  # what was still to be delivered is unread
            if self._eof or self._failing or self._reset:
                self._finish()
                return
        if bits & (IN | HUP | ERR):
            self.from_program()
        self._wake()

    def to_program(self) -> None:
        """Give the program what is in order, as much as the carrier takes, and then the end of the stream."""
        conn = self.conn
        while True:
            try:
                if conn.urgent is not None:
                    self._pass_urgent()
                if not conn.readable:
                    break
                conn.consume(os.writev(self.fd, conn.views(WRITE)))
            except BlockingIOError:
                if not self._mask & OUT:
                    self._want(self._mask | OUT)
                return
            except (BrokenPipeError, ConnectionResetError) as error:
                if not self.discard:  # closed; HUP tells next, and the unread data make it a reset
                    self._reset = self._reset or isinstance(error, ConnectionResetError)
                    return
                if conn.urgent is not None:
                    conn.urgent = None
                conn.consume(conn.readable)
        if self._failing:
            self._ends.all_delivered()
        elif conn.peer_closed and not self.fin_passed:
            self.fin_passed = True
            self.end.shutdown(socket.SHUT_WR)

    def _pass_urgent(self) -> None:
        """If the urgent byte is next, give it to the program as such; reads stop before and after it."""
        conn = self.conn
        if conn.at_mark() and conn.recvq.readable:
            self.end.send(conn.recv_urgent(peek=True), MSG_OOB)
            conn.views(0)  # steps over it

    def drain(self) -> bool:
        """Take all that the program has written so far; False if the send queue has not the room for that and more."""
        left = carrier.unread(self.end)
        while left:
            self.from_program()
            before, left = left, carrier.unread(self.end)
            if left >= before:
                return False
        return bool(self.conn.send_space > 0)

    def from_program(self) -> None:
        """Take what the program wrote while the send queue has room; all of it once the program has closed.

        Then nobody is left to hold back, and a peer that never reads must not keep the carrier: TCP gives orphans up.
        """
        conn = self.conn
        if self._eof or self._failing:
            return
        for _ in range(READS):
            room = conn.send_space
            if room <= 0 and not self._hup:
                self._want(self._mask & ~IN)  # until WRITABLE
                return
            try:
                data = os.read(self.fd, self._size(room))
            except BlockingIOError:
                break
            except ConnectionResetError:
                self._eof = self._reset = True
                self._finish()
                return
            if not data:
                self._eof = True
                self._end_of_file()
                return
            try:
                conn.send(data)
            except StackError:  # reset or timed out meanwhile: FAILED is on its way, and nobody will read this
                self._want(self._mask & ~IN)
                return
            size = len(data)
            self._read = READ_BULK if size >= READ else READ
            if size < READ // 4:
                break
        if self._hup:
            self._poller.soon(self._read_on)
        else:
            self._want(self._mask | IN)

    def _size(self, room: int) -> int:
        """How much to read at once."""
        return min(self._read, room) if self.conn.options.notsent_lowat and not self._hup else self._read

    def _read_on(self) -> None:
        """The program has closed but left more than one turn's worth, and the poller no longer tells."""
        self.from_program()
        self._wake()

    def _end_of_file(self) -> None:
        if self._hup:
            self._finish()
        else:
            self._want(self._mask & ~IN)
            self._ends.program_half_closed()

    def _look_for_reset(self) -> None:
        if not self._reset:
            self._reset = self.end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def _finish(self) -> None:
        self._look_for_reset()
        self._ends.program_closed(self._reset)

    def fail(self) -> bool:
        """The connection died: deliver what is there, then tell. True if the carrier has not the room for all of it."""
        self._failing = True
        self._want(self._mask & ~IN)
        self.to_program()
        return not self._eof

    @property
    def hung_up(self) -> bool:
        """The program has closed its end, though bytes of it may still be on their way."""
        return self._hup

    def detach(self) -> None:
        """Stop; our end stays open."""
        if not self._hup:
            self._hup = True
            self._poller.forget(self.fd)
        self._eof = True
