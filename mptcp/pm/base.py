"""What a path manager is: per connection an object that decides which subflows there are, and speaks of addresses.

`Paths` is the base of all. It owns what every path manager needs: the peer's addresses, IDs for ours, the queue of
ADD_ADDR and REMOVE_ADDR (pm/signals.py), and the opening of what is missing. A path manager says in `wanted` which
paths there ought to be at the moment; `fill` opens those that are not there, as far as the limits go. So a path that
ends is simply missing, and comes back: after a second, then after twice as long each time, at once when its link comes
up. There is no state of an address besides that. mptcp/pm/ndiffports.py is a path manager in a few lines.

The connection calls the verbs that begin with `on_`; nothing here sends by itself.
"""

import errno
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mptcp.options import AddAddr
from mptcp.pm import events
from mptcp.pm.endpoint import BACKUP, Endpoint
from mptcp.pm.events import show_addr
from mptcp.pm.signals import NEVER, RTO_FIRST, RTO_MIN, Signals
from stack.errors import StackError
from stack.units import MSEC, SEC, Nanos

if TYPE_CHECKING:
    from mptcp.pm.manager import PathManager

SockAddr = tuple[bytes, int]

RETRY_FIRST, RETRY_MOST = SEC, 60 * SEC
RETRY_EARLY = (
    20 * MSEC
)  # at least, after the first refusal: the join may have come before what made the peer ready for it
RETRY_MOST_ALONE = 8 * SEC  # while there is no path at all
TRIES = 8  # failures after which a path that never was waits for a change of links or addresses
TRIES_PASSIVE = 1  # the same for a server: a client rarely listens


class Candidate(NamedTuple):
    """A path that ought to be."""

    local: bytes
    remote: SockAddr
    local_id: int
    remote_id: int
    backup: bool = False
    link: str = ""  # name of the one link that it may use, if it is bound to one

    @property
    def key(self) -> tuple[bytes, SockAddr]:
        """What tells it from others."""
        return self.local, self.remote


@dataclass(slots=True, eq=False)
class Retry:
    """What is known of a path that was opened here, failed or ended."""

    at: Nanos = NEVER  # when it is tried again; NEVER while nothing stands in its way
    delay: Nanos = 0
    since: Nanos = 0  # when it joined; 0 if it is not there
    failures: int = 0  # in a row, without ever having joined


class Paths:
    """The paths of one connection. `meta` is its mptcp.connection.MptcpConn."""

    name = ""

    def __init__(self, manager: "PathManager", meta: Any) -> None:
        self.manager = manager
        self.meta = meta
        self.signals: Signals | None = None  # once the keys are known
        self.local0: SockAddr = (b"", 0)  # the addresses of the first subflow: those with ID 0
        self.remote0: SockAddr = (b"", 0)
        self.remotes: dict[int, SockAddr] = {}  # the peer's other addresses, as far as we took them up
        self.passive = False
        self.removed0 = False  # the peer took back the address that it began with
        self.withdrawn0 = False  # we took back ours
        self._lost0 = False  # … because the stack had it no more
        self._retries: dict[tuple[bytes, SockAddr], Retry] = {}
        self._send_at: Nanos = NEVER  # when to ask for one more ACK
        self._said: set[str] = set()
        self._closed = False

    # ------------------------------------------------------------------ for path managers: override these

    def wanted(self) -> Iterable[Candidate]:
        """The paths that there ought to be now, the most wanted first; a path that is named twice, twice."""
        return ()

    def established(self, now: Nanos) -> None:
        """The connection is up, and its addresses are known."""

    def on_endpoint_added(self, endpoint: Endpoint, now: Nanos) -> None:
        """There is a new endpoint."""

    def on_endpoint_removed(self, endpoint: Endpoint, now: Nanos) -> None:
        """An endpoint is not in the table any more."""

    def on_endpoint_changed(self, endpoint: Endpoint, changed: int, now: Nanos) -> None:
        """The flags `changed` of an endpoint are other than before."""

    # ------------------------------------------------------------------ what the connection tells

    def on_established(self, now: Nanos) -> None:
        """Both sides know that the other speaks MPTCP: from now on addresses may be told, and subflows opened."""
        if self.signals is not None or self._closed:
            return
        meta = self.meta
        first = meta.first  # which may have ended already
        self.local0, self.remote0, self.passive = first.conn.local, first.conn.remote, first.conn.passive
        self.signals = Signals(meta.key_local, meta.key_remote, meta.host.mib)
        self.manager.live[self] = None
        events.connection(self, "CREATED", first)
        events.connection(self, "ESTABLISHED", first)
        self.established(now)
        self.fill(now)

    def on_subflow(self, subflow: Any, now: Nanos) -> None:
        """A further subflow has joined, whoever opened it."""
        events.subflow(self, "SF_ESTABLISHED", subflow)
        retry = self._retries.get(self._key(subflow))
        if retry is not None:
            retry.since, retry.failures = now, 0
        self.fill(now)

    def on_subflow_closed(self, subflow: Any, now: Nanos) -> None:
        """A subflow has ended, or could not be opened; it is no more among `meta.subflows`."""
        if self.signals is None or self._closed:
            return
        if not subflow.initial:
            events.subflow(self, "SF_CLOSED", subflow)
        key = self._key(subflow)
        if any(self._match(path) == key for path in self.wanted()):
            self._put_off(key, now, refused=not subflow.joined and subflow.conn.error == errno.ECONNREFUSED)
        self.fill(now)

    def on_add_addr(self, option: AddAddr, now: Nanos) -> None:
        """The peer announced an address, and the HMAC is right, RFC 8684 §3.4.1."""
        if self.signals is None or self._closed:
            return
        ident, remote = option.address_id, (option.addr, option.port or self.remote0[1])
        known = self.remotes.get(ident)
        if known is not None and known[0] != option.addr:
            self._say(f"ADD_ADDR gives ID {ident}, which is {_show(known)}, to {_show(remote)}: ignored")
            return
        events.announced(self, ident, remote)
        self.signals.echo(option)
        self.meta.send_ack(now)
        if remote == self.remote0:
            self.removed0 = False
        elif ident and (known is not None or self._accepts(option, remote)):
            self.remotes[ident] = remote
            for key in [key for key in self._retries if key[1] == remote]:
                del self._retries[key]
        self.fill(now)

    def on_add_addr_echo(self, option: AddAddr, now: Nanos) -> None:
        """The peer has an announcement of ours."""
        if self.signals is not None and self.signals.on_echo(option, now):
            self.meta.mark(now)

    def on_remove_addr(self, ids: Sequence[int], now: Nanos) -> None:
        """The peer's addresses with these IDs are gone, §3.4.2; their subflows end at once, as in Linux.

        The RFC wants a keepalive first; but the peer ends them too, and what is gone should carry nothing more.
        """
        for ident in ids:
            events.removed(self, ident)
            self.remotes.pop(ident, None)
            if not ident:
                self.removed0 = True
                self._put_off((self.local0[0], self.remote0), now)
            self.meta.say(f"the peer removed its address {ident}")
            for subflow in [each for each in self.subflows() if each.remote_id == ident]:
                self.meta.close_subflow(subflow, now)
        self.fill(now)

    def on_prio(self, subflow: Any, now: Nanos) -> None:
        """The peer made a subflow a backup, or no more one."""
        events.subflow(self, "SF_PRIO", subflow)

    def close(self) -> None:
        """The connection needs no more paths."""
        if not self._closed and self.signals is not None:
            events.closed(self)
            del self.manager.live[self]
        self._closed = True

    # ------------------------------------------------------------------ what the connection asks

    def local_id(self, addr: bytes, port: int = 0) -> int:
        """The ID of an address of ours that a subflow uses. Raises ERANGE if all IDs are taken."""
        if addr == self.local0[0]:
            return 0
        table = self.manager.endpoints
        return (table.by_addr(addr, port) or table.implicit(addr)).id

    def known_remote(self, addr: bytes, port: int) -> int | None:
        """The ID of an address of the peer, if it was announced or is the first."""
        if addr == self.remote0[0]:
            return 0
        return next((ident for ident, remote in self.remotes.items() if remote[0] == addr), None)

    def accepts_join(self) -> bool:
        """True if the limits let the peer open one more subflow; one there may always be."""
        joined = [each for each in self.subflows() if each.joined]
        return len(joined) <= self.manager.limits.subflows

    @property
    def pending(self) -> bool:
        """`options` has something to say."""
        return self.signals is not None and not self._closed and self.signals.pending

    def options(self, room: int, now: Nanos) -> bytes:
        """Address options for an ACK about to leave, padded, at most `room` bytes; b"" if there are none that fit."""
        if self.signals is None or self._closed:
            return b""
        out = self.signals.options(room, self._echo_time(), now)
        self._send_at = now if out and self.signals.pending else NEVER
        if out:
            self.meta.mark(now)
        return out

    @property
    def deadline(self) -> Nanos:
        """When `on_timeout` wants to be called; NEVER if nothing is to come."""
        if self.signals is None or self._closed:
            return NEVER
        retry = min((each.at for each in self._retries.values()), default=NEVER)
        return min(self.signals.deadline, self._send_at, retry)

    def on_timeout(self, now: Nanos) -> None:
        """The deadline has come: say again what was not echoed, try again what was closed."""
        if self.signals is None or self._closed:
            return
        for lost in self.signals.on_timeout(now):
            self._say(f"the peer never echoed the announcement of {_show((lost.addr, lost.port))}")
        self._send_at = NEVER
        if self.signals.pending:
            self.meta.send_ack(now)
        for retry in self._retries.values():
            if retry.at <= now:
                retry.at = NEVER
        self.fill(now)

    # ------------------------------------------------------------------ opening what is missing

    def fill(self, now: Nanos) -> None:
        """Open the paths that ought to be and are not."""
        meta = self.meta
        if self.signals is None or self._closed or meta.fallback:
            return
        live = Counter(self._key(each) for each in self.subflows())
        room = 1 + self.manager.limits.subflows - live.total()
        for path in self.wanted():
            key = self._match(path)
            if live[key]:
                live[key] -= 1
                continue
            retry = self._retries.get(key)
            if retry is not None and (now < retry.at < NEVER or self._hopeless(retry)):
                continue
            if not self._passable(path):
                continue
            if room <= 0:
                self._say(f"no subflow to {_show(path.remote)}: there are {self.manager.limits.subflows} (limit)")
                break
            room -= self._open(path, now)
        meta.mark(now)

    def _open(self, path: Candidate, now: Nanos) -> bool:
        try:
            self.meta.join(
                path.local, path.remote, local_id=path.local_id, remote_id=path.remote_id, backup=path.backup, now=now
            )
        except StackError as exc:
            self._say(f"no subflow from {show_addr(path.local)} to {_show(path.remote)}: {exc.strerror}")
            self._put_off(self._match(path), now)
            return False
        self._retries.setdefault(self._match(path), Retry()).at = NEVER
        self._said.clear()
        return True

    def _put_off(self, key: tuple[bytes, SockAddr], now: Nanos, refused: bool = False) -> None:
        """Not again at once. After a path that lasted, the waits begin with a second anew.

        The first refusal may be due to a join that overtook the first path's text on its way to the peer.
        """
        most = RETRY_MOST if self.subflows() else RETRY_MOST_ALONE
        retry = self._retries.setdefault(key, Retry())
        lasted = retry.since and now - retry.since > RETRY_MOST
        if not retry.since:
            retry.failures += 1
        if refused and retry.failures == 1 and not retry.delay:
            delay = min(max([RETRY_EARLY, *(2 * sub.srtt for sub in self.subflows())]), RETRY_FIRST)
        else:
            delay = retry.delay = RETRY_FIRST if lasted or not retry.delay else min(2 * retry.delay, most)
        retry.at = NEVER if self._hopeless(retry) else now + delay
        retry.since = 0

    def _hopeless(self, retry: Retry) -> bool:
        return retry.failures >= (TRIES_PASSIVE if self.passive else TRIES)

    def retry_from(self, addrs: Iterable[bytes], now: Nanos) -> None:
        """What begins at these addresses may be tried at once: a link is up, or an address back.

        What is still there sends an ACK: a peer that gave it up meanwhile, and could not tell, answers with RST.
        """
        for subflow in self.subflows():
            if subflow.joined and subflow.conn.local[0] in addrs:
                self.meta.send_ack_on(subflow)
        for key in [key for key in self._retries if key[0] in addrs]:
            del self._retries[key]
        self.fill(now)

    def on_addr_added(self, addr: bytes, now: Nanos) -> None:
        """An address of ours is new, or back; the first one's return is told to the peer, which was told of its end."""
        if self.signals is not None and self._lost0 and addr == self.local0[0]:
            self._lost0 = False
            self.signals.announce(0, addr)
            self.meta.send_ack(now)
        self.retry_from((addr,), now)

    def on_addr_removed(self, addr: bytes, now: Nanos) -> None:
        """An address of ours is gone from the stack: nothing can use it."""
        if self.signals is not None and not self._closed:
            self._lost0 = self._lost0 or addr == self.local0[0]
            self.withdraw(addr, self._known_id(addr), now)
            self.fill(now)

    def withdraw(self, addr: bytes, ident: int, now: Nanos) -> None:
        """REMOVE_ADDR and the end of the subflows of one of our addresses, if the peer knows it at all."""
        assert self.signals is not None
        users = [each for each in self.subflows() if each.conn.local[0] == addr]
        if users or ident in self.signals.announced:
            self.signals.remove(ident)
            self.meta.send_ack(now)
            self.meta.say(f"our address {show_addr(addr)} was removed")
        for subflow in users:
            self.meta.host.mib.MPTcpExtRmSubflow += 1
            self.meta.close_subflow(subflow, now)

    # ------------------------------------------------------------------ small things

    def subflows(self) -> list[Any]:
        """Those that are there or on their way, without those that end."""
        return [each for each in self.meta.subflows if not each.gone]

    def _known_id(self, addr: bytes, port: int = 0) -> int:
        """The ID under which the peer knows an address of ours."""
        if addr == self.local0[0] and not port:
            return 0
        found = self.manager.endpoints.by_addr(addr, port)
        return found.id if found is not None else 0

    def first_path(self) -> Iterator[Candidate]:
        """The path that the connection began with, which comes back like any other. The client's business alone.

        Where it was taken back, by either side, it is the last resort.
        """
        if self.passive or self.meta.peer_denies_join or ((self.removed0 or self.withdrawn0) and self.meta.subflows):
            return
        entry = self.manager.endpoints.by_addr(self.local0[0])
        yield Candidate(self.local0[0], self.remote0, 0, 0, bool(entry and entry.flags & BACKUP))

    def _accepts(self, option: AddAddr, remote: SockAddr) -> bool:
        if self.passive and not option.port:
            self._say(f"the client's announcement of {_show(remote)} names no port: nobody listens there")
            return False
        if len(self.remotes) >= self.manager.limits.add_addr_accepted:
            self._say(f"the announcement of {_show(remote)} is over the limit add_addr_accepted")
            return False
        return True

    def _passable(self, path: Candidate) -> bool:
        """True if its link is up, and the right one."""
        link = self.manager.link_of(path.local)
        if link is None or not link.up or (path.link and link.name != path.link):
            what = "is on no link" if link is None else f"is on {link.name}" + ("" if link.up else ", which is down")
            self._say(f"no subflow from {show_addr(path.local)} yet: it {what}")
            return False
        return True

    def _key(self, subflow: Any) -> tuple[bytes, SockAddr]:
        local, remote = subflow.conn.local[0], subflow.conn.remote
        return (local, (remote[0], 0)) if self.passive else (local, remote)

    def _match(self, path: Candidate) -> tuple[bytes, SockAddr]:
        """A server does not know the ports of a client: any path between two addresses is that path."""
        return (path.local, (path.remote[0], 0)) if self.passive else path.key

    def _echo_time(self) -> Nanos:
        """How long an echo may take: the longest RTO of the subflows, but not more than add_addr_timeout; 0: never."""
        most: Nanos = self.meta.host.sysctl.add_addr_timeout * SEC
        if not most:
            return NEVER
        rtos: list[Nanos] = [each.srtt + 4 * each.rttvar for each in self.meta.subflows if each.srtt]
        return min(most, max(RTO_MIN, *rtos) if rtos else RTO_FIRST)

    def _say(self, text: str) -> None:
        """Add to the connection's reasons; the same again only after a subflow was opened."""
        if text not in self._said:
            self._said.add(text)
            self.meta.say(text)


def _show(remote: SockAddr) -> str:
    addr = show_addr(remote[0])
    if not remote[1]:
        return addr
    return f"[{addr}]:{remote[1]}" if ":" in addr else f"{addr}:{remote[1]}"
