"""MPTCP connections as plain dicts, and any connection in words: what `nuse ss -M` and `nuse explain` print."""

import errno
from typing import Any

from mptcp.connection import MptcpConn
from mptcp.diag import snapshot
from mptcp.host import MptcpHost
from mptcp.subflow import Subflow
from nuse.snapshot import Row, owner_label, record, show_sockaddr
from stack.errors import StackError
from stack.units import MSEC, SEC


def mptcp_rows(host: MptcpHost, now: int) -> list[Row]:
    """All MPTCP connections that have not fallen back to TCP."""
    return [mptcp_row(meta, now) for meta in host if not meta.fallback]


def mptcp_row(meta: MptcpConn, now: int) -> Row:
    """One connection with its mptcp_info and subflows."""
    return {
        "id": meta.id,
        "proto": "mptcp",
        "state": meta.state.name,
        "local": show_sockaddr(meta.local),
        "remote": show_sockaddr(meta.remote),
        "recvq": meta.readable,
        "sendq": meta.send_queued,
        "owner": owner_label(meta.owner),
        "scheduler": meta.scheduler.name,
        "path_manager": meta.paths.name if meta.paths is not None else "",
        "fallback": meta.fallback,
        "info": record(snapshot(meta.host, meta, now)),
        "subflows": [subflow_row(sub) for sub in meta.subflows if sub.conn is not None],
    }


def subflow_row(sub: Subflow) -> Row:
    """One subflow; `conn` is the id of its TCP connection."""
    conn = sub.conn
    return {
        "id": sub.id,
        "conn": conn.id,
        "state": conn.state.name,
        "local": show_sockaddr(conn.local),
        "remote": show_sockaddr(conn.remote),
        "local_id": sub.local_id,
        "remote_id": sub.remote_id,
        "link": conn.link.name if conn.link is not None else "",
        "joined": sub.joined,
        "initial": sub.initial,
        "backup": sub.backup,
        "stale": sub.stale,
        "weight": sub.weight,
        "srtt_ms": sub.srtt / MSEC,
        "cwnd": sub.cwnd,
        "in_flight": sub.in_flight,
        "bytes_sent": sub.bytes_sent,
    }


def conn_named(stack: Any, host: MptcpHost | None, name: str) -> Any:
    """A connection by its id, or by either of its sockaddrs: an MptcpConn, also for one of its subflows, or a TcpConn.

    Raises StackError ENOENT if there is none, EINVAL if there are several.
    """
    metas = list(host) if host is not None else []
    found = {id(meta): meta for meta in metas if _is_named(meta, name)}
    for conn in stack.tcp.conns():
        if _is_named(conn, name):
            best = conn.ext.meta if isinstance(conn.ext, Subflow) else conn
            found[id(best)] = best
    if not found:
        raise StackError(errno.ENOENT, f"no connection {name!r}; ids are in `conns` and `mptcp`")
    if len(found) > 1:
        ids = ", ".join(str(each.id) for each in found.values())
        raise StackError(errno.EINVAL, f"several connections are {name}: say one of {ids}")
    return next(iter(found.values()))


def _is_named(conn: Any, name: str) -> bool:
    return name in (str(conn.id), show_sockaddr(conn.local), show_sockaddr(conn.remote))


# ---------------------------------------------------------------------- in words


def explain_lines(conn: Any, now: int) -> list[str]:
    """What a connection is, over which paths it runs, and the last decisions, for somebody who wonders why."""
    head = f"{conn.id}: {conn.state.name} {show_sockaddr(conn.local)} → {show_sockaddr(conn.remote)}"
    if not isinstance(conn, MptcpConn):
        lines = [head, f"plain TCP: {_why_plain(conn)}", *_tcp_lines(conn, now)]
    elif conn.fallback:
        lines = [head, f"plain TCP: {conn.fallback}", *_tcp_lines(conn.first.conn if conn.first else None, now)]
    else:
        lines = [head, *_mptcp_lines(conn, now)]
    if isinstance(conn, MptcpConn) and conn.why:
        lines += ["lately:", *(f"  {text}" for text in conn.why)]
    return lines


def _why_plain(conn: Any) -> str:
    if conn.passive:
        return "the peer did not ask for MPTCP, or the listener does not offer it"
    return "its program asked for TCP, and nuse.mptcp_upgrade is 0"


def _tcp_lines(conn: Any, now: int) -> list[str]:
    if conn is None or conn.link is None:
        return []
    info = conn.info(now)
    return [
        f"  on {conn.link.name}: rtt {info.rtt / 1000:g} ms, cwnd {info.snd_cwnd} segments, {info.congestion}, "
        f"{_bytes(info.bytes_sent)} sent, {_bytes(info.bytes_received)} received, {info.total_retrans} sent again"
    ]


def _mptcp_lines(meta: MptcpConn, now: int) -> list[str]:
    info = snapshot(meta.host, meta, now)
    lines = [
        f"MPTCP: token {meta.token:08x}, {_bytes(info.bytes_sent)} sent, {_bytes(info.bytes_received)} received, "
        f"{_bytes(info.bytes_retrans)} sent once more over another path",
        f"  scheduler {meta.scheduler.name}, path manager {meta.paths.name if meta.paths is not None else 'none yet'}, "
        f"checksums {'on' if meta.checksum else 'off'}"
        + ("" if meta.fully_established else "; the peer has not yet shown that options of data get through"),
    ]
    if meta.peer_denies_join:
        lines.append("  the peer wants no subflows to the address that it was connected at")
    lines += [_subflow_line(sub, now) for sub in meta.subflows if sub.conn is not None]
    return lines


def _subflow_line(sub: Subflow, now: int) -> str:
    conn = sub.conn
    info = conn.info(now)
    facts = [
        "the first" if sub.initial else f"address {sub.local_id} to {sub.remote_id}",
        *(["not joined yet"] if not sub.joined else []),
        *([f"backup ({_who(sub)})"] if sub.backup else []),
        *(["stale"] if sub.stale else []),
        *([f"weight {sub.weight}"] if sub.meta.scheduler.name == "weighted" else []),
        *(["silent"] if sub.silent and not sub.stale else []),
        f"rtt {info.rtt / 1000:g} ms",
        f"cwnd {info.snd_cwnd} segments",
        info.congestion,
        f"{_bytes(info.bytes_sent)} sent",
        f"{_bytes(info.bytes_received)} received",
        *([f"{info.total_retrans} sent again"] if info.total_retrans else []),
        *([f"nothing heard for {info.last_ack_recv / 1000:g} s"] if info.last_ack_recv * MSEC > SEC else []),
    ]
    link = f" on {conn.link.name}" if conn.link is not None else ""
    where = f"{show_sockaddr(conn.local)} → {show_sockaddr(conn.remote)}{link}"
    return f"  subflow {sub.id}: {where}, {conn.state.name}: {', '.join(facts)}"


def _who(sub: Subflow) -> str:
    return " and ".join(who for who, asked in (("we ask", sub.request_bkup), ("the peer asks", sub.peer_bkup)) if asked)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
