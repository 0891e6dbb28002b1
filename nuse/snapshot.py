"""Objects of the stack as plain dicts, for the debug socket and everything that prints.

Reads only, and only what is public; times and sizes in the units of the names (struct tcp_info's where it has one).
"""

from dataclasses import fields
from typing import Any

from mptcp.diag import subflow_words
from mptcp.subflow import Subflow
from nuse.driver import Driver
from nuse.impair_device import impairment
from nuse.softoffload import SoftwareOffload
from stack.ip.addr import show_addr
from stack.ip.link import Link

Row = dict[str, Any]


def show_sockaddr(sockaddr: tuple[bytes, int] | None) -> str:
    """`10.64.0.2:80`, `[fd64::2]:80`, `*` if unbound."""
    if sockaddr is None:
        return "*"
    addr, port = sockaddr
    text = show_addr(addr)
    return f"[{text}]:{port}" if len(addr) == 16 else f"{text}:{port}"


def record(value: Any) -> Row:
    """A dataclass, shallowly."""
    return {f.name: getattr(value, f.name) for f in fields(value)}


def owner_label(owner: object) -> str:
    """Whose an endpoint is: what its owner says in `describe()`, or the kind of owner."""
    describe = getattr(owner, "describe", None)
    if describe is not None:
        return str(describe())
    return "" if owner is None else type(owner).__name__


def conn_row(conn: Any, now: int) -> Row:
    """One TCP connection with its tcp_info; `ulp` if it is a subflow."""
    ext = conn.ext
    ulp = {"ulp": subflow_words(ext)} if isinstance(ext, Subflow) and not ext.plain else {}
    return {
        **ulp,
        "id": conn.id,
        "proto": "tcp",
        "state": conn.state.name,
        "local": show_sockaddr(conn.local),
        "remote": show_sockaddr(conn.remote),
        "recvq": conn.readable,
        "sendq": conn.send_queued,
        "link": conn.link.name if conn.link is not None else "",
        "owner": owner_label(conn.owner),
        "info": record(conn.info(now)),
    }


def listener_row(listener: Any, proto: str = "tcp") -> Row:
    """One listening socket; recvq counts connections that nobody accepted yet."""
    ulp = {"ulp": ""} if proto == "tcp" and listener.extension is not None else {}
    return {
        **ulp,
        "proto": proto,
        "state": "LISTEN",
        "local": show_sockaddr(listener.local),
        "recvq": listener.queued,
        "backlog": listener.backlog,
        "owner": owner_label(listener.owner),
    }


def socket_row(proto: str, endpoint: Any) -> Row:
    """One UDP, echo or raw socket; recvq counts datagrams."""
    return {
        "id": endpoint.id,
        "proto": proto,
        "state": "UNCONN" if endpoint.remote is None else "ESTABLISHED",
        "local": show_sockaddr(endpoint.local),
        "remote": show_sockaddr(endpoint.remote),
        "recvq": endpoint.queued,
        "owner": owner_label(endpoint.owner),
    }


def link_row(driver: Driver, link: Link) -> Row:
    """One link, with what its device says about it."""
    device = driver.device(link)
    while (inner := getattr(device, "device", None)) is not None and not isinstance(device, SoftwareOffload):
        device = inner
    offload = link.offload and not isinstance(device, SoftwareOffload)
    if isinstance(device, SoftwareOffload):
        device = device.device
    stats = record(link.stats)
    for name in ("dropped", "write_errors"):
        if hasattr(device, name):
            stats[f"device_{name}"] = getattr(device, name)
    return {
        "name": link.name,
        "index": link.index,
        "mtu": link.mtu,
        "up": link.up,
        "addrs": [f"{show_addr(addr)}/{length}" for addr, length in link.addrs],
        "offload": offload,
        "impair": impairment(driver, link),
        "stats": stats,
    }


def route_row(entry: Any) -> Row:
    """One route, in the words of `ip route`."""
    default = entry.length == 0
    return {
        "dst": "default" if default else f"{show_addr(entry.prefix)}/{entry.length}",
        "family": "inet" if len(entry.prefix) == 4 else "inet6",
        "dev": entry.link.name,
        "via": None if entry.gateway is None else show_addr(entry.gateway),
        "metric": entry.metric,
        "type": entry.kind,
        "mtu": entry.mtu,
        "advmss": entry.advmss,
        "src": None if entry.src is None else show_addr(entry.src),
    }
