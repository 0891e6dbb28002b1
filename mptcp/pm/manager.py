"""The path manager of one host: its endpoints, limits, and which kind of Paths a new connection gets.

The kind is a sysctl (net.mptcp.path_manager) that is read when a connection begins; endpoints and limits are the
host's, whichever kind reads them. What changes them tells the connections that there are.
"""

from typing import Any

from mptcp.pm.base import Paths
from mptcp.pm.endpoint import IMPLICIT, SUBFLOW, Endpoint, EndpointTable, Limits
from mptcp.pm.kernel import KernelPaths
from mptcp.pm.listener import PortListener
from mptcp.pm.ndiffports import NDiffPorts
from stack.errors import StackError
from stack.units import Nanos

PATH_MANAGERS: dict[str, type[Paths]] = {each.name: each for each in (KernelPaths, NDiffPorts)}
DEFAULT = KernelPaths.name

_LINK_LOCAL6 = b"\xfe\x80"


def register(kind: type[Paths]) -> None:
    """Let new connections use `kind` under its name, from now on."""
    PATH_MANAGERS[kind.name] = kind


class PathManager:
    """One host's. `host` is its mptcp.host.MptcpHost."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.endpoints = EndpointTable()
        self.limits = Limits()
        self.live: dict[Paths, None] = {}  # a set that keeps its order
        self._listeners: dict[int, PortListener] = {}  # by ID of the endpoint whose port it is

    def paths(self, meta: Any) -> Paths:
        """The paths of a new connection."""
        return PATH_MANAGERS[self.host.sysctl.path_manager](self, meta)

    # ------------------------------------------------------------------ endpoints and limits, as `ip mptcp` sets them

    def add(self, addr: bytes, now: Nanos, *, ident: int = 0, port: int = 0, flags: int = 0, dev: str = "") -> Endpoint:
        """A new endpoint, for old connections too; one with a port is listened at. Raises StackError."""
        endpoint = self.endpoints.add(addr, ident=ident, port=port, flags=flags, dev=dev)
        if port:
            try:
                self._listeners[endpoint.id] = PortListener(self.host, addr, port)
            except StackError:
                self.endpoints.remove(endpoint.id)
                raise
        for paths in list(self.live):
            paths.on_endpoint_added(endpoint, now)
        return endpoint

    def delete(self, ident: int, now: Nanos, addr: bytes | None = None) -> None:
        """Remove an endpoint; ID 0 with an address: that of connections which began with it. Raises EINVAL."""
        if ident:
            self._removed([self.endpoints.remove(ident)], now)
        elif addr is not None:
            self._removed([Endpoint(0, addr)], now, first=True)

    def flush(self, now: Nanos) -> None:
        """Remove all. The limits stay, where Linux forgets add_addr_accepted."""
        self._removed(self.endpoints.flush(), now)

    def change(
        self, endpoint: Endpoint, now: Nanos, *, backup: bool | None = None, fullmesh: bool | None = None
    ) -> None:
        """Other flags, for old connections too. Raises EINVAL."""
        changed = self.endpoints.change(endpoint, backup=backup, fullmesh=fullmesh)
        for paths in list(self.live) if changed else ():
            paths.on_endpoint_changed(endpoint, changed, now)

    def set_limits(self, now: Nanos, *, subflows: int | None = None, add_addr_accepted: int | None = None) -> None:
        """Other limits; what they let in now is opened. The caller has looked at the bounds."""
        if subflows is not None:
            self.limits.subflows = subflows
        if add_addr_accepted is not None:
            self.limits.add_addr_accepted = add_addr_accepted
        for paths in list(self.live):
            paths.fill(now)

    def _removed(self, endpoints: list[Endpoint], now: Nanos, *, first: bool = False) -> None:
        for endpoint in endpoints:
            if endpoint.flags & IMPLICIT:
                continue  # an ID is forgotten, and no path
            listener = self._listeners.pop(endpoint.id, None)
            if listener is not None:
                listener.close()
            for paths in list(self.live):
                if not first or paths.local0[0] == endpoint.addr:
                    paths.on_endpoint_removed(endpoint, now)

    # ------------------------------------------------------------------ what happens to the stack's links

    def on_link_up(self, link: Any, now: Nanos) -> None:
        """What ended on it may come back."""
        addrs = {addr for addr, _length in link.addrs}
        for paths in list(self.live):
            paths.retry_from(addrs, now)

    def on_addr_added(self, link: Any, addr: bytes, now: Nanos) -> None:
        """One more address, perhaps an endpoint."""
        for paths in list(self.live):
            paths.on_addr_added(addr, now)

    def on_addr_removed(self, link: Any, addr: bytes, now: Nanos) -> None:
        """One less."""
        for paths in list(self.live):
            paths.on_addr_removed(addr, now)

    # ------------------------------------------------------------------ what Paths asks

    def automatic(self) -> list[Endpoint]:
        """Where nobody cares for endpoints: every address of every link but lo, for subflows, if that is wanted."""
        if not self.host.sysctl.mptcp_auto_endpoints:
            return []
        found = []
        for link in self.host.stack.links.values():
            for addr, _length in link.addrs if not link.loopback else ():
                if addr not in link.deprecated and not addr.startswith(_LINK_LOCAL6):
                    found.append(Endpoint(self.endpoints.implicit(addr).id, addr, flags=SUBFLOW))
        return found

    def link_of(self, addr: bytes) -> Any:
        """The link that holds an address, or None."""
        return self.host.stack.routes.local.get(addr)

    def is_local(self, addr: bytes) -> bool:
        """True for the addresses of this very host."""
        local: bool = self.host.stack.routes.is_local(addr)
        return local
