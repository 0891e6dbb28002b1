"""The sending half of a connection: what the program wrote, which subflow carries which of it, and what must go again.

Text stays in one queue by data sequence number until the peer's DATA_ACK, and in a subflow until that is acknowledged
as well (RFC 8684 §3.3.5); both hold views of the same bytes. A subflow asks when it has sent all it had (`feed`), so
text is bound to a path as late as can be. Each answer is one mapping, at most one super-segment long; some more where
there is one path only.

Text goes over a second path when the first falls silent, at its probe time-out already (`rescue`); when its subflow
dies; when the peer's window is full because the oldest text is on a slower path (opportunistic retransmission with
penalty, Raiciu et al., NSDI 2012), or nothing else is left to do; and when the data-level timer passes.
"""

from bisect import insort
from typing import TYPE_CHECKING

from mptcp import closing
from mptcp.ask import Ask
from mptcp.crypto import dss_checksum
from mptcp.maps import MAX_RUN, Run
from mptcp.receive import text_sum
from mptcp.sched.base import SendState
from stack.events import WRITABLE
from stack.tcp.sendq import SendQueue
from stack.units import MSEC, SEC, Nanos

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn
    from mptcp.subflow import Subflow

MIN_SNDBUF = 131072
NEAR, NEAR_SNDBUF = MSEC, 2 << 20  # where more would only leave the processor's cache, as stack/tcp/conn.py has it
AHEAD = 8 * MAX_RUN  # given at once to the only subflow, as far as its windows reach: no other could carry it
NO_FIN = -1
NOBODY = 0  # in place of a subflow's number: none has it


class Send:
    """What is to go, what is out, and what goes again."""

    def __init__(self, meta: "MptcpConn") -> None:
        self.meta = meta
        self.queue = SendQueue(0)
        self.ask = Ask(meta)
        self.first = self.una = self.nxt = 0
        self.right = 0  # how far the peer allows
        self.fin_queued = False
        self.fin = NO_FIN  # DSN of our DATA_FIN once nothing is left to assign
        self.small = 0  # end of the last piece below a segment (Minshall's Nagle)
        self.again: list[tuple[int, int, int]] = []  # ranges to send once more, and the subflow that has them already
        self.stalled = False
        self.held_back = False  # a subflow could carry what waits, but Nagle, the window or the scheduler says no
        self.retransmitted = 0  # how often text went over one more subflow, and how much
        self.bytes_retransmitted = 0
        self.helped = 0  # text before this was carried by a faster path than it had first

    def start(self, first: int) -> None:
        """Our key is in use, so the first DSN is known. What was queued before keeps its place."""
        old, self.queue = self.queue, SendQueue(first)
        while len(old):
            views = old.views(old.start, len(old))
            for view in views:
                self.queue.append(view)
            old.ack_to(old.start + sum(map(len, views)))
        self.first = self.una = self.nxt = self.small = self.right = first

    # ------------------------------------------------------------------ the program

    def size(self) -> int:
        """The send buffer: SO_SNDBUF, else twice what all paths together carry in the longest round trip.

        Each path counts for as much as tcp_wmem allows one connection, as in Linux.
        """
        meta = self.meta
        if meta.options.sndbuf:
            return meta.options.sndbuf
        _least, first, most = meta.host.stack.sysctl.tcp_wmem
        subflows = meta.subflows
        if len(subflows) == 1 and subflows[0].usable:  # the usual, and asked for each chunk that is written
            conn = subflows[0].conn
            slowest, want, count = conn.rtt.srtt, 2 * conn.cc.cwnd, 1
        else:
            paths = [sub for sub in subflows if sub.usable]
            slowest = max((sub.srtt for sub in paths), default=0)
            want = sum(2 * sub.cwnd * slowest // (sub.srtt or slowest or 1) for sub in paths)
            count = max(len(paths), 1)
        if 0 < slowest < NEAR:
            most = min(most, NEAR_SNDBUF)
        return min(most * count, max(first, MIN_SNDBUF, want))

    @property
    def space(self) -> int:
        """Bytes that may still be queued; may go below zero by one chunk."""
        room = self.size() - len(self.queue)
        lowat = self.meta.options.notsent_lowat & 0xFFFF_FFFF
        if lowat:
            room = min(room, lowat - (self.queue.end - self.nxt))
        if room <= 0:
            self.stalled = True
        return room

    # ------------------------------------------------------------------ to a subflow

    def feed(self, sub: "Subflow", now: Nanos) -> bool:
        """`sub` has sent all it had: give it the next run, if it is its turn.

        True if it would be, and only its congestion window is in the way.
        """
        meta = self.meta
        if not sub.joined or sub.gone or sub.conn.fin_queued:
            return False
        if sub.plain:
            self.hand_over(sub)
            return False
        queued = self.queue.end - self.nxt
        window = self.right - self.nxt
        if queued > 0 >= window:
            self.held_back = True
            if self.una == self.nxt:
                self._probe(sub, now)
                return False
        room = sub.room
        if not room:
            waiting = (queued > 0 and window > 0) or bool(self.again)
            if waiting:
                self._ask_others(sub)
            return waiting
        if self.again and self._resend(sub, now):
            return False
        if meta.scheduler.duplicates and self._follow(sub):
            return False
        if queued <= 0:
            if len(meta.subflows) > 1 and self.una < self.nxt:
                self._help(sub, False, now)
            return False
        if window <= 0:
            self._help(sub, True, now)
            return False
        size = min(queued, window)
        mss = sub.mss
        if size < mss and size == queued and not self._may_send_partial():
            self.held_back = True
            return False
        if len(meta.subflows) > 1:
            chosen = meta.choose(SendState(window, queued), now)
            if chosen is not sub:
                self.held_back = True
                if chosen is not None and chosen.room:
                    meta.host.stack.tcp.mark(chosen.conn)
                return False
        size = min(size, room, MAX_RUN if len(meta.subflows) > 1 else AHEAD)
        if size > mss and size != queued:
            size -= size % mss
        self.assign(sub, self.nxt, size)
        meta.scheduler.on_sent(sub, size, now)
        self.nxt += size
        sub.cursor = self.nxt
        if size < mss:
            self.small = self.nxt
        meta.arm_retransmit(now)
        if self.fin_queued and self.nxt == self.queue.end:
            meta.tell_fin()
        if meta.scheduler.duplicates:
            meta.wake_subflows()
        return False

    def _ask_others(self, full: "Subflow") -> None:
        """`full` takes no more: another may be next."""
        for sub in self.meta.subflows:
            if sub is not full and sub.usable and not sub.conn.dirty and sub.room:
                self.meta.host.stack.tcp.mark(sub.conn)

    def _probe(self, sub: "Subflow", now: Nanos) -> None:
        """The peer's window is shut and nothing is out: one byte, so that a persist timer asks for more."""
        self.meta.host.mib.MPTcpExtWinProbe += 1
        self.assign(sub, self.nxt, 1)
        self.nxt += 1
        self.meta.arm_retransmit(now)

    def _follow(self, sub: "Subflow") -> bool:
        """For a scheduler that sends everything everywhere: what others have sent and `sub` has not."""
        start = max(sub.cursor, self.una)
        if start >= min(self.nxt, self.queue.end):
            return False
        size = min(self.nxt - start, self.queue.end - start, sub.room, MAX_RUN)
        self.assign(sub, start, size)
        sub.cursor = start + size
        return True

    def hand_over(self, sub: "Subflow") -> None:
        """After a fallback the subflow's own rules are enough: it gets all there is."""
        size = self.queue.end - self.nxt
        if size <= 0:
            return
        if self.meta.infinite_from == 0:
            self.meta.infinite_from = sub.conn.sendq.end
        self.assign(sub, self.nxt, size)
        self.nxt += size

    def assign(self, sub: "Subflow", dsn: int, size: int) -> None:
        """Queue `size` bytes of the data on a subflow, with mappings of their own."""
        conn = sub.conn
        sendq = conn.sendq
        start = sendq.end
        end = start + size
        while sendq.end < end:
            for view in self.queue.views(dsn + sendq.end - start, end - sendq.end):
                sendq.append(view)
        sub.bytes_sent += size
        longest = size
        if size > MAX_RUN:
            mss = sub.mss
            longest = MAX_RUN // mss * mss or MAX_RUN
        summed = self.meta.checksum and not sub.plain
        for at in range(start, end, longest):
            till = min(at + longest, end)
            there = dsn + at - start
            sub.sent.add(self.mapping(sub, at, there, till - at) if summed else Run(at, till, there))

    def mapping(self, sub: "Subflow", start: int, dsn: int, size: int) -> Run:
        """That of text which is queued on the subflow from `start` on."""
        checksum = None
        if self.meta.checksum and not sub.plain:
            total = text_sum(sub.conn.sendq.views(start, size))
            checksum = dss_checksum(dsn, start - sub.conn.tcb.iss - sub.early_out, size, total)
        return Run(start, start + size, dsn, checksum)

    def _may_send_partial(self) -> bool:
        """Nagle, over data: a piece below a segment waits while another such is on its way."""
        options = self.meta.options
        if self.fin_queued:
            return True
        if options.cork:
            return False
        return options.nodelay or self.small <= self.una

    def _help(self, sub: "Subflow", window_full: bool, now: Nanos) -> None:
        """`sub` has room and nothing to carry: carry what a slower path has, oldest first, as all else waits for it.

        Where the peer's window is what keeps new text back, that path has too much as well: it is slowed down, but not
        in its first slow start, when the peer's buffer is still growing too.
        """
        meta = self.meta
        at = max(self.una, self.helped)
        oldest: tuple[int, int, Subflow] | None = None
        for other in meta.subflows:
            if other is not sub and not other.gone and other.srtt * 4 > sub.srtt * 5:
                for start, end in other.sent.outstanding(other.conn.tcb.snd_una, at):
                    if oldest is None or start < oldest[0]:
                        oldest = (start, end, other)
        if oldest is None:
            return
        start, end, slow = oldest
        size = min(end - start, sub.room, MAX_RUN)
        self.helped = start + size
        self.repeat(sub, start, size)
        cc = slow.conn.cc
        if window_full and now - slow.penalised_at > slow.srtt and not cc.in_initial_slow_start():
            slow.penalised_at = now
            cc.ssthresh = max(cc.cwnd // 2, 2 * cc.mss)
            cc.cwnd = cc.ssthresh
            meta.say(f"window full behind subflow {slow.id}: halved it, sent the oldest text over {sub.id}")

    # ------------------------------------------------------------------ again

    def rescue(self, sub: "Subflow", now: Nanos) -> None:
        """`sub` is silent or dead: what only it has goes over the others too."""
        meta = self.meta
        if meta.fallback:
            return
        ranges = self._uncarried() if sub.gone else sub.sent.outstanding(sub.conn.tcb.snd_una, self.una)
        if not ranges:
            return
        size = sum(end - start for start, end in ranges)
        meta.say(f"subflow {sub.id} is {'gone' if sub.gone else 'silent'}: its {size} bytes may go over another path")
        for start, end in ranges:
            self._once_more(start, end, sub.id)
        meta.wake_subflows()

    def _uncarried(self) -> list[tuple[int, int]]:
        """What has no DATA_ACK and is on its way over no subflow: lost with one, or acknowledged by one and dropped."""
        carried: list[tuple[int, int]] = []
        for sub in self.meta.subflows:
            carried += sub.sent.outstanding(sub.conn.tcb.snd_una, self.una)
        found, at, end = [], self.una, min(self.nxt, self.queue.end)
        for first, last in sorted(carried):
            if first > at:
                found.append((at, first))
            at = max(at, last)
        return [*found, (at, end)] if at < end else found

    def _once_more(self, start: int, end: int, holder: int) -> None:
        if not any(first <= start and end <= last for first, last, _ in self.again):
            insort(self.again, (start, end, holder))

    def _resend(self, sub: "Subflow", now: Nanos) -> bool:
        """Something that must go again, over `sub`, if it is not what had it. True if something was queued."""
        index = 0
        while index < len(self.again):
            start, end, holder = self.again[index]
            start = max(start, self.una)
            if start >= end:
                del self.again[index]
                continue
            if holder == sub.id:
                index += 1
                continue
            size = min(end - start, sub.room, MAX_RUN)
            self.repeat(sub, start, size)
            if start + size < end:
                self.again[index] = (start + size, end, holder)
            else:
                del self.again[index]
            self.meta.arm_retransmit(now)
            return True
        return False

    def repeat(self, sub: "Subflow", dsn: int, size: int) -> None:
        """Text that had a subflow already."""
        self.assign(sub, dsn, size)
        self.retransmitted += 1
        self.bytes_retransmitted += size
        self.meta.host.mib.MPTcpExtMPTCPRetrans += 1

    def timer_passed(self, now: Nanos) -> bool:
        """The data-level timer: the oldest text again, and DATA_FIN. False if nothing is outstanding."""
        meta = self.meta
        if self.una >= self.nxt:
            return False
        for start, end in self._uncarried():
            self._once_more(start, end, NOBODY)
        if self.fin != NO_FIN:
            if closing.unanswered(meta, now):
                return False
            meta.send_ack(now)
        meta.wake_subflows()
        return True

    # ------------------------------------------------------------------ acknowledged

    def acknowledged(self, ack: int, right: int, now: Nanos) -> None:
        """The peer's DATA_ACK, and the window that came with it."""
        if ack > self.nxt:
            return  # of what was never sent
        opened = right > self.right
        self.right = max(self.right, right)
        if ack <= self.una:
            if opened and self.held_back:
                self.held_back = False
                self.meta.wake_subflows()
            return
        self.una = ack
        self.ask.vain = 0
        queue = self.queue
        if ack > queue.start:
            queue.ack_to(min(ack, queue.end))
        meta = self.meta
        if self.stalled and 3 * len(queue) < 2 * self.size():
            self.stalled = False
            meta.post(WRITABLE)
        meta.on_progress(now)
        if self.fin != NO_FIN and ack > self.fin:
            meta.on_fin_acked(now)
        if self.held_back:
            self.held_back = False
            meta.wake_subflows()

    def plain_progress(self, sub: "Subflow", now: Nanos) -> None:
        """Without DATA_ACKs the subflow's own acknowledgments count."""
        conn = sub.conn
        left = conn.sendq.end - max(conn.tcb.snd_una, conn.sendq.start)
        self.right = self.nxt + (1 << 30)
        self.acknowledged(self.nxt - left - (1 if self.fin != NO_FIN else 0), self.right, now)

    # ------------------------------------------------------------------ the end

    def shut(self) -> None:
        """DATA_FIN after what is queued."""
        self.fin_queued = True

    def fin_to_tell(self) -> int:
        """DSN of the DATA_FIN that a bare ACK is to carry now, −1 if none: not before all text found a path."""
        if not self.fin_queued or self.meta.fallback:
            return NO_FIN
        if self.fin == NO_FIN and self.nxt == self.queue.end:
            self.fin = self.nxt
            self.nxt += 1
        return self.fin if self.fin >= self.una else NO_FIN

    def fin_checksum(self, dsn: int) -> int:
        """That of the mapping of a DATA_FIN alone."""
        return dss_checksum(dsn, 0, 1, 0)

    def retransmit_after(self) -> Nanos:
        """How long to wait for a DATA_ACK: as long as the slowest subflow waits for its own."""
        return max((sub.conn.rtt.rto for sub in self.meta.subflows if not sub.gone), default=SEC)
