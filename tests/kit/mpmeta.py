"""A Multipath TCP connection as path managers see it, and a host around it: no packets, everything at hand."""

import errno
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from mptcp.config import MptcpSysctl
from mptcp.mib import MptcpMib
from mptcp.options import AddAddr, Option, parse
from mptcp.pm import PathManager
from stack.errors import StackError
from stack.host import Stack
from stack.wire.tcp_options import NOP

SockAddr = tuple[bytes, int]

LINK_A, LINK_B, LINK_C = (bytes((10, 0, n, 2)) for n in range(3))
SERVER: SockAddr = (bytes((192, 0, 2, 1)), 443)
HMAC = b"12345678"


class FakeHost:
    """Three links with an address each, and a path manager."""

    def __init__(self) -> None:
        self.stack = Stack(secret=bytes(32))
        self.links = self.stack.links
        for n, addr in enumerate((LINK_A, LINK_B, LINK_C)):
            self.stack.add_link(f"tun{n}", [(addr, 24)])
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.stack.tracer = lambda name, subject: self.events.append((name, subject))
        self.listener = FakeListener()
        self.sysctl = MptcpSysctl()
        self.mib = MptcpMib()
        self.pm = PathManager(self)

    def listen(self, binding: Any, backlog: int) -> "FakeListener":
        """The only listener there is."""
        return self.listener


class FakeListener:
    """What MptcpHost.listen gives."""

    def __init__(self) -> None:
        self.extension: Any = lambda key, options: (key, options)
        self.closed = False

    def close(self) -> None:
        """Listen no more."""
        self.closed = True


class FakeSubflow:
    """A subflow: who, and what became of it."""

    def __init__(self, local: SockAddr, remote: SockAddr, *, initial: bool = False, passive: bool = False) -> None:
        self.conn = SimpleNamespace(local=local, remote=remote, passive=passive, error=0)
        self.initial = initial
        self.local_id = self.remote_id = 0
        self.backup = False
        self.srtt = self.rttvar = 0
        self.gone = False
        self.joined = True


class FakeMeta:
    """A connection; `established` makes it one that speaks MPTCP. Refuses joins to or from what is in `broken`."""

    def __init__(self, host: FakeHost, *, local: bytes = LINK_A, remote: SockAddr = SERVER, passive: bool = False):
        self.host = host
        self.passive = passive
        self.fallback = ""
        self.token = 0x6BFE599A
        self.key_local, self.key_remote = b"ourskey1", b"theirkey"
        self.peer_denies_join = self.deny_join = False
        self.subflows = [FakeSubflow((local, 40000), remote, initial=True, passive=passive)]
        self.first = self.subflows[0]
        self.said: list[str] = []
        self.acks = 0
        self.probed: list[FakeSubflow] = []
        self.broken: set[bytes] = set()
        self.marks = 0
        self.paths = host.pm.paths(self)
        self._port = 50000

    def join(
        self, local_addr: bytes, remote: SockAddr, *, local_id: int, remote_id: int, backup: bool, now: int
    ) -> FakeSubflow:
        if {local_addr, remote[0]} & self.broken:
            raise StackError(errno.ENETUNREACH, "no route")
        self._port += 1
        subflow = FakeSubflow((local_addr, self._port), remote)
        subflow.local_id, subflow.remote_id, subflow.backup = local_id, remote_id, backup
        self.subflows.append(subflow)
        return subflow

    def set_backup(self, subflow: FakeSubflow, backup: bool, now: int) -> None:
        subflow.backup = backup

    def close_subflow(self, subflow: FakeSubflow, now: int) -> None:
        subflow.gone = True
        self.end(subflow, now)

    def send_ack(self, now: int) -> None:
        self.acks += 1

    def send_ack_on(self, subflow: FakeSubflow) -> None:
        self.probed.append(subflow)

    def mark(self, now: int) -> None:
        self.marks += 1

    def say(self, text: str) -> None:
        self.said.append(text)

    # --- for tests

    def established(self, now: int = 0) -> "FakeMeta":
        """Told that the peer speaks MPTCP."""
        self.paths.on_established(now)
        return self

    def end(self, subflow: FakeSubflow, now: int) -> None:
        """A subflow is over."""
        self.subflows.remove(subflow)
        self.paths.on_subflow_closed(subflow, now)

    def announce(self, ident: int, addr: bytes, port: int = 0, now: int = 0) -> None:
        """The peer does."""
        self.paths.on_add_addr(AddAddr(ident, addr, port, HMAC), now)

    def ways(self) -> list[tuple[bytes, bytes]]:
        """Local and remote address of each subflow."""
        return [(each.conn.local[0], each.conn.remote[0]) for each in self.subflows]

    def told(self, room: int = 28, now: int = 0) -> list[Option]:
        """What the next ACK says of addresses."""
        return list(_options(self.paths.options(room, now)))


def _options(raw: bytes) -> Iterable[Option]:
    while raw:
        if raw[0] == NOP:
            raw = raw[1:]
            continue
        yield parse(raw[2 : raw[1]])
        raw = raw[raw[1] :]
