"""A Multipath TCP connection: what a program holds, with the verbs of stack/tcp/conn.py, standing on subflows.

Its two halves are mptcp/receive.py and mptcp/send.py, mptcp/joins.py has the life of its subflows, mptcp/closing.py its
end, mptcp/fallback.py makes it plain TCP. A verb enqueues and marks subflows; it never builds a packet.
"""

import errno
from collections import deque
from typing import TYPE_CHECKING, Any

from mptcp import closing, fallback, fastopen, joins, sockopt
from mptcp.cc import Group
from mptcp.crypto import idsn, token
from mptcp.receive import Receive
from mptcp.sched import make_scheduler
from mptcp.sched.base import SendState
from mptcp.send import Send
from mptcp.subflow import Subflow
from stack.errors import InvariantBroken, StackError
from stack.events import CONNECTED
from stack.tcp.options import OptionValue, TcpOptions
from stack.tcp.state import (
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RECEIVED,
    SYN_SENT,
    State,
)
from stack.tcp.state import CLOSING as STATE_CLOSING
from stack.tcp.timers import NEVER
from stack.units import MSEC, Nanos

if TYPE_CHECKING:
    from mptcp.host import MptcpHost
    from mptcp.pm.base import Paths
    from stack.tcp.conn import TcpConn
    from stack.tcp.info import TcpInfo
    from stack.tcp.listen import TcpListener
    from stack.wire.tcp import Segment

MAX_WHY = 64  # decisions remembered
WATCH_FIRST = 10 * MSEC
SockAddr = tuple[bytes, int]


class MptcpConn:
    """One connection. `why` remembers the last decisions in words, for `nuse explain`."""

    # Slots, as in stack/host.py: there are more attributes than CPython keeps quick in an instance's dict.
    __slots__ = (
        "acked_to",
        "checksum",
        "deny_join",
        "end_at",
        "ended",
        "error",
        "established",
        "events",
        "extra_subflows",
        "fallback",
        "fin_acked",
        "fin_rounds",
        "first",
        "fully_established",
        "group",
        "heap_at",
        "host",
        "id",
        "infinite_from",
        "key_local",
        "key_remote",
        "listener",
        "options",
        "orphan",
        "owner",
        "passive",
        "paths",
        "peer_closed",
        "peer_denies_join",
        "progress_at",
        "read_closed",
        "refusals",
        "remote_token",
        "retransmit_at",
        "rx",
        "scheduler",
        "subflow_ids",
        "subflows",
        "token",
        "tx",
        "watch_at",
        "weights",
        "why",
    )

    def __init__(self, host: "MptcpHost", ident: int, options: TcpOptions, *, passive: bool) -> None:
        knobs = host.sysctl
        self.host = host
        self.id = ident
        self.owner: Any = None
        self.events = 0
        self.error = 0
        self.options = options
        self.passive = passive
        self.listener: TcpListener | None = None
        self.orphan = False
        self.established = False
        self.fully_established = False  # both sides have both keys: subflows may join
        self.read_closed = False
        self.peer_closed = False
        self.fin_acked = False
        self.fin_rounds = 0  # times that a DATA_FIN before any text found no answer
        self.ended = False  # out of the host's tables
        self.subflows: list[Subflow] = []
        self.first: Subflow | None = None  # the one that it began with, also when that is gone
        self.subflow_ids = 0
        self.extra_subflows = 0  # joins so far that worked
        self.refusals = 0  # joins that were answered with RST while there was no other path
        self.key_local = self.key_remote = b""
        self.token = self.remote_token = 0
        self.checksum = bool(knobs.checksum_enabled)
        self.deny_join = not knobs.allow_join_initial_addr_port
        self.peer_denies_join = False
        self.fallback = ""  # why it is plain TCP; empty: it is not
        self.infinite_from = -1  # where our infinite mapping begins; 0: still to be decided, −1: there is none
        self.group = Group()
        self.scheduler = sockopt.scheduler_for(options, knobs.scheduler)
        self.weights: dict[tuple[bytes, bytes], int] = {}  # set from outside, by the addresses of the subflow
        self.paths: Paths | None = None
        self.rx = Receive(self)
        self.tx = Send(self)
        self.why: deque[str] = deque(maxlen=MAX_WHY)
        self.acked_to = 0  # the DATA_ACK that the peer was told last
        self.retransmit_at: Nanos = NEVER  # when to look whether the peer is silent at the data level
        self.progress_at: Nanos = 0  # its last DATA_ACK of something new
        self.watch_at: Nanos = NEVER  # when to look whether a subflow is silent
        self.end_at: Nanos = NEVER  # when patience ends: for a subflow to come back, for the peer's DATA_FIN
        self.heap_at: Nanos = NEVER

    # ------------------------------------------------------------------ what a program sees

    @property
    def local(self) -> SockAddr:
        """Address and port of the first subflow."""
        return self._first_conn().local

    @property
    def remote(self) -> SockAddr:
        """The peer's."""
        return self._first_conn().remote

    @property
    def saved_syn(self) -> bytes:
        """With options.save_syn: the headers of the peer's SYN."""
        return self._first_conn().saved_syn

    @property
    def snd_una(self) -> int:
        """The first byte that is not acknowledged at the data level."""
        return self.tx.una

    @property
    def snd_nxt(self) -> int:
        """The first byte that no subflow has been given."""
        return self.tx.nxt

    @property
    def write_seq(self) -> int:
        """One past what the program wrote."""
        return self.tx.queue.end

    @property
    def rcv_nxt(self) -> int:
        """The next byte expected: what DATA_ACK says."""
        return self.rx.queue.nxt

    def _first_conn(self) -> "TcpConn":
        assert self.first is not None
        return self.first.conn

    @property
    def state(self) -> State:
        """As TCP's, by DATA_FINs instead of FINs; that of the subflow where there is no Multipath TCP."""
        if self.ended:
            return CLOSED
        if not self.established:
            return SYN_RECEIVED if self.passive else SYN_SENT
        if self.fallback and self.subflows:
            return self.subflows[0].conn.state
        if not self.tx.fin_queued:
            return CLOSE_WAIT if self.peer_closed else ESTABLISHED
        if self.peer_closed:
            return LAST_ACK if not self.fin_acked else STATE_CLOSING
        return FIN_WAIT_2 if self.fin_acked else FIN_WAIT_1

    def info(self, now: Nanos) -> "TcpInfo":
        """TCP_INFO: that of the first subflow, as in Linux."""
        return self._first_conn().info(now)

    # ------------------------------------------------------------------ writing

    @property
    def send_space(self) -> int:
        """Bytes that may still be queued; may go below zero by one chunk."""
        return self.tx.space

    @property
    def send_queued(self) -> int:
        """Bytes that the peer has not acknowledged at the data level, sent or not (SIOCOUTQ)."""
        return len(self.tx.queue)

    @property
    def unsent(self) -> int:
        """Bytes that no subflow has been given (SIOCOUTQNSD)."""
        return max(self.tx.queue.end - self.tx.nxt, 0)

    def send(self, data: bytes | memoryview, more: bool = False, urgent: bool = False) -> None:
        """Queue `data`, which must never change afterwards. Urgent data is plain data, as in Linux's MPTCP.

        Raises StackError EPIPE after shutdown or once the connection is gone.
        """
        if self.tx.fin_queued or self.ended or self.error:
            raise StackError(errno.EPIPE, "the sending direction is closed")
        if data:
            self.tx.queue.append(data)
            if not self.established and self._first_conn().waits_for_text:
                fastopen.offer(self, self.subflows[0])
            elif not more:
                self.wake_subflows()

    def shutdown(self) -> None:
        """No more will be sent: DATA_FIN follows what is queued. Raises StackError ENOTCONN."""
        if not (self.established or self.passive):
            raise StackError(errno.ENOTCONN, "not connected")
        closing.shut(self)

    # ------------------------------------------------------------------ reading

    @property
    def readable(self) -> int:
        """Bytes in order, ready to take."""
        return self.rx.queue.readable

    def views(self, limit: int) -> list[memoryview]:
        """In-order text, at most `limit` bytes; it stays queued until `consume`."""
        return self.rx.queue.views(limit)

    def consume(self, count: int) -> None:
        """The program took `count` bytes; tells the peer when that opens the window by enough."""
        rx = self.rx
        rx.queue.consume(count)
        self.window_moved()
        left = rx.right - rx.queue.nxt
        fresh = rx.buffer.size - rx.queue.readable
        if fresh >= 2 * left and fresh - left >= min(rx.buffer.size // 2, 1460) and not self.peer_closed:
            for sub in self.subflows:
                if sub.joined and not sub.gone:
                    sub.conn.ack_due = True
                    self.host.stack.tcp.mark(sub.conn)

    def shutdown_read(self) -> None:
        """The program will read no more."""
        self.read_closed = True

    @property
    def urgent(self) -> None:
        """Multipath TCP has no urgent data."""
        return None

    def at_mark(self) -> bool:
        """Never: there is no urgent data."""
        return False

    def recv_urgent(self, peek: bool = False) -> bytes:
        """Raises StackError EINVAL: there is no urgent data."""
        raise StackError(errno.EINVAL, "no urgent data over Multipath TCP")

    # ------------------------------------------------------------------ ending

    def close(self) -> None:
        """The program is gone: DATA_FIN after what is queued, MP_FASTCLOSE if it left text unread."""
        closing.close(self)

    def abort(self) -> None:
        """MP_FASTCLOSE now; what is queued is lost."""
        closing.abort(self)

    # ------------------------------------------------------------------ options

    def set_option(self, name: str, value: OptionValue) -> None:
        """Set one of TcpOptions, here and on every subflow.

        Raises StackError EINVAL, ENOENT, ENOPROTOOPT, EOPNOTSUPP.
        """
        sockopt.set_option(self, name, value)

    def set_scheduler(self, name: str) -> None:
        """Another scheduler from now on. Raises StackError ENOENT."""
        self.scheduler = make_scheduler(name)
        self.say(f"scheduler is {name}")
        self.wake_subflows()

    def set_weight(self, sub: Subflow, weight: int) -> None:
        """Its share with the scheduler `weighted`, also that of one in its place later. Raises StackError EINVAL."""
        sockopt.set_weight(self, sub, weight)

    def subflow_options(self) -> TcpOptions:
        """For one more subflow."""
        return sockopt.subflow_options(self)

    # ------------------------------------------------------------------ for the other files of mptcp

    def say(self, text: str) -> None:
        """Remember a decision."""
        self.why.append(text)
        self.host.stack.tcp.trace("mptcp", self)

    def post(self, bits: int) -> None:
        """Tell the owner, unless it has gone."""
        if not self.orphan:
            self.host.stack.post_event(self, bits)

    def wake_subflows(self) -> None:
        """Something may be sent."""
        mark = self.host.stack.tcp.mark
        for sub in self.subflows:
            if sub.joined:
                mark(sub.conn)

    def window_moved(self) -> None:
        """The window to offer is another, on every subflow."""
        for sub in self.subflows:
            sub.conn.window_stale = True

    def usable(self) -> list[Subflow]:
        """Those that may be given text: backups only if there is no other, silent ones only if all are."""
        ready = [sub for sub in self.subflows if sub.usable]
        if len(ready) < 2:
            return ready
        ready = [sub for sub in ready if not sub.silent] or ready
        return [sub for sub in ready if not sub.backup] or ready

    def choose(self, state: SendState, now: Nanos) -> Subflow | None:
        """Who takes the next text."""
        ready = self.usable()
        if len(ready) == 1:
            return ready[0]
        chosen = self.scheduler.pick(ready, state, now) if ready else None
        return chosen if isinstance(chosen, Subflow) else None

    def send_ack(self, now: Nanos) -> None:
        """A bare ACK soon, on the first subflow that can: it carries what DSS, addresses and priorities have to say."""
        for sub in self.usable() or self.subflows:
            if sub.joined and not sub.plain:
                sub.conn.bare_ack_due = True
                self.host.stack.tcp.mark(sub.conn)
                return

    def send_ack_on(self, sub: Subflow) -> None:
        """The same on this one."""
        sub.conn.bare_ack_due = True
        self.host.stack.tcp.mark(sub.conn)

    def mark(self, now: Nanos) -> None:
        """A deadline may be sooner than it was."""
        self.host.note_deadline(self)

    @property
    def deadline(self) -> Nanos:
        """When `on_timeout` wants to be called."""
        other = self.paths.deadline if self.paths is not None else NEVER
        return min(self.retransmit_at, self.watch_at, self.end_at, self.rx.unmapped_at, self.tx.ask.at, other)

    def arm_retransmit(self, now: Nanos) -> None:
        """Text is on its way: start the data-level timer unless it runs."""
        if self.retransmit_at == NEVER:
            self.progress_at = now
            self.retransmit_at = now + self.tx.retransmit_after()
            self.host.note_deadline(self)
        if self.watch_at == NEVER and len(self.subflows) > 1:
            self.watch_at = now + WATCH_FIRST
            self.host.note_deadline(self)

    def on_progress(self, now: Nanos) -> None:
        """The data-level timer begins anew, or stops. It is not moved, but looks at the time of this when it rings."""
        self.progress_at = now
        if self.tx.una >= self.tx.nxt:
            self.retransmit_at = NEVER

    def watch(self, now: Nanos) -> None:
        """Where there are several paths, look for those that fell silent, and when to look again."""
        self.watch_at = NEVER
        if len(self.subflows) < 2:
            return
        for sub in list(self.subflows):
            if sub.usable:
                missed = sub.missed_at
                if missed <= now:
                    sub.miss(now)
                elif missed < self.watch_at:
                    self.watch_at = missed
        self.host.note_deadline(self)

    def on_timeout(self, now: Nanos) -> None:
        """Whatever is due."""
        if self.watch_at <= now:
            self.watch(now)
        if self.rx.unmapped_at <= now:
            self.rx.patience_ends(now)
        if self.tx.ask.at <= now:
            self.tx.ask.on_timeout(now)
        if self.retransmit_at <= now:
            due = self.progress_at + self.tx.retransmit_after()
            self.retransmit_at = due if due > now else NEVER
            if due <= now and self.tx.timer_passed(now):
                self.arm_retransmit(now)
        if self.paths is not None and self.paths.deadline <= now:
            self.paths.on_timeout(now)
        if self.end_at <= now and not self.ended:
            self.end_at = NEVER
            closing.patience_ends(self, now)

    # ------------------------------------------------------------------ keys

    def take_remote_key(self, key: bytes) -> None:
        """The peer's key: its token and its first DSN follow."""
        self.key_remote = key
        self.remote_token = token(key)
        self.rx.start(idsn(key) + 1, self.host.stack.now)

    def begin_without_key(self, first: int) -> None:
        """The client never says its key, only that its data begins, and ends, at `first`: there will be no joins."""
        self.host.mib.NuseMPCapableNoKey += 1
        self.say("the client's key was lost, or never sent, before its DATA_FIN: no further subflows")
        self.rx.start(first, self.host.stack.now)

    def take_local_key(self, key: bytes) -> None:
        """Ours."""
        self.key_local = key
        self.token = token(key)
        self.tx.start(idsn(key) + 1)

    def on_established(self, now: Nanos) -> None:
        """The first subflow's handshake is over."""
        self.established = True
        conn = self._first_conn()
        self.tx.right = self.tx.una + conn.tcb.snd_wnd
        self.host.joined(self)
        if not self.fallback:
            self.host.mib.MPTcpExtMPCurrEstab += 1
        self.post(CONNECTED)
        self.wake_subflows()

    def on_fully_established(self, now: Nanos) -> None:
        """The peer's DSS gets through: from here on there may be further subflows."""
        if not self.key_remote:
            return
        self.fully_established = True
        self.paths = self.host.pm.paths(self)
        self.paths.on_established(now)
        self.host.note_deadline(self)

    # ------------------------------------------------------------------ subflows (mptcp/joins.py)

    def join(
        self,
        local_addr: bytes | None,
        remote: SockAddr,
        *,
        local_id: int,
        remote_id: int,
        backup: bool,
        now: Nanos,
    ) -> Subflow:
        """Open one more subflow. Raises StackError as connect does."""
        return joins.join(self, local_addr, remote, local_id=local_id, remote_id=remote_id, backup=backup, now=now)

    def may_join(self) -> bool:
        """True if the peer may open one more."""
        return joins.may_join(self)

    def add_subflow(self, sub: Subflow) -> None:
        """It belongs to the connection from now on."""
        self.subflows.append(sub)

    def on_join(self, sub: Subflow, now: Nanos) -> None:
        """A further subflow is complete."""
        joins.on_join(self, sub, now)

    def set_backup(self, sub: Subflow, backup: bool, now: Nanos) -> None:
        """Ask the peer to use it only as a backup, or as a regular path again (MP_PRIO)."""
        joins.set_backup(self, sub, backup)

    def close_subflow(self, sub: Subflow, now: Nanos, reason: int = 0) -> None:
        """Reset one; what it holds goes over the others."""
        joins.reset(self, sub, sub.conn, reason, "it was removed")

    def reset_subflow(self, sub: Subflow, conn: "TcpConn", reason: int, why: str) -> None:
        """RST with a reason (RFC 8684 §3.6)."""
        joins.reset(self, sub, conn, reason, why)

    def on_subflow_fin(self, sub: Subflow, now: Nanos) -> None:
        """The peer's FIN on one subflow."""
        joins.on_fin(self, sub, now)

    def on_subflow_end(self, sub: Subflow, now: Nanos) -> None:
        """One left the tables, for whatever reason."""
        joins.on_end(self, sub, now)

    # ------------------------------------------------------------------ the end (mptcp/closing.py)

    @property
    def is_over(self) -> bool:
        """DATA_FIN went both ways, or the connection died."""
        return self.ended or (self.peer_closed and self.fin_acked)

    def on_data_fin(self, now: Nanos) -> None:
        """All of the peer's text has come."""
        closing.on_data_fin(self, now)

    def tell_fin(self) -> None:
        """All text has found a path: DATA_FIN may follow."""
        closing.tell_fin(self)

    def on_fin_acked(self, now: Nanos) -> None:
        """The peer has all of ours, and knows that it was all."""
        closing.on_fin_acked(self, now)

    def on_fastclose(self, now: Nanos) -> None:
        """The peer aborted the connection."""
        closing.on_fastclose(self, now)

    def fail(self, err: int, now: Nanos) -> None:
        """Dead with errno `err`."""
        closing.fail(self, err, now)

    def withdraw(self) -> None:
        """The first subflow goes on as plain TCP, without this."""
        self.host.forget(self)
        self.ended = True

    # ------------------------------------------------------------------ plain TCP (mptcp/fallback.py)

    def may_fall_back(self, sub: Subflow) -> bool:
        """True while one subflow has carried everything."""
        return fallback.allowed(self, sub)

    def fall_back(self, why: str, now: Nanos = 0) -> None:
        """Plain TCP from here on; `why` in words."""
        fallback.fall_back(self, why, now)

    def is_alone(self, sub: Subflow) -> bool:
        """True if no other subflow ever carried anything."""
        return fallback.alone(self, sub)

    def without_mapping(self, sub: Subflow, now: Nanos) -> None:
        """Text on the only subflow has no mapping: MP_FAIL, and plain TCP."""
        fallback.no_mapping(self, sub, now)

    def fail_to_plain(self, sub: Subflow, now: Nanos) -> None:
        """A checksum failed on the only subflow: MP_FAIL, and plain TCP."""
        fallback.after_bad_sum(self, sub, now)

    def on_fail(self, sub: Subflow, dsn: int, now: Nanos) -> None:
        """MP_FAIL: the peer cannot use some of our text."""
        fallback.on_fail(self, sub, dsn, now)

    def on_infinite_mapping(self, sub: Subflow, dsn: int, now: Nanos) -> None:
        """The peer speaks plain TCP from `dsn` on."""
        fallback.on_infinite(self, sub, dsn, now)

    def end_without_key(self, sub: Subflow, seg: "Segment") -> None:
        """Plain TCP, unless the client means MPTCP."""
        fallback.end_without_key(self, sub, seg)

    def check(self) -> None:
        """Raise InvariantBroken if parts contradict one another."""
        self.rx.queue.check()
        self.tx.queue.check()
        if not self.tx.una <= self.tx.nxt <= self.tx.queue.end + 1:
            raise InvariantBroken(f"data SND.UNA {self.tx.una}, SND.NXT {self.tx.nxt}, end {self.tx.queue.end}")
