"""The life of a connection's subflows: opened, complete, made a backup, reset, gone (RFC 8684 §3.2, §3.3.8, §3.6)."""

import errno
from typing import TYPE_CHECKING

from mptcp import closing
from mptcp.crypto import NONCE_LEN
from mptcp.options import MpTcprst, pad
from mptcp.subflow import Role, Subflow
from stack.errors import StackError
from stack.events import PEER_CLOSED, READABLE
from stack.ip.addr import show_addr
from stack.tcp.timers import NEVER
from stack.units import SEC, Nanos

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn
    from stack.tcp.conn import TcpConn

SockAddr = tuple[bytes, int]
REFUSALS = 3  # joins of the last hope in a row; one alone may be due to old subflows that the server takes for alive
BREAK_MAX = 600 * SEC  # how long a connection without any subflow waits for one


def join(
    meta: "MptcpConn",
    local_addr: bytes | None,
    remote: SockAddr,
    *,
    local_id: int,
    remote_id: int,
    backup: bool,
    now: Nanos,
) -> Subflow:
    """Send a SYN with MP_JOIN. Raises StackError ENOTCONN where there is no Multipath TCP, and what connect raises."""
    host = meta.host
    if not meta.fully_established or meta.fallback or meta.is_over:
        raise StackError(errno.ENOTCONN, "no Multipath TCP connection to join")
    meta.subflow_ids += 1
    sub = Subflow(meta, meta.subflow_ids, Role.JOIN, local_id, remote_id)
    sub.request_bkup = backup
    sub.nonce = host.draw(NONCE_LEN)
    try:
        conn = host.stack.tcp.connect(remote, now, local_addr=local_addr, options=meta.subflow_options(), extension=sub)
    except StackError:
        host.mib.MPTcpExtMPJoinSynTxConnectErr += 1
        raise
    sub.conn = conn
    meta.subflows.append(sub)
    meta.say(f"joining from {_show(conn.local)} to {_show(remote)} as subflow {sub.id}{' (backup)' if backup else ''}")
    return sub


def may_join(meta: "MptcpConn") -> bool:
    """True if the peer's join is within our limit of subflows."""
    return meta.fully_established and not meta.fallback and meta.paths is not None and meta.paths.accepts_join()


def on_join(meta: "MptcpConn", sub: Subflow, now: Nanos) -> None:
    """Both sides have shown that they know the keys."""
    meta.extra_subflows += 1
    meta.refusals = 0
    meta.say(f"subflow {sub.id} from {_show(sub.conn.local)} to {_show(sub.conn.remote)} is up")
    meta.end_at = NEVER if not meta.orphan else meta.end_at
    if meta.paths is not None:
        meta.paths.on_subflow(sub, now)
    if meta.tx.fin >= 0 or meta.rx.queue.nxt != meta.acked_to:
        meta.send_ack_on(sub)
    meta.wake_subflows()


def set_backup(meta: "MptcpConn", sub: Subflow, backup: bool) -> None:
    """MP_PRIO on the subflow itself."""
    if sub.request_bkup != backup:
        sub.request_bkup = backup
        sub.prio_due = True
        meta.say(f"made subflow {sub.id} {'a backup' if backup else 'a regular path'}")
        meta.send_ack_on(sub)
        meta.wake_subflows()


def reset(meta: "MptcpConn", sub: Subflow, conn: "TcpConn", reason: int, why: str) -> None:
    """RST with MP_TCPRST. In SYN-SENT it follows when the handshake is over, as a RST then has a sequence number."""
    if sub.gone and conn.rst_due:
        return
    meta.say(f"reset subflow {sub.id}: {why}")
    meta.host.mib.MPTcpExtMPRstTx += 1
    sub.gone = True
    sub.rst_reason = reason
    sub.rst_option = pad(MpTcprst(reason).emit())
    if conn.established or conn.passive:
        conn.abort()


def on_fin(meta: "MptcpConn", sub: Subflow, now: Nanos) -> None:
    """FIN ends the stream only where there is no DATA_FIN; else it ends a path, and we end our half of it too."""
    if sub.plain:
        if not meta.peer_closed:
            meta.peer_closed = True
            meta.post(PEER_CLOSED | READABLE)
        return
    if not sub.gone:
        sub.gone = True
        if not meta.is_over:
            meta.say(f"the peer closed subflow {sub.id}")
    sub.conn.close()


def on_end(meta: "MptcpConn", sub: Subflow, now: Nanos) -> None:
    """It left the tables: what only it held goes over the others, and the path manager may try again."""
    if sub not in meta.subflows:
        return
    meta.subflows.remove(sub)
    sub.gone = True
    err = sub.conn.error
    if not meta.established:
        if meta.passive and not sub.conn.established:
            meta.withdraw()
        else:
            meta.fail(err or errno.ECONNREFUSED, now)
        return
    if sub.plain:
        closing.plain_ended(meta, err, now)
        return
    leave = getattr(sub.conn.cc, "leave", None)
    if leave is not None:
        leave()
    if sub.joined:
        cause = errno.errorcode.get(err, str(err)) if err else "closed"
        meta.say(f"subflow {sub.id} ended: {cause}{f', reason {sub.rst_reason}' if sub.rst_reason else ''}")
    elif err == errno.ECONNREFUSED and not (meta.passive or sub.remote_id or any(one.joined for one in meta.subflows)):
        meta.refusals += 1
        if meta.refusals >= REFUSALS:
            meta.fail(errno.ECONNRESET, now)  # the server knows us no more
            return
    if not meta.fully_established and not meta.passive:
        meta.fail(err or errno.ECONNRESET, now)  # the server may not have our key: it would take no join
        return
    meta.tx.rescue(sub, now)
    if meta.paths is not None:
        meta.paths.on_subflow_closed(sub, now)
    if not any(other.joined for other in meta.subflows):
        patience = meta.host.sysctl.close_timeout * SEC if meta.orphan else BREAK_MAX
        meta.end_at = min(meta.end_at, now + patience)
    meta.host.note_deadline(meta)


def _show(addr: SockAddr) -> str:
    return f"[{show_addr(addr[0])}]:{addr[1]}" if len(addr[0]) == 16 else f"{show_addr(addr[0])}:{addr[1]}"
