"""What `ip mptcp monitor` shows: the events of Linux's path manager, told to the stack's tracer, a dict each.

Names and fields are Linux's MPTCP_EVENT_* and MPTCP_ATTR_*, in the order in which iproute2 prints them; as a name of
an event of the stack, SF_CLOSED reads mptcp-sf-closed.
"""

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mptcp.pm.base import Paths, SockAddr

PREFIX = "mptcp-"  # of the event's name, so that a reader of all events can pick them out

DENY_JOIN_ID0, SERVER_SIDE = 1, 2  # MPTCP_PM_EV_FLAG_*


def show_addr(addr: bytes) -> str:
    """Text of a 4- or 16-byte address."""
    return str(ipaddress.ip_address(addr))


def _name(kind: str) -> str:
    return PREFIX + kind.lower().replace("_", "-")


def _addr(side: str, addr: bytes) -> dict[str, Any]:
    return {f"{side}addr{4 if len(addr) == 4 else 6}": show_addr(addr)}


def _tell(paths: "Paths", kind: str, fields: dict[str, Any]) -> None:
    tracer = paths.meta.host.stack.tracer
    if tracer is not None:
        tracer(_name(kind), {"token": f"{paths.meta.token:08x}", **fields})


def _four(subflow: Any) -> dict[str, Any]:
    (src, sport), (dst, dport) = subflow.conn.local, subflow.conn.remote
    fields = {"remid": subflow.remote_id, "locid": subflow.local_id}
    return fields | _addr("s", src) | _addr("d", dst) | {"sport": sport, "dport": dport}


def connection(paths: "Paths", kind: str, subflow: Any) -> None:
    """CREATED or ESTABLISHED, of a connection with its first subflow."""
    fields = _four(subflow)
    flags = (SERVER_SIDE if paths.passive else 0) | (DENY_JOIN_ID0 if paths.meta.peer_denies_join else 0)
    if flags:
        fields["flags"] = flags
    _tell(paths, kind, fields)


def subflow(paths: "Paths", kind: str, subflow: Any) -> None:
    """SF_ESTABLISHED, SF_CLOSED or SF_PRIO."""
    _tell(paths, kind, _four(subflow) | {"backup": int(subflow.backup)})


def announced(paths: "Paths", ident: int, remote: "SockAddr") -> None:
    """ANNOUNCED: the peer has another address."""
    _tell(paths, "ANNOUNCED", {"remid": ident} | _addr("d", remote[0]) | {"dport": remote[1]})


def removed(paths: "Paths", ident: int) -> None:
    """REMOVED: the peer has one less."""
    _tell(paths, "REMOVED", {"remid": ident})


def closed(paths: "Paths") -> None:
    """CLOSED: the connection is over."""
    _tell(paths, "CLOSED", {})


def listener(stack: Any, kind: str, addr: bytes, port: int) -> None:
    """LISTENER_CREATED or LISTENER_CLOSED: a port of an endpoint."""
    if stack.tracer is not None:
        stack.tracer(_name(kind), _addr("s", addr) | {"sport": port})
