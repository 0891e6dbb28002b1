"""The receiving half of a connection: text of all subflows, put in order by data sequence number (RFC 8684 §3.3).

A subflow's text is taken off it as soon as it is in order there; its mapping says where it belongs. With checksums a
mapping is held until all of it is there. One buffer, and so one window, serves all subflows (§3.3.1): Linux's dynamic
right-sizing, over data instead of segments.
"""

from typing import TYPE_CHECKING

from mptcp import fastopen
from mptcp.crypto import dss_checksum
from mptcp.maps import Run
from mptcp.options import RST_EMIDDLEBOX
from stack.checksum import ones_sum
from stack.events import READABLE
from stack.tcp.rcvbuf import ReceiveBuffer
from stack.tcp.recvq import RecvQueue
from stack.tcp.timers import NEVER
from stack.units import MSEC, Nanos

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn
    from mptcp.subflow import Subflow

NO_FIN = -1
MAX_RUN = 65535
FIRST_WINDOW = 65535  # what a SYN can offer
PATIENCE = 100 * MSEC  # with text that has no mapping; its sender repeats it after 200 and a round trip


class Receive:
    """What has come, in order and not."""

    def __init__(self, meta: "MptcpConn") -> None:
        knobs, wanted = meta.host.stack.sysctl, meta.options.rcvbuf
        self.meta = meta
        self.queue = RecvQueue(0)
        self.buffer = ReceiveBuffer(wanted or knobs.tcp_rmem[1], max(knobs.tcp_rmem[2], wanted), not wanted)
        self.first = 0  # the first DSN with text; 0: not known
        self.right = 0  # how far the peer may send
        self.fin = NO_FIN  # DSN of the peer's DATA_FIN
        self.told = 0  # the first DSN that the program has not heard of
        self.bytes = 0
        self.unmapped_at: Nanos = NEVER  # when patience with such text ends

    def start(self, first: int, now: Nanos) -> None:
        """The peer's key is known, so its first DSN is."""
        self.first = self.told = self.queue.nxt = first
        self.right = first + FIRST_WINDOW
        self.buffer.start(first, min(self.buffer.size, 65535), 0, 1460, now)

    def window(self, free: int) -> int:
        """What to offer on any subflow: the room behind RCV.NXT of the data."""
        room = max(self.buffer.size - self.queue.readable, 0)
        self.right = max(self.right, self.queue.nxt + room)
        return room

    # ------------------------------------------------------------------ from a subflow

    def next_arrived(self, view: memoryview, now: Nanos) -> None:
        """Text that follows what is here, as its own mapping says."""
        self.queue.append(view)
        self._tell(now)

    def text_arrived(self, sub: "Subflow", now: Nanos) -> None:
        """Take its in-order text, and put it where its mappings say."""
        conn = sub.conn
        if not sub.joined or sub.gone:
            views = conn.drain()
            if sub.initial and conn.passive and not sub.gone:
                fastopen.text_came(self.meta, sub, views)
            return
        if not sub.held:
            sub.held_seq = conn.read_seq()
        views = conn.drain()
        if sub.plain:
            self._plain(sub, views, now)
            return
        if len(views) == 1 and not sub.held:  # the usual: one segment, all of it under one mapping
            view = views[0]
            run = sub.runs.at(sub.held_seq)
            if run is not None and run.checksum is None and sub.held_seq + len(view) <= run.end:
                self._place(run.dsn + sub.held_seq - run.start, view)
                self._tell(now)
                return
        sub.held += views
        sub.held_size += sum(map(len, views))
        self._sort(sub, now)

    def _sort(self, sub: "Subflow", now: Nanos) -> None:
        """What is held goes where its mappings say, as far as they are known."""
        while sub.held:
            run = sub.runs.at(sub.held_seq)
            if run is None:
                if not self._unmapped(sub, now):
                    break
            elif run.checksum is not None and not self._summed(sub, run, now):
                break
            else:
                self._deliver(sub, run)
        self._tell(now)

    def _plain(self, sub: "Subflow", views: list[memoryview], now: Nanos) -> None:
        if self.meta.peer_closed:
            return  # it said that there was no more
        for view in views:
            self.queue.append(view)
        self._tell(now)

    def release(self, sub: "Subflow", now: Nanos) -> None:
        """The connection fell back: what waited for a mapping needs none."""
        views, sub.held, sub.held_size = sub.held, [], 0
        if views:
            self._plain(sub, views, now)

    def _deliver(self, sub: "Subflow", run: Run) -> None:
        """As much of the run as is here."""
        size = min(run.end - sub.held_seq, sub.held_size)
        dsn = run.dsn + sub.held_seq - run.start
        for view in take_front(sub.held, size):
            self._place(dsn, view)
            dsn += len(view)
        sub.held_seq += size
        sub.held_size -= size

    def _place(self, dsn: int, view: memoryview) -> None:
        queue, mib = self.queue, self.meta.host.mib
        end = dsn + len(view)
        if self.fin != NO_FIN and end > self.fin:
            mib.MPTcpExtNoDSSInWindow += 1  # behind the DATA_FIN
        elif dsn == queue.nxt:
            queue.append(view)
        elif end <= queue.nxt:
            mib.MPTcpExtDuplicateData += 1
        elif dsn < queue.nxt:
            queue.append(view[queue.nxt - dsn :])
        elif end > self.right:
            mib.MPTcpExtNoDSSInWindow += 1  # beyond what was ever offered; its sender keeps it
        else:
            mib.MPTcpExtOFOQueue += 1
            if not queue.insert(dsn, view):
                mib.MPTcpExtDuplicateData += 1

    def _tell(self, now: Nanos) -> None:
        queue, before = self.queue, self.told
        if queue.nxt == before:
            return
        self.told = queue.nxt
        self.bytes += queue.nxt - before
        buffer = self.buffer
        size = buffer.size
        buffer.on_text(queue.nxt, queue.nxt - queue.readable, self.right - before, 1460, now)
        if buffer.size != size:
            self.meta.window_moved()
        if len(queue.ready) > 64 and queue.truesize() > 2 * buffer.size:
            queue.collapse()
        if self.fin == queue.nxt:
            self._look_for_fin(now)
        self.meta.post(READABLE)

    # ------------------------------------------------------------------ trouble

    def in_step(self, sub: "Subflow") -> bool:
        """True if the subflow's numbers alone tell where its text belongs: it has had all of it, once and in order."""
        conn = sub.conn
        came = (sub.held_seq if sub.held else conn.read_seq()) - conn.tcb.irs - sub.early_in - 1
        return came == self.queue.nxt - self.first - self.meta.peer_closed

    def _unmapped(self, sub: "Subflow", now: Nanos) -> bool:
        """Text before its mapping: it may still come (§3.3.1), unless the next one is known, or none ever came.

        No mapping is longer than MAX_RUN: so much text later, that of the first byte is not on its way. False if there
        is nothing to go on with.
        """
        meta = self.meta
        later = sub.runs.later(sub.held_seq)
        if later is not None or sub.held_size > MAX_RUN or self.unmapped_at <= now:
            self.unmapped_at = NEVER
            meta.host.mib.MPTcpExtDSSNoMatchTCP += 1
            if later is not None and meta.is_alone(sub) and later.dsn - self.queue.nxt != later.start - sub.held_seq:
                size = min(later.start - sub.held_seq, sub.held_size)
                meta.say(f"{size} bytes that no mapping covers are dropped: their sender has begun to send them again")
                take_front(sub.held, size)
                sub.held_seq += size
                sub.held_size -= size
                return True
            if meta.may_fall_back(sub):
                meta.without_mapping(sub, now)
            else:
                meta.reset_subflow(sub, sub.conn, RST_EMIDDLEBOX, "text arrived that no mapping covers")
        elif not sub.heard and meta.may_fall_back(sub):
            meta.host.mib.MPTcpExtMPCapableDataFallback += 1
            meta.fall_back("the first text carried no mapping: a box on the way removes options", now)
        elif self.unmapped_at == NEVER:
            self.unmapped_at = now + PATIENCE
            meta.mark(now)
        return False

    def patience_ends(self, now: Nanos) -> None:
        """Text has waited long enough for its mapping."""
        for sub in list(self.meta.subflows):
            if sub.held and not sub.plain and sub.runs.at(sub.held_seq) is None and self._unmapped(sub, now):
                self._sort(sub, now)
        self.unmapped_at = NEVER

    def _summed(self, sub: "Subflow", run: Run, now: Nanos) -> bool:
        """False until all of the run is here, or if its checksum fails, §3.3.1: then the subflow, or MPTCP, is over."""
        if sub.held_seq != run.start or sub.held_size < run.size:
            return sub.held_seq > run.start  # the rest of one that was begun, and summed, before
        with_fin = bool(run.checksum and run.checksum >> 16)
        wanted = (run.checksum or 0) & 0xFFFF
        total = text_sum(peek_front(sub.held, run.size))
        ssn = run.start - sub.conn.tcb.irs - sub.early_in
        if dss_checksum(run.dsn, ssn, run.size + with_fin, total) == wanted:
            return True
        meta = self.meta
        meta.host.mib.MPTcpExtDataCsumErr += 1
        sub.fail_due = run.dsn
        if meta.may_fall_back(sub):
            meta.host.mib.MPTcpExtDSSCorruptionFallback += 1
            meta.fail_to_plain(sub, now)
        else:
            meta.host.mib.MPTcpExtDSSCorruptionReset += 1
            meta.reset_subflow(sub, sub.conn, RST_EMIDDLEBOX, "a checksum failed: a box on the way changes text")
        return False

    # ------------------------------------------------------------------ the peer's end

    def fin_told(self, dsn: int, now: Nanos) -> None:
        """DATA_FIN lies at `dsn`."""
        if self.fin == NO_FIN and dsn >= self.queue.nxt:
            self.fin = dsn
            self.queue.cut(dsn)
            self._look_for_fin(now)

    def _look_for_fin(self, now: Nanos) -> None:
        if self.fin == self.queue.nxt and not self.meta.peer_closed:
            self.queue.nxt += 1
            self.told = self.queue.nxt
            self.meta.on_data_fin(now)


def take_front(views: list[memoryview], size: int) -> list[memoryview]:
    """Remove `size` bytes from the front of `views`, and return them."""
    out = []
    count = 0
    for view in views:
        if len(view) > size:
            break
        out.append(view)
        size -= len(view)
        count += 1
    del views[:count]
    if size:
        out.append(views[0][:size])
        views[0] = views[0][size:]
    return out


def peek_front(views: list[memoryview], size: int) -> list[memoryview]:
    """The first `size` bytes."""
    out = []
    for view in views:
        if len(view) >= size:
            out.append(view[:size])
            break
        out.append(view)
        size -= len(view)
    return out


def text_sum(views: list[memoryview]) -> int:
    """The ones' complement sum of the bytes in a row."""
    total, odd = 0, False
    for view in views:
        part = ones_sum(view)
        total += (part << 8) % 0xFFFF if odd else part
        odd ^= bool(len(view) & 1)
    return total
