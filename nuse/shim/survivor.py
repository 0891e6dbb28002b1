"""A small process that holds what the stack holds, and does what is left to do when the stack is killed.

It shares the stack's table of descriptors (clone with CLONE_FILES and nothing else), so it costs nothing while the
stack lives, knows every carrier without being told, and nothing of the stack is closed before it has seen to it: a
kill -9 ends the stack's process, not the table. Then it

 - closes what others wait for: the stack's devices, its claim, its sockets;
 - leaves a byte unread in each carrier before it closes that one, so programs get ECONNRESET and not an end of file;
 - ends the calls that the stack had taken and not answered, with ENETDOWN;
 - goes on answering new ones, until the last program is gone: `socket` with ENETDOWN, while all else is done by the
   kernel on what is left of the carrier, where `accept` finds no listener (EINVAL, which ends a server that would try
   again for ever after ENETDOWN or ENOSYS).

A stack that stops by itself hands the last part over, if programs outlive it.

All signals are blocked in it: the handlers that it was born with write into pipes of the stack.
"""

import contextlib
import errno
import fcntl
import gc
import logging
import os
import select
import socket
import stat
from typing import NoReturn

from nuse.shim import abi, carrier, native
from nuse.shim.fdtable import Tasks, file_name, inode_of
from nuse.shim.ledger import DESCRIPTORS, Ledger
from nuse.shim.notif import Listener, Notification

log = logging.getLogger("nuse.survivor")

NAME = b"nuse-survivor"
_WALL = 0x40000000  # waitpid: children that send no SIGCHLD, too
_ROOMY = 65536  # descriptors: beyond that the table grows, and waits for all CPUs each time as it is shared
_HAND_OVER = 5.0  # seconds that a stopping stack gives its survivor
_IN_FLIGHT = 4096  # notifications back from the last taken one that may still be unanswered
_NEXT = 16  # and forth: taken, but not written down
_LISTENER = "anon_inode:seccomp notify"


class Survivor:
    """Made by a stack before it serves programs. Raises OSError where the system has no more processes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ours, theirs = socket.socketpair()
        self._theirs = theirs
        stack = os.pidfd_open(os.getpid())
        with contextlib.suppress(OSError):  # a smaller limit: then it grows when it has to
            os.close(fcntl.fcntl(stack, fcntl.F_DUPFD_CLOEXEC, _ROOMY - 1))
        with native.no_signals:
            self.pid = native.clone(abi.CLONE_FILES)
            if self.pid == 0:
                _live(stack, theirs, ledger)
        self._stack = stack
        self._pidfd = os.pidfd_open(self.pid)

    def close(self, *, heirs: bool) -> None:
        """The stack stops in order. With `heirs`, programs outlive it: their listeners stay with the survivor."""
        if not heirs or not self._hand_over():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, _WALL)
        os.close(self._pidfd)
        os.close(self._stack)
        self._ours.close()
        self._theirs.close()

    def _hand_over(self) -> bool:
        """Wait until it has a table of its own; False if it does not answer."""
        self._ours.send(b"\1")
        ours = self._ours.fileno()
        return ours in select.select([ours, self._pidfd], [], [], _HAND_OVER)[0]


def _live(stack: int, news: socket.socket, ledger: Ledger) -> NoReturn:
    """The survivor's life. All signals are blocked; the stack's memory, as it was then, is a copy of its own."""
    status = 1
    try:
        gc.disable()
        native.name_process(NAME)
        _wait(stack, news)
        native.unshare(abi.CLONE_FILES)
        with contextlib.suppress(OSError):
            news.send(b"\1")
        listeners = _take_over(ledger)
        for listener in listeners:
            _end_calls(listener, ledger)
        _serve(listeners)
        status = 0
    except Exception:
        log.exception("the survivor failed; its programs get ENOSYS")
    finally:
        os._exit(status)


def _wait(stack: int, news: socket.socket) -> None:
    """Until the stack is dead or says so."""
    poll = select.poll()
    poll.register(stack, select.POLLIN)
    poll.register(news.fileno(), select.POLLIN)
    if stack not in (fd for fd, _ in poll.poll()):
        news.recv(1)


def _take_over(ledger: Ledger) -> list[Listener]:
    """Break the carriers and close everything else but the listeners, which are returned."""
    listeners: list[int] = []
    carriers: dict[int, socket.socket] = {}  # inode of the program's half → ours
    logs = _log_files()
    others: list[int] = []
    for fd in sorted(map(int, os.listdir("/proc/self/fd")), reverse=True):
        try:
            what = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # that of the listing itself
            continue
        if what == _LISTENER:
            listeners.append(fd)
        elif what.startswith("socket:") and fd < DESCRIPTORS and ledger.ends[fd]:
            carriers[ledger.ends[fd]] = socket.socket(fileno=fd)
        elif fd not in logs:
            others.append(fd)
    for fd in others:  # the claim to the stack's name, one of the first that were opened, goes last
        os.close(fd)
    _spoil(dict(carriers))
    for ours in carriers.values():
        ours.close()
    log.info("the stack is gone; reset %d sockets; looking after %d process trees", len(carriers), len(listeners))
    return [Listener(fd) for fd in listeners]


def _log_files() -> set[int]:
    """Descriptors of the log, as far as nobody waits for their end."""
    handlers = logging.getLogger("nuse").handlers
    fds = [handler.stream.fileno() for handler in handlers if isinstance(handler, logging.StreamHandler)]
    return {fd for fd in fds if stat.S_ISREG(os.fstat(fd).st_mode)}


def _spoil(carriers: dict[int, socket.socket]) -> None:
    """Make each of these carriers have something unread in our half, so that its end is a reset."""
    for inode, ours in list(carriers.items()):
        with contextlib.suppress(OSError):
            if carrier.unread(ours):
                del carriers[inode]
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if not carriers:
            return
        with contextlib.suppress(OSError):  # it is over, or out of our reach
            _spoil_of(pid, carriers)


def _spoil_of(pid: int, carriers: dict[int, socket.socket]) -> None:
    """Those that this process has; they are taken out of `carriers`."""
    theirs = {}
    for number in map(int, os.listdir(f"/proc/{pid}/fd")):
        name = file_name(pid, number)
        if inode_of(name) in carriers:
            theirs[number] = name
    if not theirs:
        return
    tasks = Tasks()
    for number, name in theirs.items():
        copy = tasks.copy_socket(pid, number, name, socket.SOCK_STREAM)  # or another kind, which does not matter here
        if copy is not None:
            with copy:
                carrier.spoil(copy)
            carriers.pop(inode_of(name), None)
    tasks.close()


def _end_calls(listener: Listener, ledger: Ledger) -> None:
    """Answer what the stack has taken: nobody else can, and the kernel would let these calls wait for ever."""
    fd = listener.fd
    blocked = ledger.blocked
    waiting = []
    for place in range(0, len(blocked), 2):
        if not blocked[place + 1]:
            break
        if blocked[place] == fd:
            waiting.append(blocked[place + 1])
    last = ledger.taken[fd]
    if last:
        waiting += [ident % (1 << 64) for ident in range(last - _IN_FLIGHT, last + _NEXT)]
    for ident in waiting:
        if listener.valid(ident):
            listener.reply(ident, -errno.ENETDOWN)


def _serve(listeners: list[Listener]) -> None:
    """Answer calls as long as a program is left to make them."""
    arch = abi.native()
    assert arch is not None
    refused = {arch.calls["socket"], *arch.compat.calls.values()}
    waiting = {listener.watched: listener for listener in listeners}
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    while waiting:
        for fd, _ in poll.poll():
            listener = waiting[fd]
            n = listener.receive()
            if n is not None:
                _answer(listener, n, refused)
            elif listener.hung_up():
                poll.unregister(fd)
                del waiting[fd]
                listener.close()


def _answer(listener: Listener, n: Notification, refused: set[int]) -> None:
    if n.nr in refused:
        listener.reply(n.id, -errno.ENETDOWN)
    else:
        listener.cont(n.id)
