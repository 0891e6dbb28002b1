"""The supervisor's side of a seccomp listener: receive a notification, answer it, give the program a descriptor.

One ioctl each. An answer may find nobody waiting (a signal interrupted the call, or the task died): that is False,
never an exception, and what then happens to the call's effects is the caller's business.
"""

import errno
import fcntl
import os
import select
import struct
from dataclasses import dataclass
from typing import Any

from nuse.shim import abi, native

_NOTIF = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, seccomp_data: nr, arch, instruction pointer, args
_RESPONSE = struct.Struct("=QqiI")  # id, value, error, flags
_ADDFD = struct.Struct("=QIIII")  # id, flags, srcfd, newfd, newfd_flags
_ID = struct.Struct("=Q")
_ZEROES = bytes(_NOTIF.size)
assert _NOTIF.size == 80
_GONE = (
    errno.ENOENT,
    errno.EINPROGRESS,
    errno.ESRCH,
)  # no such call; answered; interrupted before it took what we gave


def _ioctl(fd: int, request: int, arg: bytearray) -> Any:
    """ioctl, again and again while it is interrupted: which a listener is not only by signals.

    The argument is a bytearray, as for bytes `fcntl.ioctl` first makes an exception that nobody sees.
    """
    while True:
        try:
            return fcntl.ioctl(fd, request, arg)
        except InterruptedError:
            continue


@dataclass(slots=True, eq=False)
class Notification:
    """One stopped system call. `args` are the six raw registers.

    `witness` is an int that serving the call has changed in the program: its address and new value (restart.py).
    `late` when time has passed since it came, so that its task may be another.
    """

    id: int
    tid: int
    nr: int
    args: list[int]
    ip: int  # where the task goes on
    witness: tuple[int, int] | None = None
    late: bool = False


class Listener:
    """A seccomp listener descriptor; owns it.

    A loop watches `watched`, an epoll of its own: Linux tells POLLERR for a listener when anything interrupts the
    question, be it only work that the kernel has for our task, and libuv never looks again at what told it POLLERR.
    """

    __slots__ = ("_epoll", "_ident", "_received", "_response", "fd", "sync_wake_up", "watched")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._received = bytearray(_NOTIF.size)
        self._response = bytearray(_RESPONSE.size)
        self._ident = bytearray(_ID.size)
        self._epoll = select.epoll()
        self._epoll.register(fd, select.EPOLLIN)
        self.watched = self._epoll.fileno()
        try:  # wake each other on the same CPU: 4.6 instead of 12 µs a round trip; Linux 6.6
            fcntl.ioctl(fd, abi.SECCOMP_IOCTL_NOTIF_SET_FLAGS, abi.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
            self.sync_wake_up = True
        except OSError:
            self.sync_wake_up = False

    def receive(self, timeout: float = 0) -> Notification | None:
        """The next notification; None if there is none, or it died meanwhile, or no task is left (`hung_up`).

        Does not wait unless `timeout` says so, in seconds; −1 is for ever.
        """
        state = self._epoll.poll(timeout, 1)  # with room for one event it takes half the time
        if not state or not state[0][1] & select.EPOLLIN:
            return None  # the ioctl would wait for one
        raw = self._received
        raw[:] = _ZEROES  # else the kernel refuses
        try:
            _ioctl(self.fd, abi.SECCOMP_IOCTL_NOTIF_RECV, raw)
        except OSError:
            return None
        ident, tid, _flags, nr, _arch, ip, *args = _NOTIF.unpack(raw)
        return Notification(ident, tid, nr, args, ip)

    def hung_up(self) -> bool:
        """No task is left under the filter."""
        return any(bits & select.EPOLLHUP for _, bits in self._epoll.poll(0))

    def close(self) -> None:
        """Serve no more. Tasks that are left get ENOSYS from every notified call."""
        self._epoll.close()
        os.close(self.fd)

    def valid(self, ident: int) -> bool:
        """The notification is still waiting, so its task id names the task that made the call."""
        _ID.pack_into(self._ident, 0, ident)
        try:
            _ioctl(self.fd, abi.SECCOMP_IOCTL_NOTIF_ID_VALID, self._ident)
        except OSError:
            return False
        return True

    def _send(self, ident: int, value: int, negated: int, flags: int) -> bool:
        _RESPONSE.pack_into(self._response, 0, ident, value, negated, flags)
        try:
            _ioctl(self.fd, abi.SECCOMP_IOCTL_NOTIF_SEND, self._response)
        except OSError as error:
            if error.errno in _GONE or error.errno == errno.EBADF:
                return False
            raise
        return True

    def reply(self, ident: int, value: int) -> bool:
        """Answer with a result; a negative one is -errno. False if nobody waits any more."""
        if value < 0:
            return self._send(ident, 0, value, 0)
        return self._send(ident, value, 0, 0)

    def cont(self, ident: int) -> bool:
        """Let the kernel perform the call as if there were no filter."""
        return self._send(ident, 0, 0, abi.SECCOMP_USER_NOTIF_FLAG_CONTINUE)

    def give(self, ident: int, fd: int, *, cloexec: bool) -> int:
        """Install a copy of our `fd` in the program and answer with its number, in one step: both are done, or none.

        Returns the number, −1 if nobody waits. Raises OSError if the program cannot have one more (EMFILE).

        All signals wait meanwhile: if anything interrupts this ioctl, Linux takes the descriptor back and answers 0 all
        the same. (nuse/loop.py keeps away what else would interrupt it.)
        """
        with native.no_signals:
            flags = abi.SECCOMP_ADDFD_FLAG_SEND
            return self._addfd(_ADDFD.pack(ident, flags, fd, 0, O_CLOEXEC if cloexec else 0))

    def replace(self, ident: int, fd: int, number: int, *, cloexec: bool) -> bool:
        """Put a copy of our `fd` in place of the program's descriptor `number`; the call goes on waiting."""
        flags = O_CLOEXEC if cloexec else 0
        return self._addfd(_ADDFD.pack(ident, abi.SECCOMP_ADDFD_FLAG_SETFD, fd, number, flags)) >= 0

    def _addfd(self, raw: bytes) -> int:
        try:
            return int(_ioctl(self.fd, abi.SECCOMP_IOCTL_NOTIF_ADDFD, bytearray(raw)))
        except OSError as error:
            if error.errno in _GONE or error.errno == errno.EBADF:
                return -1
            raise


O_CLOEXEC = 0o2000000
