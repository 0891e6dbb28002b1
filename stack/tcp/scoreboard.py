"""What was sent and not yet cumulatively acknowledged, record by record: RFC 6675's scoreboard with RFC 8985's times.

A record is one transmission, up to a 64 KB super-segment; SACK edges split it, so what was not lost inside one is never
sent again. All counts are bytes:

    in flight (pipe) = snd_nxt − snd_una − sacked_out − lost_out + retrans_out

`lost_out` counts records deemed lost, sent again or not; `retrans_out` those of them that are sent again and not deemed
lost once more. Records lie in one list by sequence (look-ups bisect, O(log n)) and, while in flight, in a ring in
order of the last transmission, so loss detection looks at what it marks and one more. What is SACKed is also kept as
merged ranges, so that a block seen before costs a look-up: the cost of an ACK is what it changes, not what is in flight
(tests/unit/test_ack_cost.py counts).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from itertools import pairwise
from operator import attrgetter

from stack.errors import InvariantBroken
from stack.units import Nanos

_start = attrgetter("start")


class Sent:
    """One transmission of [start, end)."""

    __slots__ = (
        "app_limited",
        "delivered",
        "delivered_at",
        "end",
        "first_sent_at",
        "gone",
        "lost",
        "resent",
        "retrans",
        "sacked",
        "sent_at",
        "start",
        "time_next",
        "time_prev",
        "window_at",
    )

    def __init__(self, start: int, end: int, sent_at: Nanos, delivered: int, delivered_at: Nanos) -> None:
        self.start = start
        self.end = end
        self.sent_at = sent_at  # of the last transmission
        self.first_sent_at = sent_at
        self.delivered = delivered  # bytes the connection had delivered when this left, for the rate sample
        self.delivered_at = delivered_at
        self.window_at = sent_at  # when the text left whose delivery `delivered_at` is
        self.app_limited = False
        self.time_next: Sent | None = None  # in the ring of what is in flight
        self.time_prev: Sent | None = None
        self.retrans = 0  # times sent again
        self.gone = False  # cumulatively acknowledged
        self.sacked = False
        self.lost = False
        self.resent = False  # lost, sent again, and that one is thought to be in flight

    def copy(self, start: int, end: int) -> "Sent":
        """A record of [start, end) with the same history."""
        twin = Sent(start, end, self.sent_at, self.delivered, self.delivered_at)
        twin.first_sent_at = self.first_sent_at
        twin.window_at = self.window_at
        twin.app_limited = self.app_limited
        twin.retrans = self.retrans
        twin.sacked = self.sacked
        twin.lost = self.lost
        twin.resent = self.resent
        return twin


class Scoreboard:
    """The records, their counts, and the queue of what to send again."""

    __slots__ = ("_head", "_lefts", "_recs", "_resend", "_rights", "_ring", "lost_out", "retrans_out", "sacked_out")

    def __init__(self) -> None:
        self._recs: list[Sent] = []
        self._head = 0
        self._ring = Sent(0, 0, 0, 0, 0)  # joins the ends of the ring: neither sacked nor (lost and not sent again)
        self._resend: list[tuple[int, int, Sent]] = []  # heap of lost records, lowest sequence first
        self._lefts: list[int] = []  # SACKed ranges, merged, edges in two sorted lists
        self._rights: list[int] = []
        self.sacked_out = 0
        self.lost_out = 0
        self.retrans_out = 0

    def __len__(self) -> int:
        return len(self._recs) - self._head

    def on_sent(self, rec: Sent) -> None:
        """A new transmission beyond everything sent so far."""
        self._recs.append(rec)
        ring = self._ring
        last = ring.time_prev or ring
        rec.time_prev = last
        rec.time_next = ring
        last.time_next = ring.time_prev = rec

    def _link(self, rec: Sent, after: Sent | None) -> None:
        """Put `rec` into the ring behind `after`; None: it left last."""
        before = after or self._ring.time_prev or self._ring
        nxt = before.time_next or self._ring
        rec.time_prev = before
        rec.time_next = nxt
        before.time_next = nxt.time_prev = rec

    def _unlink(self, rec: Sent) -> None:
        before, nxt = rec.time_prev, rec.time_next
        if before is not None and nxt is not None:
            if before is nxt:  # it was alone; an empty ring refers to nothing, or it would be garbage of its own
                before.time_next = before.time_prev = None
            else:
                before.time_next = nxt
                nxt.time_prev = before
            rec.time_next = rec.time_prev = None

    def by_time(self) -> Iterator[Sent]:
        """What is in flight, in order of the last transmission. Whoever takes a record off goes on from the next."""
        ring = self._ring
        at = ring.time_next
        while at is not None and at is not ring:
            nxt = at.time_next
            yield at
            at = nxt

    def first(self) -> Sent | None:
        """The oldest record, by sequence."""
        return self._recs[self._head] if self._head < len(self._recs) else None

    def last(self) -> Sent | None:
        """The newest record, by sequence."""
        return self._recs[-1] if self._head < len(self._recs) else None

    def outstanding(self) -> list[Sent]:
        """All records by sequence; a copy, for tests and the debug view."""
        return self._recs[self._head :]

    def ack_to(self, ack: int) -> list[Sent]:
        """Drop what `ack` covers. Returns the records dropped; of one that it cuts, the acknowledged part."""
        recs, head = self._recs, self._head
        count = len(recs)
        at = head
        while at < count and recs[at].end <= ack:
            rec = recs[at]
            self._uncount(rec)
            rec.gone = True
            at += 1
        gone = recs[head:at]
        if at < count and recs[at].start < ack:
            gone.append(self._cut_front(recs[at], ack))
        self._head = at
        if at > 64 and at * 2 > count:
            del recs[:at]
            self._head = 0
        if at == count:
            self._resend.clear()
            if self._lefts:
                self._lefts, self._rights = [], []
        elif self._lefts and self._lefts[0] < ack:
            self._trim_ranges(ack)
        return gone

    def _trim_ranges(self, ack: int) -> None:
        keep = bisect_right(self._rights, ack)
        del self._lefts[:keep], self._rights[:keep]
        if self._lefts and self._lefts[0] < ack:
            self._lefts[0] = ack

    def _cut_front(self, rec: Sent, at: int) -> Sent:
        """Shorten `rec` to start at `at`; the front comes back as a record that is counted nowhere."""
        front = rec.copy(rec.start, at)
        size = at - rec.start
        if rec.sacked:
            self.sacked_out -= size
        elif rec.lost:
            self.lost_out -= size
            if rec.resent:
                self.retrans_out -= size
        rec.start = at
        return front

    def _uncount(self, rec: Sent) -> None:
        size = rec.end - rec.start
        if rec.sacked:
            self.sacked_out -= size
        elif rec.lost:
            self.lost_out -= size
            if rec.resent:
                self.retrans_out -= size
        if rec.time_next is not None:
            self._unlink(rec)

    def _split(self, index: int, at: int) -> Sent:
        """Cut the record at `index` in two that are both still in flight (or lost); returns the right one."""
        rec = self._recs[index]
        right = rec.copy(at, rec.end)
        rec.end = at
        self._recs.insert(index + 1, right)
        if rec.time_next is not None:
            self._link(right, rec)
        elif rec.lost:
            heappush(self._resend, (right.start, id(right), right))
        return right

    def split_tail(self, at: int) -> Sent:
        """Cut the newest record at `at` > its start; returns the tail (for a tail loss probe)."""
        return self._split(len(self._recs) - 1, at)

    def split_head(self, size: int) -> None:
        """Cut the oldest record after its first `size` bytes."""
        self._split(self._head, self._recs[self._head].start + size)

    def sack(self, blocks: list[tuple[int, int]], una: int) -> list[Sent]:
        """Mark what `blocks` (unwrapped, each above `una`) cover. Returns the records that are newly SACKed."""
        fresh: list[Sent] = []
        for left, right in blocks:
            if right > left >= una:
                self._sack_block(left, right, fresh)
        return fresh

    def _sack_block(self, left: int, right: int, fresh: list[Sent]) -> None:
        """Mark the gaps that the known ranges leave in one block, then merge it with them. O(log n + what is new)."""
        lefts, rights = self._lefts, self._rights
        first = bisect_left(rights, left)  # ranges first..last-1 touch the block
        last = first
        at = left
        while last < len(lefts) and lefts[last] <= right:
            if lefts[last] > at:
                self._sack_range(at, lefts[last], fresh)
            at = max(at, rights[last])
            last += 1
        if at < right:
            self._sack_range(at, right, fresh)
        if last > first:
            left, right = min(left, lefts[first]), max(right, rights[last - 1])
        lefts[first:last] = [left]
        rights[first:last] = [right]

    def lost_below(self, ranges: int, size: int) -> int:
        """The sequence number above which `ranges` SACKed ranges lie, or more than `size` SACKed bytes; −1: nowhere."""
        total = 0
        for count, (left, right) in enumerate(zip(reversed(self._lefts), reversed(self._rights), strict=True), 1):
            total += right - left
            if count >= ranges or total > size:
                return left
        return -1

    def between(self, left: int, right: int) -> list[Sent]:
        """The records that begin in [left, right)."""
        recs = self._recs
        return recs[bisect_left(recs, left, self._head, key=_start) : bisect_left(recs, right, self._head, key=_start)]

    def overlapping(self, left: int, right: int) -> list[Sent]:
        """The records that lie in [left, right), if only in part."""
        recs = self._recs
        at = max(bisect_right(recs, left, self._head, key=_start) - 1, self._head)
        found = recs[at : bisect_left(recs, right, self._head, key=_start)]
        return found[1:] if found and found[0].end <= left else found

    def any_retrans(self) -> bool:
        """Is anything out that was sent again, as far as this is known cheaply? Linux's tcp_any_retrans_done()."""
        return self.retrans_out > 0 or (self._head < len(self._recs) and self._recs[self._head].retrans > 0)

    def _sack_range(self, left: int, right: int, fresh: list[Sent]) -> None:
        recs = self._recs
        at = max(bisect_right(recs, left, self._head, key=_start) - 1, self._head)
        while at < len(recs):
            rec = recs[at]
            if rec.start >= right:
                break
            if rec.sacked or rec.end <= left:
                at += 1
                continue
            if right < rec.end:
                if left > rec.start:
                    self._split(at, right)
                else:  # only the front is SACKed: the rest keeps its place in time
                    front = self._cut_front(rec, right)
                    recs.insert(at, front)
                    self._count_sacked(front, fresh)
                    break
            if left > rec.start:
                tail = rec.copy(left, rec.end)
                self._shorten(rec, left)
                at += 1
                recs.insert(at, tail)
                self._count_sacked(tail, fresh)
            else:
                self._uncount(rec)
                self._count_sacked(rec, fresh)
            at += 1

    def _count_sacked(self, rec: Sent, fresh: list[Sent]) -> None:
        rec.sacked = True
        self.sacked_out += rec.end - rec.start
        fresh.append(rec)

    def _shorten(self, rec: Sent, end: int) -> None:
        """Give up the tail of a record from `end` on."""
        size = rec.end - end
        if rec.lost:
            self.lost_out -= size
            if rec.resent:
                self.retrans_out -= size
        rec.end = end

    def mark_lost(self, rec: Sent) -> None:
        """Deem a record lost: it leaves the pipe and queues for retransmission. Not for SACKed ones."""
        size = rec.end - rec.start
        if rec.lost:
            if not rec.resent:
                return
            rec.resent = False
            self.retrans_out -= size
        else:
            rec.lost = True
            self.lost_out += size
        if rec.time_next is not None:
            self._unlink(rec)
        heappush(self._resend, (rec.start, id(rec), rec))

    def mark_all_lost(self, since: Nanos = -1) -> None:
        """After a retransmission timeout everything not SACKed is presumed lost (RFC 6675 §5.1).

        With `since`, what left after that is not: it had no time to be acknowledged. The first is, in any case.
        """
        first = self.first()
        for rec in self._recs[self._head :]:
            if not rec.sacked and (since < 0 or rec.sent_at <= since or rec is first):
                self.mark_lost(rec)

    def forget_sacks(self) -> None:
        """The peer reneged: what it SACKed is in question again (RFC 2018 §8)."""
        for rec in self._recs[self._head :]:
            if rec.sacked:
                rec.sacked = False
                rec.lost = rec.resent = False
                self.sacked_out -= rec.end - rec.start
        self._lefts, self._rights = [], []
        self._sort_ring()

    def unmark_lost(self) -> None:
        """Undo: nothing was lost after all. What waits for retransmission counts as in flight again."""
        for rec in self._recs[self._head :]:
            if rec.lost and not rec.sacked:
                size = rec.end - rec.start
                self.lost_out -= size
                if rec.resent:
                    self.retrans_out -= size
                rec.lost = rec.resent = False
        self._resend.clear()
        self._sort_ring()

    def _sort_ring(self) -> None:
        """Make the ring anew after records returned to it; rare, O(n log n)."""
        ring = self._ring
        ring.time_next = ring.time_prev = None
        live = [rec for rec in self._recs[self._head :] if not rec.sacked and (not rec.lost or rec.resent)]
        for rec in sorted(live, key=attrgetter("sent_at", "end")):
            self._link(rec, None)

    def next_lost(self) -> Sent | None:
        """The lowest lost record not yet sent again, left in place. Amortised O(log n)."""
        heap = self._resend
        while heap:
            start, _, rec = heap[0]
            if rec.lost and not (rec.resent or rec.sacked or rec.gone):
                if start == rec.start:
                    return rec
                heapreplace(heap, (rec.start, id(rec), rec))  # its front was cut off since
            else:
                heappop(heap)
        return None

    def on_resent(self, rec: Sent, end: int, now: Nanos) -> None:
        """[rec.start, end) was sent again at `now`; the rest of the record stays queued."""
        if end < rec.end:
            self._split(bisect_right(self._recs, rec.start, self._head, key=_start) - 1, end)
        if rec.lost and not rec.resent:
            rec.resent = True
            self.retrans_out += rec.end - rec.start
        rec.retrans += 1
        rec.sent_at = now
        if rec.time_next is not None:
            self._unlink(rec)
        self._link(rec, None)

    def clear(self) -> None:
        """Forget everything."""
        for rec in self.by_time():
            self._unlink(rec)
        self._recs.clear()
        self._head = 0
        self._resend.clear()
        self._lefts, self._rights = [], []
        self.sacked_out = self.lost_out = self.retrans_out = 0

    def check(self) -> None:
        """Raise InvariantBroken if the counts do not follow from the records."""
        recs = self._recs[self._head :]
        live = [r for r in recs if not r.sacked]
        if sum(r.end - r.start for r in recs if r.sacked) != self.sacked_out:
            raise InvariantBroken("sacked_out")
        if sum(r.end - r.start for r in live if r.lost) != self.lost_out:
            raise InvariantBroken("lost_out")
        if sum(r.end - r.start for r in live if r.lost and r.resent) != self.retrans_out:
            raise InvariantBroken("retrans_out")
        for left, right in pairwise(recs):
            if left.end != right.start:
                raise InvariantBroken("records do not tile")
        ring = list(self.by_time())
        if {id(r) for r in ring} != {id(r) for r in live if not r.lost or r.resent}:
            raise InvariantBroken("the ring does not hold exactly what is in flight")
        if any(a.sent_at > b.sent_at for a, b in pairwise(ring)):
            raise InvariantBroken("the ring is not in order of time")
        if sum(self._rights) - sum(self._lefts) != self.sacked_out:
            raise InvariantBroken("SACKed ranges")
