"""Which bytes of a subflow are which bytes of the data, RFC 8684 §3.3.1, in both directions.

Sequence numbers are the subflow's own, unwrapped as the connection under it keeps them; data sequence numbers (DSNs)
are unwrapped too. A mapping is one run of bytes. Look-ups bisect; what is acknowledged or read is dropped from the
front, amortised O(1).
"""

from bisect import bisect_right, insort
from dataclasses import dataclass

MAX_RUN = 65_400  # what one mapping of ours may count: with its headers it fills an IP packet
HALF64, HALF32 = 1 << 63, 1 << 31


@dataclass(slots=True, order=True)
class Run:
    """Bytes [start, end) of the subflow are those from `dsn` on of the data; received ones may have a checksum.

    Never changed; not frozen only because that makes each three times as slow to make.
    """

    start: int
    end: int
    dsn: int
    checksum: int | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def dsn_end(self) -> int:
        """The DSN behind it."""
        return self.dsn + self.end - self.start


class SentRuns:
    """What a subflow was given to send, in its order; each run starts where the one before it ends."""

    __slots__ = ("_head", "_runs", "_starts", "una")

    def __init__(self) -> None:
        self.una = 0  # how far the peer is known to have it
        self._starts: list[int] = []
        self._runs: list[Run] = []
        self._head = 0

    def add(self, run: Run) -> None:
        """The next one."""
        self._starts.append(run.start)
        self._runs.append(run)

    def at(self, seq: int) -> Run | None:
        """The run that holds `seq`."""
        if self._runs and (last := self._runs[-1]).start <= seq:
            return last if seq < last.end else None
        index = bisect_right(self._starts, seq) - 1
        if index < self._head:
            return None
        run = self._runs[index]
        return run if seq < run.end else None

    def ack_to(self, seq: int) -> None:
        """The subflow's peer has everything before `seq`."""
        self.una = seq
        head, runs, count = self._head, self._runs, len(self._runs)
        while head < count and runs[head].end <= seq:
            head += 1
        if head > 32 and head * 2 > count:
            del self._starts[:head], runs[:head]
            head = 0
        self._head = head

    def outstanding(self, una: int, data_una: int) -> list[tuple[int, int]]:
        """Ranges of DSNs from `data_una` on that lie in the subflow from `una` on: not known to be anywhere else."""
        found: list[tuple[int, int]] = []
        for run in self._runs[self._head :]:
            start = max(run.dsn + max(una - run.start, 0), data_una)
            if start < run.dsn_end:
                found.append((start, run.dsn_end))
        return found


class ReceivedRuns:
    """The mappings that a subflow's peer has sent, by where they start."""

    __slots__ = ("_past", "_runs")

    MOST = 4096  # mappings of text that has not come; one more is not taken

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._past = (0, 0, 0)  # start, size and DSN of the last that was used at once

    def add(self, run: Run) -> bool:
        """One more; the same again is nothing new. False if it contradicts one that is known, or there are too many."""
        runs = self._runs
        if runs:
            last = runs[-1]
            if run.start >= last.end:
                runs.append(run)
                return len(runs) <= self.MOST
            index = bisect_right(runs, run.start, key=_start_of) - 1
            if index >= 0 and (known := runs[index]).start == run.start:
                return known.dsn == run.dsn and known.end == run.end
            if index >= 0 and runs[index].end > run.start:
                return runs[index].dsn - runs[index].start == run.dsn - run.start
        insort(runs, run)
        return len(runs) <= self.MOST

    def at(self, seq: int) -> Run | None:
        """The run that holds `seq`; those wholly before it are forgotten."""
        runs = self._runs
        if runs and seq < runs[0].end:  # the usual
            return runs[0] if runs[0].start <= seq else None
        gone = 0
        while gone < len(runs) and runs[gone].end <= seq:
            gone += 1
        if gone:
            del runs[:gone]
        return runs[0] if runs and runs[0].start <= seq else None

    def pass_by(self, start: int, size: int, dsn: int, at: int, upto: int) -> bool:
        """A mapping came with the text [at, upto) under it, which is used now: it is kept if more is to come.

        False, and nothing was done, if another mapping says something of that text or of what follows.
        """
        runs, end = self._runs, start + size
        if runs and (last := runs[-1]).end > start:
            if last.end > at and (last.start != start or last.end != end or last.dsn != dsn):
                return False
            if last.end <= at and upto < end:
                return False  # it would overlap what is forgotten soon; rare
        if upto >= end:
            runs.clear()
        elif not runs or runs[-1].end <= start:
            runs.append(Run(start, end, dsn))
        self._past = start, size, dsn
        return True

    @property
    def last(self) -> Run | None:
        """The last one, as long as it is remembered."""
        start, size, dsn = self._past
        if self._runs and self._runs[-1].start >= start:
            return self._runs[-1]
        return Run(start, start + size, dsn) if size else None

    def later(self, seq: int) -> Run | None:
        """The first mapping behind `seq`, which `at` has just found in none."""
        return self._runs[0] if self._runs and self._runs[0].start > seq else None


def _start_of(run: Run) -> int:
    return run.start


def unwrap_dsn(wire: int, near: int, wide: bool) -> int:
    """A DSN as it came, of 64 or 32 bits, as the number closest to `near`, §3.3.1."""
    half = HALF64 if wide else HALF32
    return near + (((wire - near) & (2 * half - 1)) ^ half) - half
