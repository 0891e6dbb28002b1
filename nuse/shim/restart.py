"""Calls whose work was done but whose answer a signal swallowed: their restart gets the old answer, not new work.

Most such answers say so: nobody waits any more. One kind does not. A task that a signal has woken, but that does not
have the listener's lock again yet, is still answered "delivered", and makes its call again all the same: some 5 µs
out of each interrupted call. That cannot be told from a repetition by registers, but by what the signal left on the
task's stack: the frame of its handler, which says where the task was, at which stack pointer, and what it was to find
there.

A frame outlives its time, as long as nothing is written over it, so it alone is asked only where a repetition would
be an error anyway. Where it would be legal, as for receiving datagrams, there has to be a witness as well: a length
that the call has changed in the program's memory, and that a repetition would have set again. Nothing is known of a
handler with a stack of its own. Calls that return a descriptor need none of this: Listener.give is sure.
"""

import errno
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nuse.shim import memory
from nuse.shim.abi import native

if TYPE_CHECKING:
    from nuse.shim.notif import Notification

WITHIN = 1.0  # seconds in which a restart comes
_RED_ZONE = 128  # bytes below the stack pointer that a frame leaves alone
_REACH = 4 * 4096  # bytes below those in which a frame begins, with the largest register state
_PLACE = struct.Struct("=QQ")  # stack pointer and instruction pointer, neighbours in both machines' frames
_WORD = struct.Struct("=q")
_INT = struct.Struct("=i")
_REMEMBERED = 4096  # tasks, many of them long gone

_AGAIN_FAILS = ("connect", "bind")  # a repetition is an error: no harm if it gets the old answer
_AGAIN_TAKES = ("recvfrom", "recvmsg")  # a datagram would be lost


@dataclass(frozen=True, slots=True)
class _Frame:
    """What differs between machines: the call instruction's length; where its number and result are saved."""

    instruction: int
    number_at: int  # from the place of the stack pointer in the frame
    result_at: int


_FRAMES = {"x86_64": _Frame(2, -16, -16), "aarch64": _Frame(4, -184, -248)}  # rax; x8 and x0


@dataclass(frozen=True, slots=True)
class _Answer:
    n: "Notification"
    result: int
    when: float

    def is_for(self, n: "Notification") -> bool:
        """The same task makes the same call from the same place, and soon."""
        then = self.n
        same = then.nr == n.nr and then.args == n.args and then.ip == n.ip
        return same and time.monotonic() - self.when < WITHIN


class NotYet(Exception):
    """The task is on its way into its call, or already out of it again: ask once more in a moment."""


class Restarts:
    """The last answer of each task of a session, for as long as it may have to be given once more."""

    __slots__ = ("_answered", "_fails", "_frame", "_lost", "_takes")

    def __init__(self) -> None:
        arch = native()
        self._frame = _FRAMES[arch.name] if arch else None
        calls = arch.calls if arch else {}
        self._fails = frozenset(calls[name] for name in _AGAIN_FAILS if calls)
        self._takes = frozenset(calls[name] for name in _AGAIN_TAKES if calls)
        self._lost: dict[int, _Answer] = {}  # task → answered, but nobody waited
        self._answered: dict[int, _Answer] = {}  # task → answered, as it seems

    def lost(self, n: "Notification", result: int) -> None:
        """Nobody waited for this answer."""
        _remember(self._lost, _Answer(n, result, time.monotonic()))

    def answered(self, n: "Notification", result: int) -> None:
        """Somebody seemed to wait for this answer."""
        nr = n.nr
        if result >= 0 and (nr in self._fails or (nr in self._takes and n.witness is not None)):
            _remember(self._answered, _Answer(n, result, time.monotonic()))

    def remembers(self, tid: int) -> bool:
        """True if there is an answer that this task may have to be given once more."""
        return tid in self._answered or tid in self._lost

    def result_for(self, n: "Notification") -> int | None:
        """The result of the same task's last call, if it never got that and this is the restart; else None.

        Raises NotYet, after which it has to be asked again if the call is still there.
        """
        if self._lost:
            before = self._lost.pop(n.tid, None)
            if before is not None:
                return before.result if before.is_for(n) else None
        before = self._answered.get(n.tid)
        if before is None:
            return None
        again = before.is_for(n) and _testifies(before.n) and self._has_frame(n)
        del self._answered[n.tid]
        if not again:
            return None
        n.witness = before.n.witness
        return before.result

    def _has_frame(self, n: "Notification") -> bool:
        """A signal's handler ran where the task made this call, and came back to it, to EINTR or to a restart."""
        frame = self._frame
        if frame is None:
            return False
        try:
            pointer = _stack_pointer(n.tid)
            stack = memory.read_down(n.tid, pointer - _RED_ZONE, _REACH)
        except OSError:  # the task died
            return False
        restart = (n.ip - frame.instruction, n.nr, frame.number_at)
        interruption = (n.ip, -errno.EINTR, frame.result_at)
        return any(_find(stack, pointer, *what) for what in (restart, interruption))


def _remember(answers: dict[int, _Answer], answer: _Answer) -> None:
    """As its task's last; the oldest goes where there are too many."""
    if len(answers) >= _REMEMBERED:
        del answers[next(iter(answers))]
    answers[answer.n.tid] = answer


def _testifies(n: "Notification") -> bool:
    """What serving `n` changed is still so; True if it changed nothing."""
    if n.witness is None:
        return True
    address, written = n.witness
    try:
        return memory.read(n.tid, address, _INT.size) == _INT.pack(written)
    except OSError:
        return False


def _find(stack: bytes, pointer: int, ip: int, saved: int, at: int) -> bool:
    """`stack` has a frame of a task that was at `ip`, with the register `saved` at `at` from the pointer."""
    found = stack.rfind(_PLACE.pack(pointer, ip))
    return found + at >= 0 and _WORD.unpack_from(stack, found + at)[0] == saved


def _stack_pointer(tid: int) -> int:
    """Of a task that sleeps in a system call."""
    with open(f"/proc/{tid}/syscall", "rb", buffering=0) as file:
        words = file.read(256).split()
    if len(words) <= 2:  # "running"
        raise NotYet
    return int(words[-2], 16)
