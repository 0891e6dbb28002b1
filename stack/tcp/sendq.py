"""The send queue: what the program wrote and the peer has not yet acknowledged, as views of immutable chunks.

Nothing is copied: a chunk goes in as it came, leaves as slices. Look-ups bisect over chunk starts, O(log n); dropping
acknowledged chunks is amortised O(1).
"""

from bisect import bisect_right

from stack.errors import InvariantBroken

MAX_PIECES = 512  # slices in one segment: well under IOV_MAX


class SendQueue:
    """Bytes [start, end) in sequence space."""

    __slots__ = ("_chunks", "_head", "_starts", "end", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self._starts: list[int] = []
        self._chunks: list[memoryview] = []
        self._head = 0  # chunks before it are acknowledged and gone

    def __len__(self) -> int:
        return self.end - self.start

    def append(self, data: bytes | memoryview) -> None:
        """Queue `data`, which must never change afterwards."""
        self._starts.append(self.end)
        self._chunks.append(memoryview(data))
        self.end += len(data)

    def views(self, seq: int, count: int) -> list[memoryview]:
        """Slices covering [seq, seq + count), or fewer bytes if that took more than MAX_PIECES slices."""
        starts, chunks = self._starts, self._chunks
        index = bisect_right(starts, seq, self._head) - 1
        skip = seq - starts[index]
        chunk = chunks[index]
        if len(chunk) - skip >= count:
            return [chunk[skip : skip + count]]
        pieces = [chunk[skip:]]
        count -= len(chunk) - skip
        while count > 0 and len(pieces) < MAX_PIECES:
            index += 1
            chunk = chunks[index]
            if len(chunk) > count:
                chunk = chunk[:count]
            pieces.append(chunk)
            count -= len(chunk)
        return pieces

    def ack_to(self, seq: int) -> None:
        """Forget everything before `seq`."""
        self.start = seq
        starts, chunks, head = self._starts, self._chunks, self._head
        count = len(starts)
        while head < count and starts[head] + len(chunks[head]) <= seq:
            chunks[head] = _GONE
            head += 1
        if head > 32 and head * 2 > count:
            del starts[:head], chunks[:head]
            head = 0
        self._head = head

    def clear(self) -> None:
        """Forget everything."""
        self.start = self.end
        self._starts.clear()
        self._chunks.clear()
        self._head = 0

    def check(self) -> None:
        """Raise InvariantBroken if the chunks do not tile [start, end)."""
        at = None
        for index in range(self._head, len(self._starts)):
            if at is not None and self._starts[index] != at:
                raise InvariantBroken("send queue has a hole")
            at = self._starts[index] + len(self._chunks[index])
        if at is not None and at != self.end:
            raise InvariantBroken("send queue does not reach its end")
        if at is None and self.start != self.end:
            raise InvariantBroken("send queue lost bytes")


_GONE = memoryview(b"")
