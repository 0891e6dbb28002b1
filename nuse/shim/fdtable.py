"""Which file is meant by a program's descriptor, and a short-lived copy of it.

`/proc/TID/fd/N` reads `socket:[inode]`. The inode stays the same through dup, fork, exec and descriptor passing, and
its number is not used again until the kernel's 32-bit counter has gone round. So that text is a socket's name, and
the key of the supervisor's table.
"""

import errno
import os
import socket
import stat
from collections import OrderedDict

from nuse.shim import native

PIDFDS = 256  # tasks whose pidfd is kept
LINKS = 256  # descriptors of tasks whose link in /proc is kept


def file_name(tid: int, fd: int) -> str:
    """The name of the file behind a task's descriptor; empty if there is none."""
    try:
        return os.readlink(f"/proc/{tid}/fd/{fd}")
    except OSError:
        return ""


class Names:
    """`file_name`, for descriptors that are asked about again and again, in less than two thirds of the time.

    What is kept is a handle on the link `/proc/TID/fd/N` itself (O_PATH, O_NOFOLLOW), so that only the link has to be
    read and no path to be walked. It says what the task's descriptor N is *now*, as the path does, and nothing once the
    task is dead, also if another one has its number: then the path is asked.
    """

    __slots__ = ("_links",)

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], int] = {}

    def of(self, tid: int, fd: int) -> str:
        """The name of the file behind a task's descriptor; empty if there is none."""
        link = self._links.get((tid, fd))
        if link is not None:
            try:
                return os.readlink("", dir_fd=link)
            except OSError:
                del self._links[tid, fd]
                os.close(link)
        try:
            link = os.open(f"/proc/{tid}/fd/{fd}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return ""
        if len(self._links) >= LINKS:
            os.close(self._links.pop(next(iter(self._links))))
        self._links[tid, fd] = link
        try:
            return os.readlink("", dir_fd=link)
        except OSError:
            return ""

    def forget(self) -> None:
        """Let go of all; they come back as they are asked about."""
        for link in self._links.values():
            os.close(link)
        self._links.clear()


def socket_name(fd: int) -> str:
    """The same name for a socket of our own process."""
    return f"socket:[{os.fstat(fd).st_ino}]"


def inode_of(name: str) -> int:
    """The number in a socket's name; 0 if it is none."""
    return int(name[8:-1]) if name.startswith("socket:[") else 0


def descriptor_flags(tid: int, fd: int) -> int:
    """O_NONBLOCK, O_CLOEXEC … of a task's descriptor."""
    with open(f"/proc/{tid}/fdinfo/{fd}", "rb") as info:
        for line in info:
            if line.startswith(b"flags:"):
                return int(line[6:], 8)
    return 0


class Tasks:
    """Copies of programs' descriptors through cached pidfds."""

    def __init__(self) -> None:
        self._pidfds: OrderedDict[int, int] = OrderedDict()

    def _pidfd(self, tid: int) -> int:
        pidfd = self._pidfds.get(tid)
        if pidfd is None:
            pidfd = self._pidfds[tid] = native.pidfd_open(tid)
            if len(self._pidfds) > PIDFDS:
                os.close(self._pidfds.popitem(last=False)[1])
        else:
            self._pidfds.move_to_end(tid)
        return pidfd

    def copy(self, tid: int, fd: int) -> int:
        """Our own descriptor of the same open file; close it soon. Raises OSError (EBADF, ESRCH, EPERM)."""
        try:
            return native.pidfd_getfd(self._pidfd(tid), fd)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
        stale = self._pidfds.pop(tid, None)
        if stale is None:
            raise ProcessLookupError(errno.ESRCH, "no such task")
        os.close(stale)  # that task died, and its number may be another's now
        return native.pidfd_getfd(self._pidfd(tid), fd)

    def copy_socket(self, tid: int, fd: int, name: str, kind: int) -> socket.socket | None:
        """A copy of the carrier end `name`, if that is what the descriptor is; else, or if out of reach, None."""
        try:
            copy = self.copy(tid, fd)
        except OSError:
            return None
        status = os.fstat(copy)  # by now it may be any file: inode numbers alone are not enough
        if stat.S_ISSOCK(status.st_mode) and f"socket:[{status.st_ino}]" == name:
            return socket.socket(socket.AF_UNIX, kind, 0, fileno=copy)
        os.close(copy)
        return None

    def find(self, name: str, kind: int) -> socket.socket | None:
        """Search the known tasks for the carrier end `name`. Slow; for what is rare (a reset, a finished connect)."""
        for tid in reversed(list(self._pidfds)):
            try:
                numbers = os.listdir(f"/proc/{tid}/fd")
            except OSError:
                continue
            for number in numbers:
                if file_name(tid, int(number)) == name:
                    found = self.copy_socket(tid, int(number), name, kind)
                    if found is not None:
                        return found
        return None

    def close(self) -> None:
        """Drop all pidfds."""
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()
