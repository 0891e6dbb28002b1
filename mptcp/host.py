"""Multipath TCP of one stack: who connects and listens with it, whose token is whose, whose deadline is next."""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from mptcp import fastopen, handshake
from mptcp.blackhole import Blackholes
from mptcp.config import MptcpSysctl
from mptcp.connection import MptcpConn
from mptcp.crypto import NONCE_LEN
from mptcp.dss import heard
from mptcp.mib import MptcpMib
from mptcp.options import (
    CHECKSUM_REQUIRED,
    DENY_JOIN_ID0,
    RST_EMPTCP,
    RST_EPROHIBIT,
    MpCapable,
    MpJoinSyn,
    MpTcprst,
    pad,
)
from mptcp.pm import PathManager
from mptcp.sockopt import scheduler_for
from mptcp.subflow import Role, Subflow
from mptcp.token import TokenTable
from stack.errors import StackError
from stack.tcp.extension import SynRefused, TcpExtension
from stack.tcp.options import TcpOptions
from stack.tcp.timers import NEVER
from stack.units import Nanos
from stack.wire.tcp_options import RawOption

if TYPE_CHECKING:
    from stack.host import Stack
    from stack.tcp.listen import TcpListener
    from stack.tcp.ports import Binding

SockAddr = tuple[bytes, int]


class MptcpHost:
    """One per stack, which it joins as a guest. `draw(n)` gives n random bytes."""

    def __init__(
        self, stack: "Stack", *, sysctl: MptcpSysctl | None = None, draw: Callable[[int], bytes] | None = None
    ) -> None:
        self.stack = stack
        self.sysctl = sysctl or MptcpSysctl()
        self.mib = MptcpMib()
        self.draw = draw or stack.entropy.bytes
        self.tokens: TokenTable[MptcpConn] = TokenTable(self.draw)
        self.blackholes = Blackholes(self.sysctl.blackhole_timeout)
        self.conns: set[MptcpConn] = set()
        self.pm = PathManager(self)
        self._heap: list[tuple[Nanos, int, MptcpConn]] = []
        stack.add_guest(self)

    # ------------------------------------------------------------------ the program's way in

    def connect(
        self,
        remote: SockAddr,
        now: Nanos,
        *,
        binding: "Binding | None" = None,
        local_addr: bytes | None = None,
        options: TcpOptions | None = None,
        data: bytes | memoryview = b"",
    ) -> MptcpConn:
        """Open actively. Raises StackError as TcpDemux.connect does."""
        options = options.copy() if options is not None else TcpOptions()
        meta = MptcpConn(self, self.stack.next_id(), options, passive=False)
        sub = self._first_subflow(meta)
        key = self.tokens.claim(meta) if self.sysctl.enabled else None
        meta.take_local_key(key or self.draw(8))
        plain = ""
        if not self.sysctl.enabled:
            plain = "net.mptcp.enabled is 0"
        elif key is None:
            self.mib.MPTcpExtMPFallbackTokenInit += 1
            plain = "no free token"
        elif self.blackholes.active(now):
            self.mib.MPTcpExtMPCapableSYNTXDisabled += 1
            plain = "SYNs with MPTCP vanished here lately (net.mptcp.blackhole_timeout)"
        try:
            first = meta.subflow_options()
            first.fastopen_connect = options.fastopen_connect
            sub.conn = self.stack.tcp.connect(
                remote,
                now,
                binding=binding,
                local_addr=local_addr,
                options=first,
                extension=sub,
                fast=bool(data),
            )
        except StackError:
            self.forget(meta)
            raise
        if plain:
            meta.fall_back(plain)  # not before there are addresses, which the event log asks for
        if data:
            meta.tx.queue.append(data)
            fastopen.offer(meta, sub)
        return meta

    def listen(self, binding: "Binding", backlog: int, options: TcpOptions | None = None) -> "TcpListener":
        """A listener whose `accept` yields MptcpConns, and TcpConns for peers that speak plain TCP.

        Raises StackError as TcpDemux.listen does, and ENOENT.
        """
        scheduler_for(options, self.sysctl.scheduler)  # there is no other place to refuse it
        listener = self.stack.tcp.listen(binding, backlog, options)
        listener.extension = lambda key, found: self._on_syn(listener, key, found)
        return listener

    def _first_subflow(self, meta: MptcpConn) -> Subflow:
        meta.subflow_ids += 1
        sub = Subflow(meta, meta.subflow_ids, Role.CAPABLE)
        meta.subflows.append(sub)
        meta.first = sub
        return sub

    def _on_syn(self, listener: "TcpListener", key: bytes, options: Sequence[RawOption]) -> TcpExtension | None:
        """What a SYN for a listener asks for. A join without a token of ours costs no state: it is refused at once."""
        if not self.sysctl.enabled:
            return None
        mib = self.mib
        for option in handshake.mp_options(options):
            if isinstance(option, MpCapable):
                mib.MPTcpExtMPCapableSYNRX += 1
                if not handshake.usable(option) or option.sender_key is not None:
                    return None
                return self._capable(listener, option)
            if isinstance(option, MpJoinSyn):
                return self._join(key, option)
        return None

    def _capable(self, listener: "TcpListener", option: MpCapable) -> Subflow | None:
        meta = MptcpConn(self, self.stack.next_id(), listener.options.copy(), passive=True)
        key = self.tokens.claim(meta)
        if key is None:
            self.mib.MPTcpExtMPFallbackTokenInit += 1
            return None
        meta.take_local_key(key)
        meta.checksum = meta.checksum or bool(option.flags & CHECKSUM_REQUIRED)
        meta.peer_denies_join = bool(option.flags & DENY_JOIN_ID0)
        return self._first_subflow(meta)

    def _join(self, key: bytes, option: MpJoinSyn) -> Subflow:
        """Raises SynRefused where there is no such connection, or it wants no more subflows, §3.6."""
        self.mib.MPTcpExtMPJoinSynRx += 1
        if option.backup:
            self.mib.MPTcpExtMPJoinSynBackupRx += 1
        meta = self.tokens.get(option.token)
        if meta is not None and meta.passive and meta.established and meta.first is not None and not meta.first.plain:
            heard(meta.first, self.stack.now)  # the token tells that our key came through: this path was only faster
        if meta is None or not meta.fully_established or meta.fallback or meta.is_over:
            self.mib.MPTcpExtMPJoinNoTokenFound += 1
            raise SynRefused("no connection has this token", pad(MpTcprst(RST_EMPTCP).emit()))
        if not meta.may_join():
            self.mib.MPTcpExtMPJoinRejected += 1
            raise SynRefused("enough subflows", pad(MpTcprst(RST_EPROHIBIT).emit()))
        size = (len(key) - 4) // 2
        meta.subflow_ids += 1
        local_id = meta.paths.local_id(key[size:-4]) if meta.paths is not None else 0
        sub = Subflow(meta, meta.subflow_ids, Role.JOIN, local_id, option.address_id)
        sub.peer_bkup = option.backup
        sub.peer_nonce = option.nonce
        sub.nonce = self.draw(NONCE_LEN)
        return sub

    # ------------------------------------------------------------------ tables

    def joined(self, meta: MptcpConn) -> None:
        """A connection is established."""
        self.conns.add(meta)

    def untoken(self, meta: MptcpConn) -> None:
        """No subflow may join it any more."""
        if meta.key_local:
            self.tokens.release(meta.key_local, meta)

    def forget(self, meta: MptcpConn) -> None:
        """It is over."""
        self.untoken(meta)
        self.conns.discard(meta)

    def find(self, ident: int) -> MptcpConn | None:
        """The connection with this id."""
        return next((meta for meta in self.conns if meta.id == ident), None)

    def __iter__(self) -> Iterator[MptcpConn]:
        return iter(sorted(self.conns, key=lambda meta: meta.id))

    # ------------------------------------------------------------------ time

    def note_deadline(self, meta: MptcpConn) -> None:
        """Its deadline may be sooner than the one in the heap."""
        deadline = meta.deadline
        if deadline < meta.heap_at:
            meta.heap_at = deadline
            heappush(self._heap, (deadline, meta.id, meta))

    def poll_timeout(self) -> Nanos | None:
        """The earliest deadline; may be earlier than anything that is really due."""
        return self._heap[0][0] if self._heap else None

    def handle_timeout(self, now: Nanos) -> None:
        """Run what is due by `now`."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            deadline, _ident, meta = heappop(heap)
            if deadline != meta.heap_at:
                continue  # an earlier one took this entry's place
            meta.heap_at = NEVER
            if meta.ended:
                continue
            if meta.deadline <= now:
                meta.on_timeout(now)
            self.note_deadline(meta)

    def check(self) -> None:
        """Raise InvariantBroken if a connection contradicts itself."""
        for meta in self.conns:
            meta.check()
