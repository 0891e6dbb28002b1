"""The few system calls that Python has no function for, through ctypes. Each raises OSError."""

import ctypes
import errno
import os
import signal

from nuse.shim import abi

_libc = ctypes.CDLL(None, use_errno=True)
raw_syscall = _libc.syscall
raw_syscall.restype = ctypes.c_long
_with_gil = ctypes.PyDLL(None, use_errno=True).syscall
_with_gil.restype = ctypes.c_long


SIGSET = 128  # bytes of libc's sigset_t


class Iovec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def number(name: str) -> int:
    """A system call's number on this machine; ENOSYS on a machine the shim does not know."""
    arch = abi.native()
    if arch is None:
        raise OSError(errno.ENOSYS, "unknown machine")
    return arch.calls[name]


def check(result: int) -> int:
    """Turn libc's -1 into OSError."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def syscall(name: str, *args: int) -> int:
    """A raw system call with integer arguments."""
    return check(raw_syscall(ctypes.c_long(number(name)), *(ctypes.c_ulong(a & (1 << 64) - 1) for a in args)))


class _NoSignals:
    """A block during which all signals of this thread wait. Does not nest, and belongs to the loop's thread.

    `signal.pthread_sigmask` does the same ten times slower, as it makes two sets of names.
    """

    def __init__(self) -> None:
        self._mask = _libc.pthread_sigmask
        self._mask.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._all = ctypes.create_string_buffer(b"\xff" * SIGSET, SIGSET)
        self._old = ctypes.create_string_buffer(SIGSET)

    def __enter__(self) -> None:
        self._mask(signal.SIG_BLOCK, self._all, self._old)

    def __exit__(self, *_exc: object) -> None:
        self._mask(signal.SIG_SETMASK, self._old, None)


no_signals = _NoSignals()


def seccomp_listener(program: bytes) -> int:
    """Put a filter on this task and its future children; returns the listener's descriptor."""

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    code = ctypes.create_string_buffer(program, len(program))
    prog = _Program(len(program) // 8, ctypes.addressof(code))
    return syscall("seccomp", abi.SECCOMP_SET_MODE_FILTER, abi.SECCOMP_FILTER_FLAG_NEW_LISTENER, ctypes.addressof(prog))


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    check(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3))


def name_process(name: bytes) -> None:
    """What ps and top call it; at most 15 characters."""
    text = ctypes.create_string_buffer(name)
    prctl(abi.PR_SET_NAME, ctypes.addressof(text))


def clone(flags: int) -> int:
    """fork(2) that shares what `flags` say, and sends no signal at its end: 0 in the child.

    The interpreter does not know of it, so there must be no other thread, and the child never returns to what it was.
    """
    return check(_with_gil(ctypes.c_long(number("clone")), ctypes.c_ulong(flags), *(ctypes.c_ulong(0),) * 4))


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` names."""
    check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)))


def epoll_ctl(epoll: int, operation: int, fd: int, event: int) -> None:
    """epoll_ctl(2), with data that is not the descriptor; `event` is an address."""
    check(_libc.epoll_ctl(ctypes.c_int(epoll), ctypes.c_int(operation), ctypes.c_int(fd), ctypes.c_void_p(event)))


def unshare(flags: int) -> None:
    """Leave namespaces shared with the parent."""
    check(_libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, flags: int) -> None:
    """mount(2) without a file system type: bind mounts and propagation."""
    check(_libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None))


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A copy, in this process, of another process's descriptor."""
    return syscall("pidfd_getfd", pidfd, fd, 0)


PIDFD_THREAD = os.O_EXCL


def pidfd_open(tid: int) -> int:
    """A pidfd for a task; for a thread on kernels before 6.9, of its process. ProcessLookupError if it is gone."""
    try:
        return syscall("pidfd_open", tid, PIDFD_THREAD)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.pidfd_open(thread_group(tid))


def thread_group(tid: int) -> int:
    """The process of a thread."""
    with open(f"/proc/{tid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"Tgid:"):
                return int(line[5:])
    raise ProcessLookupError(errno.ESRCH, "no such task")
