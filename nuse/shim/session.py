"""One filtered process tree: its listener, its notifications, the memory of the task that made the current one."""

import asyncio
import errno
import logging
import os
import struct
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from nuse.shim import memory, sockaddr
from nuse.shim.notif import Listener, Notification
from nuse.shim.restart import NotYet, Restarts
from stack.errors import StackError

if TYPE_CHECKING:
    from nuse.shim.hub import Hub
    from nuse.shim.policy import Policy
    from nuse.shim.sock import Pending, Socket

log = logging.getLogger("nuse.shim")

CONTINUE = 1 << 62  # a handler's result: the kernel is to do it
CALLS = 8  # served at a stretch after a long turn of the loop
LONG_TURN = 300_000  # ns
A_MOMENT = 0.001  # seconds
WAITING_UNSEEN = 16  # blocked calls that are not looked after: each may be that of a task that died
LATER = None  # a handler's result: answered already, or when something happens
_INT = struct.Struct("=i")


class Interrupted(Exception):
    """The notification died while it was being handled: nobody is there to answer."""


Handler = Callable[["Session", Notification], int | None]


def signed(register: int) -> int:
    """A C int in a 64-bit register."""
    register &= 0xFFFFFFFF
    return register - (1 << 32) if register & 0x80000000 else register


class Session:
    """Serves one listener until every task under its filter is gone.

    A call's handler returns a result, or raises OSError for an errno. If the answer finds nobody, because a signal
    interrupted the call after its work was done, the result is kept and given to the call's restart.
    """

    def __init__(
        self, hub: "Hub", listener_fd: int, pid: int, policy: "Policy", handlers: dict[int, Handler], home: int = 0
    ) -> None:
        self.hub = hub
        self._home = home
        self._home_name = f"net:[{home}]"
        self.pid = pid
        self.policy = policy
        self.listener = Listener(listener_fd)
        self.pending: dict[int, Pending] = {}  # task → its call that is answered later
        self.closed: asyncio.Future[None] = hub.loop.create_future()
        self.calls = 0
        self._handlers = handlers
        self._restarts = Restarts()
        self._taken = hub.ledger.taken
        self._look_at = WAITING_UNSEEN
        self._looked = 0  # when calls were served last
        hub.loop.add_reader(self.listener.watched, self._on_readable)

    def _on_readable(self) -> None:
        """Serve one call; several where the loop's last turn was long, else data would starve calls."""
        now = monotonic_ns()
        late = now - self._looked > LONG_TURN
        fd = self.listener.fd
        for served in range(CALLS if late else 1):
            n = self.listener.receive()
            if n is None:
                if not served and self.listener.hung_up():
                    self.close()
                    return
                break
            self._taken[fd] = n.id
            self.calls += 1
            self._serve(n)
            if self.closed.done():
                return
        self._looked = monotonic_ns() if late else now

    def again(self, n: Notification) -> None:
        """Handle a notification once more that could not be answered at first."""
        if not self.closed.done() and self.listener.valid(n.id):
            self._serve(n)

    def wait(self, pending: "Pending") -> None:
        """One more blocked call. The death of a task that waits is told by nobody, so now and then all are asked."""
        if len(self.pending) >= self._look_at:
            self.drop_dead()
        self.pending[pending.n.tid] = pending

    def drop_dead(self) -> None:
        """Forget blocked calls that nobody waits for any more."""
        for pending in list(self.pending.values()):
            if not self.listener.valid(pending.n.id):
                pending.drop()
        self._look_at = max(WAITING_UNSEEN, 2 * len(self.pending))

    def _serve(self, n: Notification) -> None:
        older = self.pending.get(n.tid)
        if older is not None:  # a task makes one call at a time, so that one was interrupted
            older.drop()
        result = LATER
        if self._restarts.remembers(n.tid):
            try:
                result = self._restarts.result_for(n)
            except NotYet:
                self.hub.loop.call_later(A_MOMENT, self.again, n)
                return
        if result is LATER:
            result = self._handle(n)
        if result is LATER:
            n.late = True
            return
        if result == CONTINUE:
            self.listener.cont(n.id)
        else:
            self.answer(n, result)

    def answer(self, n: Notification, result: int) -> bool:
        """Answer a call whose work is done; if a signal interrupted it, its restart will get the result."""
        if self.reply(n, result):
            return True
        self.unanswered(n, result)
        return False

    def unanswered(self, n: Notification, result: int) -> None:
        """A call had this result when a signal interrupted it."""
        self._restarts.lost(n, result)

    def reply(self, n: Notification, result: int) -> bool:
        """Answer a call; False if nobody waits any more and the caller has to undo it."""
        if not self.listener.reply(n.id, result):
            return False
        self._restarts.answered(n, result)
        return True

    def _handle(self, n: Notification) -> int | None:
        try:
            return self._handlers[n.nr](self, n)
        except OSError as error:
            return -(error.errno or errno.EIO)
        except Interrupted:
            return LATER
        except Exception:  # our bug must not leave the program waiting for ever
            log.exception("system call %d of task %d", n.nr, n.tid)
            return -errno.EIO

    # ------------------------------------------------------------------ what handlers ask

    def socket_of(self, n: Notification) -> "Socket | None":
        """The socket that the first argument names, None if it is foreign."""
        fd = signed(n.args[0])
        hub = self.hub
        sock = hub.sockets.get(hub.names.of(n.tid, fd))
        if sock is not None:
            sock.hint = (n.tid, fd)
        return sock

    def read(self, n: Notification, address: int, size: int) -> bytes:
        """The program's memory, and certainly that program's: its task id may be another's once the call is dead."""
        try:
            data = memory.read(n.tid, address, size)
        except OSError:
            if not self.listener.valid(n.id):
                raise Interrupted from None
            raise
        if n.late and not self.listener.valid(n.id):
            raise Interrupted
        return data

    def write(self, n: Notification, *pieces: tuple[int, bytes]) -> None:
        """Into the program's memory, (address, data) each; not after its call was interrupted."""
        if not self.listener.valid(n.id):
            raise Interrupted
        try:
            memory.write(n.tid, *pieces)
        except ProcessLookupError:
            raise Interrupted from None

    def read_int(self, n: Notification, address: int) -> int:
        """A C int."""
        return int(_INT.unpack(self.read(n, address, 4))[0])

    def write_int(self, n: Notification, address: int, value: int) -> None:
        """A C int."""
        self.write(n, (address, _INT.pack(value)))

    def read_sockaddr(self, n: Notification, address: int, length: int) -> bytes:
        """A sockaddr argument; EINVAL for an impossible length, EFAULT for a bad pointer."""
        length = signed(length)
        if not 0 <= length <= sockaddr.SOCKADDR_MAX:
            raise StackError(errno.EINVAL, f"sockaddr length {length}")
        return self.read(n, address, length)

    def write_sockaddr(self, n: Notification, raw: bytes, address: int, length_at: int) -> None:
        """A sockaddr result: cut to the program's room, with the full length told, as the kernel does."""
        room = self.read_int(n, length_at)
        if room < 0:
            raise StackError(errno.EINVAL, f"room {room} for an address")
        self.write_sized(n, raw[:room], address, length_at, room, len(raw))

    def write_sized(self, n: Notification, data: bytes, address: int, length_at: int, before: int, length: int) -> None:
        """A result, and its length in place of the room that the program gave, unless it is the same."""
        if length == before:
            if data:
                self.write(n, (address, data))
            return
        told = (length_at, _INT.pack(length))
        if data:
            self.write(n, (address, data), told)
        else:
            self.write(n, told)
        n.witness = (length_at, length)

    @property
    def shares_our_network(self) -> bool:
        """Its programs began in the stack's own network namespace."""
        return not self._home or os.stat("/proc/self/ns/net").st_ino == self._home

    def at_home(self, tid: int) -> bool:
        """The task is in the network namespace that its tree began in, and has not made or entered another."""
        if not self._home:
            return True
        try:
            return os.readlink(f"/proc/{tid}/ns/net") == self._home_name  # a third of what stat takes
        except OSError:  # out of our reach, as without root in another user namespace
            return True

    def capable(self, tid: int, capability: int) -> bool:
        """The task has an effective capability."""
        with open(f"/proc/{tid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"CapEff:"):
                    return bool(int(line.split()[1], 16) >> capability & 1)
        return False

    def close(self) -> None:
        """Serve no more. Tasks that are left get ENOSYS from every notified call."""
        if self.closed.done():
            return
        for pending in list(self.pending.values()):
            pending.drop()
        self.hub.loop.remove_reader(self.listener.watched)
        self._taken[self.listener.fd] = 0
        self.listener.close()
        self.closed.set_result(None)
