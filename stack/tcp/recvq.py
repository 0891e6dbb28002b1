"""The receive queue: in-order views ready for the program, and out-of-order ranges waiting for a hole to fill.

Terms: `nxt` is RCV.NXT as far as text goes. Where two segments overlap, the bytes that came first stay (RFC 9293
§3.10.7.4 leaves the choice open; Linux keeps the earlier ones too). SACK blocks are kept as Linux keeps them: at most
four, most recently changed first (RFC 2018 §4).

A view pins the packet that it came in, so each piece is charged OVERHEAD bytes; a peer that sends one byte a segment
cannot make us hold a hundred times what it sent. Past the limit in-order pieces are joined, and out-of-order ones
dropped from the far end, which SACK permits (RFC 2018 §8).
"""

from bisect import bisect_left, bisect_right
from collections import deque

from stack.errors import InvariantBroken

OVERHEAD = 256  # bytes charged for a piece on top of its text
MAX_SACKS = 4
MAX_VIEWS = 1024  # IOV_MAX


class RecvQueue:
    """Text received from sequence number `nxt − readable` on."""

    __slots__ = ("_ends", "_starts", "_views", "fin", "nxt", "ooo_bytes", "readable", "ready", "sacks")

    def __init__(self, nxt: int) -> None:
        self.nxt = nxt
        self.ready: deque[memoryview] = deque()
        self.readable = 0
        self._starts: list[int] = []  # out-of-order pieces: disjoint, ascending
        self._ends: list[int] = []
        self._views: list[memoryview] = []
        self.ooo_bytes = 0
        self.sacks: list[tuple[int, int]] = []
        self.fin = -1  # where the peer's FIN lies, once it came out of order: SACK covers it as it does text

    def has_holes(self) -> bool:
        """True if something out of order is waiting."""
        return bool(self._starts)

    def first_held(self) -> tuple[int, int]:
        """The first piece that waits out of order; there must be one."""
        return self._starts[0], self._ends[0]

    def append(self, view: memoryview) -> None:
        """Take text that starts exactly at `nxt`; then whatever of the waiting pieces has become in order."""
        self.ready.append(view)
        size = len(view)
        self.readable += size
        self.nxt += size
        if self._starts:
            self._pull_in_order()

    def _pull_in_order(self) -> None:
        nxt, starts, ends, views = self.nxt, self._starts, self._ends, self._views
        taken = 0
        for start, end, view in zip(starts, ends, views, strict=True):
            if start > nxt:
                break
            taken += 1
            self.ooo_bytes -= end - start
            if end > nxt:
                fresh = view[nxt - start :]
                self.ready.append(fresh)
                self.readable += len(fresh)
                nxt = end
        if taken:
            del starts[:taken], ends[:taken], views[:taken]
        self.nxt = nxt
        self.sacks = [block for block in self.sacks if block[1] > nxt]

    def insert(self, seq: int, view: memoryview) -> int:
        """Keep out-of-order text at `seq` > nxt. Returns how many of its bytes are new; 0 means all was there.

        O(log n) to find the place, plus the pieces that it overlaps.
        """
        starts, ends, views = self._starts, self._ends, self._views
        end = seq + len(view)
        fresh = 0
        index = bisect_right(ends, seq)  # first piece that ends after seq
        at = seq
        while at < end:
            if index < len(starts) and starts[index] <= at:
                at = ends[index]
                index += 1
                continue
            stop = min(end, starts[index]) if index < len(starts) else end
            starts.insert(index, at)
            ends.insert(index, stop)
            views.insert(index, view[at - seq : stop - seq])
            fresh += stop - at
            at = stop
            index += 1
        self.ooo_bytes += fresh
        self._note_sack(seq, end)
        return fresh

    def _note_sack(self, left: int, right: int) -> None:
        """Put the block that now contains [left, right) first, RFC 2018 §4."""
        right += right == self.fin
        others = []
        for start, end in self.sacks:
            if start <= right and left <= end:
                left, right = min(left, start), max(right, end)
            else:
                others.append((start, end))
        # A block that fell off the list of four may touch the new one: look at the pieces themselves.
        starts, ends = self._starts, self._ends
        low = bisect_left(ends, left)
        high = bisect_right(starts, right)
        if low < high:
            left, right = min(left, starts[low]), max(right, ends[high - 1])
        while low > 0 and ends[low - 1] == left:
            low -= 1
            left = starts[low]
        while high < len(starts) and starts[high] == right:
            right = ends[high]
            high += 1
        self.sacks = [(left, right), *others][:MAX_SACKS]

    def note_fin(self, seq: int) -> None:
        """The peer's FIN came, and text before it is missing."""
        self.fin = seq
        self._note_sack(seq, seq + 1)

    def held(self, seq: int, end: int) -> bool:
        """True if all of [seq, end) waits out of order already (for D-SACK, RFC 2883)."""
        index = bisect_right(self._ends, seq)
        while index < len(self._starts) and self._starts[index] <= seq:
            seq = self._ends[index]
            if seq >= end:
                return True
            index += 1
        return False

    def views(self, limit: int) -> list[memoryview]:
        """In-order text to read, at most `limit` bytes in at most MAX_VIEWS pieces; stays queued until consumed."""
        out = []
        for view in self.ready:
            if len(view) >= limit:
                out.append(view[:limit])
                break
            out.append(view)
            limit -= len(view)
            if len(out) == MAX_VIEWS:
                break
        return out

    def consume(self, count: int) -> None:
        """Drop `count` bytes from the front: the program has them."""
        self.readable -= count
        ready = self.ready
        while count:
            size = len(ready[0])
            if size > count:
                ready[0] = ready[0][count:]
                return
            ready.popleft()
            count -= size

    def truesize(self) -> int:
        """What the queue holds in memory, overhead included."""
        return self.readable + self.ooo_bytes + OVERHEAD * (len(self.ready) + len(self._starts))

    def collapse(self) -> None:
        """Join the in-order pieces into one: the single place where text is copied, and only under abuse."""
        joined = memoryview(b"".join(self.ready))
        self.ready.clear()
        self.ready.append(joined)

    def prune(self, limit: int) -> int:
        """Drop out-of-order pieces from the far end until truesize fits `limit`; returns the bytes dropped."""
        dropped = 0
        while self._starts and self.truesize() > limit:
            size = self._ends.pop() - self._starts.pop()
            self._views.pop()
            self.ooo_bytes -= size
            dropped += size
        if dropped:
            top = self._ends[-1] if self._ends else self.nxt
            self.sacks = [(left, min(right, top)) for left, right in self.sacks if left < top]
        return dropped

    def cut(self, end: int) -> None:
        """Drop what waits at or beyond `end`: the peer's FIN lies there."""
        while self._ends and self._ends[-1] > end:
            start, stop, view = self._starts.pop(), self._ends.pop(), self._views.pop()
            self.ooo_bytes -= stop - start
            if start < end:
                self.insert(start, view[: end - start])
                break
        self.sacks = [(left, min(right, end)) for left, right in self.sacks if left < end]

    def clear_holes(self) -> None:
        """Forget what waits out of order: the peer's FIN says that nothing lies beyond."""
        self._starts.clear()
        self._ends.clear()
        self._views.clear()
        self.ooo_bytes = 0
        self.sacks = []

    def clear(self) -> None:
        """Forget everything held."""
        self.ready.clear()
        self.readable = 0
        self.clear_holes()

    def check(self) -> None:
        """Raise InvariantBroken if counts and contents disagree."""
        if sum(len(view) for view in self.ready) != self.readable:
            raise InvariantBroken("readable is not the sum of the ready views")
        if sum(self._ends) - sum(self._starts) != self.ooo_bytes:
            raise InvariantBroken("ooo_bytes is not the sum of the pieces")
        at = self.nxt
        for start, end, view in zip(self._starts, self._ends, self._views, strict=True):
            if start < at or end - start != len(view) or (start == at == self.nxt):
                raise InvariantBroken("out-of-order pieces overlap or should have been delivered")
            at = end
        if len(self.sacks) > MAX_SACKS or any(left >= right for left, right in self.sacks):
            raise InvariantBroken("SACK blocks")
