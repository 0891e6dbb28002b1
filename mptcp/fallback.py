"""Plain TCP in place of Multipath TCP, RFC 8684 §3.7: at the handshake, or with an infinite mapping later.

Only a connection that one subflow has carried from its beginning can do it: there the subflow's numbers say where the
data is. From then on there are no options; FIN ends the stream, and the subflow's acknowledgments are those of data.
"""

import errno
from typing import TYPE_CHECKING

from mptcp import closing, handshake, joins
from mptcp.options import RST_EMPTCP, Dss
from stack.tcp.state import SYN_SENT
from stack.units import Nanos
from stack.wire.tcp import Segment

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn
    from mptcp.subflow import Subflow

NO_MAPPING = -1
MAPPING_DUE = 0


def allowed(meta: "MptcpConn", sub: "Subflow") -> bool:
    """True while it is known where each byte of the subflow belongs without being told, on either side.

    A join that the peer has not answered has carried nothing: it is given up instead. One step further, the peer may
    have taken it for complete already, and have text on it.
    """
    if meta.fallback or not alone(meta, sub) or meta.tx.retransmitted:
        return False
    return not meta.rx.queue.has_holes() and meta.rx.in_step(sub)


def alone(meta: "MptcpConn", sub: "Subflow") -> bool:
    """True if no other subflow ever carried anything, as far as we know."""
    return sub in meta.subflows and not meta.extra_subflows and not any(_began(each) for each in _others(meta, sub))


def _began(sub: "Subflow") -> bool:
    return sub.joined or (sub.conn is not None and sub.conn.state is not SYN_SENT)


def _others(meta: "MptcpConn", sub: "Subflow") -> "list[Subflow]":
    return [each for each in meta.subflows if each is not sub]


def fall_back(meta: "MptcpConn", why: str, now: Nanos) -> None:
    """From here on it is plain TCP."""
    if meta.fallback:
        return
    if meta.established and not meta.ended:
        meta.host.mib.MPTcpExtMPCurrEstab -= 1
    meta.fallback = why
    meta.say(f"fell back to TCP: {why}")
    meta.host.untoken(meta)
    meta.infinite_from = MAPPING_DUE if any(sub.heard for sub in meta.subflows) else NO_MAPPING
    if not meta.rx.first:
        meta.rx.start(0, now)  # there are no data sequence numbers; any will do
    if meta.paths is not None:
        meta.paths.close()
        meta.paths = None
    for sub in [each for each in meta.subflows if not each.initial]:
        meta.subflows.remove(sub)
        meta.reset_subflow(sub, sub.conn, RST_EMPTCP, "its connection fell back to TCP before the join was complete")
    for sub in meta.subflows:
        sub.plain = True
        sub.reserve = 0
        if sub.conn is None:
            continue
        options = sub.conn.options
        options.nodelay, options.cork, options.linger = meta.options.nodelay, meta.options.cork, meta.options.linger
        meta.rx.release(sub, now)
        meta.tx.right = meta.tx.nxt + (1 << 62)
        if meta.tx.fin_queued:
            meta.tx.hand_over(sub)
            sub.conn.shutdown()
    meta.wake_subflows()


def after_bad_sum(meta: "MptcpConn", sub: "Subflow", now: Nanos) -> None:
    """Tell the sender (MP_FAIL), and take the text as it is: what changed it serves plain TCP so too."""
    sub.conn.ack_due = True
    fall_back(meta, "a checksum failed: a box on the way changes text", now)


def no_mapping(meta: "MptcpConn", sub: "Subflow", now: Nanos) -> None:
    """Text whose mapping is lost follows what came before. MP_FAIL, lest its sender, without a DATA_ACK, repeats it."""
    sub.fail_due = meta.rx.queue.nxt
    sub.conn.ack_due = True
    fall_back(meta, "text arrived without a mapping: a box on the way rewrites the stream", now)


def on_fail(meta: "MptcpConn", sub: "Subflow", dsn: int, now: Nanos) -> None:
    """MP_FAIL. With other subflows the peer resets this one; alone we go on with an infinite mapping.

    Unless some text went twice already: to the peer all that comes is the stream now, so that the stream is spoiled.
    """
    if allowed(meta, sub):
        at = dsn - meta.tx.first
        fall_back(meta, f"MP_FAIL: a wrong checksum, or no mapping, at {at}: a box on the way rewrites the stream", now)
    elif alone(meta, sub) and not meta.fallback:
        meta.say("the peer fell back to TCP (MP_FAIL), and has some text twice")
        closing.fail(meta, errno.ECONNRESET, now)


def on_infinite(meta: "MptcpConn", sub: "Subflow", dsn: int, now: Nanos) -> None:
    """The peer's infinite mapping."""
    meta.host.mib.MPTcpExtInfiniteMapRx += 1
    if allowed(meta, sub):
        fall_back(meta, "the peer sent an infinite mapping", now)


def end_without_key(meta: "MptcpConn", sub: "Subflow", seg: Segment) -> None:
    """A DATA_FIN all the same, from a client with text in its SYN that never said its key: it ends the stream.

    Linux's client leaves the key out of its third ACK after it sent the SYN twice, and believes in Multipath TCP until
    text or FIN comes without. Unless the end is taken as told, its server waits for it, and it for an answer.
    """
    conn = sub.conn
    if meta.peer_closed or conn.tcb.rcv_nxt != conn.tcb.irs + 1 + sub.early_in:
        return
    if any(isinstance(each, Dss) and each.data_fin for each in handshake.mp_options(seg.unknown_options())):
        meta.say("the client says DATA_FIN, but never said its key")
        joins.on_fin(meta, sub, meta.host.stack.now)
