"""The path manager of the Linux kernel: endpoints with flags, the same for every connection.

- `subflow`: open a subflow from it to the address that the connection began with; with `fullmesh` to every address
  of the peer that there is.
- `signal`: announce it to the peer, all such at once.
- `backup`: its subflows carry something only if there is no other.
- An address that the peer announces is joined from every `fullmesh` endpoint, or from where the route begins if there
  is none; if the peer does not want its first address to be joined (C flag, §3.1), from every `subflow` endpoint.

Beyond Linux: a path that ended comes back (pm/base.py), also the one that the connection began with; and until somebody
configures or removes an endpoint, every address of a client is one for subflows (nuse.mptcp_auto_endpoints).
"""

from collections.abc import Iterator

from mptcp.pm.base import Candidate, Paths, SockAddr
from mptcp.pm.endpoint import BACKUP, FULLMESH, SIGNAL, SUBFLOW, Endpoint
from mptcp.pm.events import show_addr
from stack.errors import StackError
from stack.units import Nanos


class KernelPaths(Paths):
    """The paths of one connection, from the host's endpoints."""

    name = "kernel"

    def wanted(self) -> Iterator[Candidate]:
        """The first path, then from each endpoint, then to each announced address."""
        yield from self.first_path()
        endpoints = self._sources()
        for endpoint in endpoints:
            yield from self._from(endpoint)
        if any(each.flags & FULLMESH for each in endpoints) or (self.meta.peer_denies_join and endpoints):
            return  # they have been there already
        for ident, remote in self.remotes.items():
            yield from self._by_route(ident, remote)

    def established(self, now: Nanos) -> None:
        """Announce, and say if the first subflow is a backup."""
        for endpoint in self.manager.endpoints:
            self._announce(endpoint, now)
        entry = self.manager.endpoints.by_addr(self.local0[0])
        if entry is not None and entry.flags & BACKUP:
            for subflow in self.subflows():
                self.meta.set_backup(subflow, True, now)

    def on_endpoint_added(self, endpoint: Endpoint, now: Nanos) -> None:
        """It serves the connections that there are as well."""
        if endpoint.addr == self.local0[0]:
            self.withdrawn0 = False
        self._announce(endpoint, now)
        self.retry_from((endpoint.addr,), now)

    def on_addr_added(self, addr: bytes, now: Nanos) -> None:
        """What was announced and lost is announced again."""
        for endpoint in self.manager.endpoints:
            if endpoint.addr == addr and self.signals is not None and endpoint.id not in self.signals.announced:
                self._announce(endpoint, now)
        super().on_addr_added(addr, now)

    def on_endpoint_removed(self, endpoint: Endpoint, now: Nanos) -> None:
        """Its subflows end, and the peer learns that the address is gone."""
        ident = self._ident(endpoint)
        if endpoint.port:  # others may join to it, but no subflow of ours begins there
            if self.signals is not None and ident in self.signals.announced:
                self.signals.remove(ident)
                self.meta.send_ack(now)
            return
        if not ident:
            self.withdrawn0 = True
        self.withdraw(endpoint.addr, ident, now)
        self.fill(now)

    def on_endpoint_changed(self, endpoint: Endpoint, changed: int, now: Nanos) -> None:
        """MP_PRIO on the subflows of a backup; a mesh is filled, or thinned out."""
        users = [each for each in self.subflows() if each.conn.local[0] == endpoint.addr]
        if changed & BACKUP:
            for subflow in users:
                self.meta.set_backup(subflow, bool(endpoint.flags & BACKUP), now)
        if changed & FULLMESH:
            keep = {self._match(path) for path in self.wanted()}
            for subflow in users:
                if not endpoint.flags & FULLMESH and not subflow.initial and self._key(subflow) not in keep:
                    self.meta.close_subflow(subflow, now)
        self.fill(now)

    # ------------------------------------------------------------------

    def _sources(self) -> list[Endpoint]:
        """Endpoints that subflows begin at."""
        manager = self.manager
        if manager.endpoints.touched:
            return [each for each in manager.endpoints if each.flags & SUBFLOW]
        if self.passive or manager.is_local(self.remote0[0]):
            return []
        return manager.automatic()

    def _from(self, endpoint: Endpoint) -> Iterator[Candidate]:
        """The paths from one endpoint: to the first address, and to the others if it is in the mesh."""
        remotes: list[tuple[int, SockAddr]] = []
        first_open = not (self.meta.peer_denies_join or self.removed0)
        if first_open and endpoint.addr != self.local0[0]:
            remotes.append((0, self.remote0))
        if endpoint.flags & FULLMESH or self.meta.peer_denies_join:
            remotes += self.remotes.items()
        ident = self._ident(endpoint)
        backup = bool(endpoint.flags & BACKUP)
        for remote_id, remote in remotes:
            if len(remote[0]) == len(endpoint.addr):
                yield Candidate(endpoint.addr, remote, ident, remote_id, backup, endpoint.dev)

    def _by_route(self, ident: int, remote: SockAddr) -> Iterator[Candidate]:
        """The path to an announced address from where the route to it begins, unless some path leads there."""
        users = [each for each in self.subflows() if each.conn.remote == remote]
        if users:
            yield Candidate(users[0].conn.local[0], remote, users[0].local_id, ident)
            return
        try:
            local = self.meta.host.stack.route(remote[0]).src
            local_id = self.local_id(local)
        except StackError as exc:
            self._say(f"the announced {show_addr(remote[0])} cannot be reached: {exc.strerror}")
            return
        entry = self.manager.endpoints.by_addr(local)
        yield Candidate(local, remote, local_id, ident, bool(entry and entry.flags & BACKUP))

    def _announce(self, endpoint: Endpoint, now: Nanos) -> None:
        """The peer knows the address that the connection began with, and is told of it only if it may not join it."""
        if not endpoint.flags & SIGNAL or self.signals is None:
            return
        ident = self._ident(endpoint)
        if ident or self.meta.deny_join:
            self.signals.announce(ident, endpoint.addr, endpoint.port)
            self.meta.send_ack(now)

    def _ident(self, endpoint: Endpoint) -> int:
        return 0 if endpoint.addr == self.local0[0] and not endpoint.port else endpoint.id
