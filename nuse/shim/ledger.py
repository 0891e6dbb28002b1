"""What a stack's survivor must know when the stack is dead, in memory that both have: three arrays of integers.

Each is written with one store, at the moment in which it becomes true, so it holds whenever the stack dies.
"""

import mmap
from collections import deque

DESCRIPTORS = 1 << 20  # a stack's descriptors go up to here: the kernel's usual limit for a process
_BLOCKED = 1 << 16  # calls that wait at the same time, each a thread of some program
_KEPT = 64  # entries of calls that were answered just now
_WORD = 8


class Ledger:
    """Pages that are never written take no memory.

    `ends[fd]`: the inode of the program's half of a carrier of which `fd` is ours. It may be out of date if `fd` is
    something else by now. `taken[fd]`: the last notification that was taken from the listener `fd`; numbers follow each
    other. `blocked`: pairs of a listener and a notification that is answered late, or was.
    """

    __slots__ = ("_free", "_used", "blocked", "ends", "taken")

    def __init__(self) -> None:
        words = memoryview(mmap.mmap(-1, _WORD * (2 * DESCRIPTORS + 2 * _BLOCKED))).cast("Q")
        self.ends = words[:DESCRIPTORS]
        self.taken = words[DESCRIPTORS : 2 * DESCRIPTORS]
        self.blocked = words[2 * DESCRIPTORS :]
        self._free: deque[int] = deque()
        self._used = 0

    def block(self, listener: int, ident: int) -> int:
        """Write a call down that is answered later; returns what `answered` wants."""
        if len(self._free) > _KEPT or self._used == _BLOCKED:
            if not self._free:
                return -1
            place = self._free.popleft()
        else:
            place = self._used
            self._used += 1
        self.blocked[2 * place] = listener
        self.blocked[2 * place + 1] = ident
        return place

    def answered(self, place: int) -> None:
        """It is about to be. The entry stays a while, so that it outlasts the answer."""
        if place >= 0:
            self._free.append(place)
