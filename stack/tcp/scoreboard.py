"""What was sent and not yet cumulatively acknowledged, record by record: RFC 6675's scoreboard with RFC 8985's times.

A record is one transmission, up to a 64 KB super-segment; SACK edges split it, so what was not lost inside one is never
sent again. All counts are bytes:

    in flight (pipe) = snd_nxt − snd_una − sacked_out − lost_out + retrans_out

`lost_out` counts records deemed lost, sent again or not; `retrans_out` those of them that are sent again and not deemed
lost once more. Records lie in one list by sequence (look-ups bisect, O(log n)) and in one ordered dict by time of last
transmission, so loss detection looks at what it marks and one more. SACK blocks seen in the previous ACK are skipped:
the cost of an ACK is what it changes, not what is in flight.
"""

from bisect import bisect_right
from collections import OrderedDict
from heapq import heappop, heappush
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
    )

    def __init__(self, start: int, end: int, sent_at: Nanos, delivered: int, delivered_at: Nanos) -> None:
        self.start = start
        self.end = end
        self.sent_at = sent_at  # of the last transmission
        self.first_sent_at = sent_at
        self.delivered = delivered  # bytes the connection had delivered when this left, for the rate sample
        self.delivered_at = delivered_at
        self.app_limited = False
        self.retrans = 0  # times sent again
        self.gone = False  # cumulatively acknowledged
        self.sacked = False
        self.lost = False
        self.resent = False  # lost, sent again, and that one is thought to be in flight

    def copy(self, start: int, end: int) -> "Sent":
        """A record of [start, end) with the same history."""
        twin = Sent(start, end, self.sent_at, self.delivered, self.delivered_at)
        twin.first_sent_at = self.first_sent_at
        twin.app_limited = self.app_limited
        twin.retrans = self.retrans
        twin.sacked = self.sacked
        twin.lost = self.lost
        twin.resent = self.resent
        return twin


class Scoreboard:
    """The records, their counts, and the queue of what to send again."""

    __slots__ = ("_blocks", "_head", "_recs", "_resend", "by_time", "lost_out", "retrans_out", "sacked_out")

    def __init__(self) -> None:
        self._recs: list[Sent] = []
        self._head = 0
        self.by_time: OrderedDict[Sent, None] = OrderedDict()  # neither sacked nor (lost and not sent again)
        self._resend: list[tuple[int, int, Sent]] = []  # heap of lost records, lowest sequence first
        self._blocks: list[tuple[int, int]] = []  # SACK blocks of the previous ACK
        self.sacked_out = 0
        self.lost_out = 0
        self.retrans_out = 0

    def __len__(self) -> int:
        return len(self._recs) - self._head

    def on_sent(self, rec: Sent) -> None:
        """A new transmission beyond everything sent so far."""
        self._recs.append(rec)
        self.by_time[rec] = None

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
            self._blocks = []
        return gone

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
                self.by_time.pop(rec, None)
        else:
            self.by_time.pop(rec, None)

    def _split(self, index: int, at: int) -> Sent:
        """Cut the record at `index` in two that are both still in flight (or lost); returns the right one."""
        rec = self._recs[index]
        right = rec.copy(at, rec.end)
        rec.end = at
        self._recs.insert(index + 1, right)
        if rec in self.by_time:
            self.by_time[right] = None
            self._restore_time_order(right)
        elif rec.lost:
            heappush(self._resend, (right.start, id(right), right))
        return right

    def split_tail(self, at: int) -> Sent:
        """Cut the newest record at `at` > its start; returns the tail (for a tail loss probe)."""
        return self._split(len(self._recs) - 1, at)

    def split_head(self, size: int) -> None:
        """Cut the oldest record after its first `size` bytes."""
        self._split(self._head, self._recs[self._head].start + size)

    def _restore_time_order(self, right: Sent) -> None:
        """Move what was sent after `right` behind it: an ordered dict has no insert. Once a hole, O(sent later)."""
        later = []
        for rec in reversed(self.by_time):
            if rec is right:
                continue
            if rec.sent_at <= right.sent_at:
                break
            later.append(rec)
        for rec in reversed(later):
            self.by_time.move_to_end(rec)

    def sack(self, blocks: list[tuple[int, int]], una: int) -> list[Sent]:
        """Mark what `blocks` (unwrapped, each above `una`) cover. Returns the records that are newly SACKed."""
        fresh: list[Sent] = []
        for block in blocks:
            left, right = max(block[0], una), block[1]
            for seen_left, seen_right in self._blocks:
                if seen_left <= left < seen_right:
                    left = min(seen_right, right)
                if seen_left < right <= seen_right:
                    right = max(seen_left, left)
            if left < right:
                self._sack_range(left, right, fresh)
        self._blocks = blocks
        return fresh

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
        self.by_time.pop(rec, None)
        heappush(self._resend, (rec.start, id(rec), rec))

    def mark_all_lost(self) -> None:
        """After a retransmission timeout everything not SACKed is presumed lost (RFC 6675 §5.1)."""
        for rec in self._recs[self._head :]:
            if not rec.sacked:
                self.mark_lost(rec)

    def forget_sacks(self) -> None:
        """The peer reneged: what it SACKed is in question again (RFC 2018 §8)."""
        for rec in self._recs[self._head :]:
            if rec.sacked:
                rec.sacked = False
                rec.lost = rec.resent = False
                self.sacked_out -= rec.end - rec.start
                self.by_time[rec] = None
        self._blocks = []
        self._sort_by_time()

    def unmark_lost(self) -> None:
        """Undo: nothing was lost after all. What waits for retransmission counts as in flight again."""
        for rec in self._recs[self._head :]:
            if rec.lost and not rec.sacked:
                size = rec.end - rec.start
                self.lost_out -= size
                if rec.resent:
                    self.retrans_out -= size
                else:
                    self.by_time[rec] = None
                rec.lost = rec.resent = False
        self._resend.clear()
        self._sort_by_time()

    def _sort_by_time(self) -> None:
        """Put `by_time` in order after records returned to it; rare, O(n log n)."""
        self.by_time = OrderedDict.fromkeys(sorted(self.by_time, key=attrgetter("sent_at", "end")))

    def next_lost(self) -> Sent | None:
        """The lowest lost record not yet sent again, left in place. Amortised O(log n)."""
        heap = self._resend
        while heap:
            rec = heap[0][2]
            if rec.lost and not (rec.resent or rec.sacked or rec.gone):
                return rec
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
        self.by_time[rec] = None
        self.by_time.move_to_end(rec)

    def clear(self) -> None:
        """Forget everything."""
        self._recs.clear()
        self._head = 0
        self.by_time.clear()
        self._resend.clear()
        self._blocks = []
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
        if {id(r) for r in self.by_time} != {id(r) for r in live if not r.lost or r.resent}:
            raise InvariantBroken("by_time does not hold exactly what is in flight")
