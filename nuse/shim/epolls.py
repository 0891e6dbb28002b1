"""Epoll registrations of a descriptor whose file is exchanged: they are made anew for the file that takes its place.

An epoll knows (file, number) pairs, so a registration goes with the old file. `/proc/TID/fdinfo` tells what a program
has registered, and a copy of its epoll takes a new registration from us, if the file has the program's number here,
too. A thread with a table of descriptors of its own gives it that number, and ends at once: the one place in nuse
where there is a second thread, and no Python runs beside it.
"""

import contextlib
import ctypes
import os
import platform
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nuse.shim import native

if TYPE_CHECKING:
    from nuse.shim.fdtable import Tasks

CLONE_FILES = 0x400
EPOLL_CTL_ADD = 1
_EPOLL = "anon_inode:[eventpoll]"
_REGISTERED = re.compile(r"^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+).* ino:([0-9a-f]+)", re.M)


class _Event(ctypes.Structure):
    """struct epoll_event, packed on x86_64 only."""

    _pack_ = 1 if platform.machine() == "x86_64" else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class Registration:
    """What one epoll watches the descriptor for. `epoll` is the epoll's number in the program."""

    epoll: int
    events: int
    data: int


def registrations(tid: int, fd: int, name: str) -> list[Registration]:
    """All that a task's epolls have of its descriptor `fd`, which is the socket `name`; slow, for what is rare."""
    inode = int(name[8:-1])
    found = []
    with contextlib.suppress(OSError):
        for each in os.listdir(f"/proc/{tid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{tid}/fd/{each}") != _EPOLL:
                    continue
                with open(f"/proc/{tid}/fdinfo/{each}") as info:
                    for number, events, data, ino in _REGISTERED.findall(info.read()):
                        if int(number) == fd and int(ino, 16) == inode:
                            found.append(Registration(int(each), int(events, 16), int(data, 16)))
    return found


def register_anew(tasks: "Tasks", tid: int, fd: int, file: int, known: list[Registration]) -> None:
    """Let the task's epolls watch `file`, our descriptor of what is the task's `fd` by now, as they watched the old."""
    for each in known:
        with contextlib.suppress(OSError):
            epoll = tasks.copy(tid, each.epoll)
            try:
                thread = threading.Thread(target=_add, args=(epoll, fd, file, _Event(each.events, each.data)))
                thread.start()
                thread.join()
            finally:
                os.close(epoll)


def _add(epoll: int, fd: int, file: int, event: _Event) -> None:
    native.unshare(CLONE_FILES)
    with contextlib.suppress(OSError):
        if fd == epoll:
            epoll = os.dup(epoll)
        os.dup2(file, fd)
        native.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, ctypes.addressof(event))
