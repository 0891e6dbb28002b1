"""The event loop and the clock: uvloop where it is installed, asyncio's own where not; `Alarm` for exact deadlines.

uvloop's and asyncio's timers count milliseconds (libuv) or sleep in epoll with millisecond time-outs, too coarse for
pacing and for an emulated 1 ms link. `Alarm` is one timerfd: nanoseconds, absolute, on the clock that the stack uses.
"""

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable, Coroutine
from time import monotonic_ns
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:  # pragma: no cover - the loop is a matter of speed only
    uvloop = None  # type: ignore[assignment]

T = TypeVar("T")

CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1
TFD_NONBLOCK = 0o4000
TFD_CLOEXEC = 0o2000000

_libc = ctypes.CDLL(None, use_errno=True)
_settime = _libc.timerfd_settime
_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


# Objects allocated before the cyclic collector looks: a stack makes few cycles and very many objects. With Python's own
# numbers it takes 10 % of a connection's cost and stops everything for 180 ms now and then; with these 1 %.
GC_THRESHOLDS = (50_000, 20, 10)

# glibc gives freed memory at the top of the heap back at once. Super-segments are read into 64 KB each and freed in
# batches, so every packet would fault its 16 pages in anew: 8 to 25 µs of system time each, against 5 to 7 with this.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_FREED = 64 << 20

NO_IO_URING = "UV_USE_IO_URING"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a fresh loop, as asyncio.run does; the process is taken to be ours (see above)."""
    gc.collect()
    gc.freeze()  # what is imported stays, so there is no point in looking at it
    gc.set_threshold(*GC_THRESHOLDS)
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(M_TRIM_THRESHOLD, KEEP_FREED)
        _libc.mallopt(M_MMAP_THRESHOLD, KEEP_FREED)
    with asyncio.Runner(loop_factory=None if uvloop is None else _new_uvloop) as runner:
        return runner.run(main)


def _new_uvloop() -> asyncio.AbstractEventLoop:
    """A loop whose libuv does not use io_uring: its completions interrupt our other system calls, as signals do.

    libuv looks at its variable when the process makes its first loop; programs that we start are not to inherit it.
    """
    before = os.environ.get(NO_IO_URING)
    os.environ[NO_IO_URING] = "0"
    try:
        return uvloop.new_event_loop()
    finally:
        del os.environ[NO_IO_URING]
        if before is not None:
            os.environ[NO_IO_URING] = before


class Alarm:
    """Calls back once the clock has passed a deadline; lazily armed.

    Deadlines of TCP mostly move away (each ACK re-arms the RTO), so `at` sets the timer only if the new deadline is
    earlier than the armed one. It may therefore ring too early: the callee looks at its deadlines and calls `at` again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._armed = 0  # 0: not armed
        fd = _libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._fd = fd
        self._spec = (ctypes.c_long * 4)()  # interval s, ns; value s, ns
        self._spec_at = ctypes.addressof(self._spec)
        loop.add_reader(fd, self._on_ring)

    def at(self, deadline: int) -> None:
        """Ring at `deadline` ns, or before; a deadline in the past rings at the loop's next turn."""
        armed = self._armed
        if 0 < armed <= deadline:
            return
        self._armed = deadline
        spec = self._spec
        spec[2], spec[3] = divmod(max(deadline, 1), 1_000_000_000)
        _settime(self._fd, TFD_TIMER_ABSTIME, self._spec_at, None)

    def _on_ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # re-armed for later after it rang
            return
        self._armed = 0
        self._callback()

    def close(self) -> None:
        """Never ring again."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


__all__ = ["Alarm", "monotonic_ns", "run"]
