"""How a connection ends: DATA_FIN both ways (RFC 8684 §3.3.3), MP_FASTCLOSE (§3.5), or nobody left to talk to."""

import errno
from typing import TYPE_CHECKING

from mptcp.options import MpFastclose, pad
from stack.events import CLOSED, FAILED, PEER_CLOSED, READABLE
from stack.tcp.timers import NEVER
from stack.units import SEC, Nanos

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn

FIN_ROUNDS = 6  # of a DATA_FIN, with and without the key, before a silent server counts as TCP


def shut(meta: "MptcpConn") -> None:
    """Our half is complete."""
    if meta.tx.fin_queued or meta.ended:
        return
    meta.tx.fin_queued = True
    if meta.fallback:
        for sub in meta.subflows:
            meta.tx.hand_over(sub)
            sub.conn.shutdown()
        return
    meta.wake_subflows()
    if meta.tx.nxt == meta.tx.queue.end:
        tell_fin(meta)


def tell_fin(meta: "MptcpConn") -> None:
    """DATA_FIN on every subflow: whichever is fastest ends the connection."""
    for sub in meta.subflows:
        if sub.joined and not sub.gone:
            meta.send_ack_on(sub)
    meta.arm_retransmit(meta.host.stack.now)


def unanswered(meta: "MptcpConn", now: Nanos) -> bool:
    """The timer of a DATA_FIN: True if its connection, which carried nothing, has become TCP.

    Where the ACK with our key was lost and one with DATA_FIN was not, a server speaks TCP from then on, and has nothing
    to say: nothing but silence tells. Like Linux's it would wait for ever, so the end is told in TCP's way too.
    """
    sub = meta.first
    if meta.fully_established or meta.passive or sub is None or not meta.may_fall_back(sub):
        return False
    meta.fin_rounds += 1
    if meta.fin_rounds < FIN_ROUNDS:
        return False
    meta.fall_back("the server answered nothing to our key and DATA_FIN: it may have lost the key", now)
    return True


def close(meta: "MptcpConn") -> None:
    """The program is gone."""
    if meta.orphan:
        return
    meta.orphan = True
    meta.owner = None
    if meta.ended:
        return
    if not (meta.established or meta.passive):
        for sub in list(meta.subflows):
            sub.conn.close()
        finish(meta)
    elif meta.rx.queue.readable or meta.options.linger == 0:
        abort(meta)
    elif meta.fallback:
        for sub in meta.subflows:
            meta.tx.hand_over(sub)
            sub.conn.close()
    else:
        shut(meta)
        if meta.is_over:
            both_done(meta)
        elif meta.fin_acked or not meta.subflows:
            _limit_patience(meta, meta.host.stack.now)


def _limit_patience(meta: "MptcpConn", now: Nanos) -> None:
    meta.end_at = min(meta.end_at, now + meta.host.sysctl.close_timeout * SEC)
    meta.host.note_deadline(meta)


def abort(meta: "MptcpConn") -> None:
    """MP_FASTCLOSE with a RST on every subflow; what is queued is lost."""
    if meta.ended:
        return
    if meta.subflows and meta.key_remote and not meta.fallback:
        meta.host.mib.MPTcpExtMPFastcloseTx += 1
    subflows, meta.subflows = meta.subflows, []
    for sub in subflows:
        sub.gone = True
        if meta.key_remote:
            sub.rst_option = pad(MpFastclose(meta.key_remote).emit())
        sub.conn.abort()
    finish(meta)


def fail(meta: "MptcpConn", err: int, now: Nanos) -> None:
    """Dead, and the program hears why."""
    if meta.ended:
        return
    meta.error = meta.error or err
    meta.post(FAILED)
    subflows, meta.subflows = meta.subflows, []
    for sub in subflows:
        sub.gone = True
        sub.conn.abort()
    finish(meta)


def finish(meta: "MptcpConn") -> None:
    """Out of the tables; unread text stays for the program."""
    if meta.ended:
        return
    meta.ended = True
    if meta.established and not meta.fallback:
        meta.host.mib.MPTcpExtMPCurrEstab -= 1
    meta.tx.queue.clear()
    meta.retransmit_at = meta.watch_at = meta.end_at = NEVER
    if meta.paths is not None:
        meta.paths.close()
        meta.paths = None
    meta.host.forget(meta)
    meta.post(CLOSED)


def on_data_fin(meta: "MptcpConn", now: Nanos) -> None:
    """The end of the peer's stream; its DATA_ACK is owed."""
    meta.peer_closed = True
    meta.post(PEER_CLOSED | READABLE)
    meta.send_ack(now)
    if meta.fin_acked:
        both_done(meta)


def on_fin_acked(meta: "MptcpConn", now: Nanos) -> None:
    """The peer has everything."""
    if meta.fin_acked:
        return
    meta.fin_acked = True
    if meta.peer_closed:
        both_done(meta)
    elif meta.orphan:
        _limit_patience(meta, now)


def both_done(meta: "MptcpConn") -> None:
    """Nothing is left to say: every subflow gets its FIN, and goes on without us through TIME-WAIT."""
    subflows, meta.subflows = meta.subflows, []
    for sub in subflows:
        sub.gone = True
        sub.conn.close()
    finish(meta)


def on_fastclose(meta: "MptcpConn", now: Nanos) -> None:
    """The peer gave up the whole connection, and says so over each path."""
    if meta.ended:
        return
    meta.say("the peer aborted the connection (MP_FASTCLOSE)")
    fail(meta, errno.ECONNRESET, now)


def plain_ended(meta: "MptcpConn", err: int, now: Nanos) -> None:
    """The only subflow of a connection that fell back left the tables."""
    if err:
        fail(meta, err, now)
    else:
        finish(meta)


def patience_ends(meta: "MptcpConn", now: Nanos) -> None:
    """No subflow came back, or the peer never said its DATA_FIN."""
    if meta.orphan:
        abort(meta)
    elif not any(sub.joined for sub in meta.subflows):
        meta.say("no subflow came back")
        fail(meta, errno.ETIMEDOUT, now)
