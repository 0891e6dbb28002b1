"""Text in the first SYN of a connection (TCP Fast Open), RFC 8684 Appendix B.

Such text has no mapping and so no checksum: it is no part of the data's numbers. What follows it begins with the first
of them, and a mapping's subflow numbers leave it out too, as Linux's do. Here it is handed to the subflow as any other
text, with a mapping in case that the server does not take it; the SYN-ACK decides.

A server gives it to its program at once. What that answers waits for the third ACK, which says whether the client
speaks Multipath TCP at all; Linux's answer waits too.
"""

from typing import TYPE_CHECKING

from mptcp.maps import MAX_RUN, SentRuns
from stack.events import READABLE

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn
    from mptcp.subflow import Subflow


def offer(meta: "MptcpConn", sub: "Subflow") -> None:
    """What the program has written may ride on the SYN, as much of it as a mapping holds."""
    tx = meta.tx
    size = min(tx.queue.end - tx.nxt, MAX_RUN)
    if size > 0:
        tx.assign(sub, tx.nxt, size)
        tx.nxt += size
        sub.conn.begin()


def settle(meta: "MptcpConn", sub: "Subflow") -> None:
    """The SYN-ACK of a server that speaks MPTCP: what it took of the SYN's text is done, the rest begins the data."""
    sendq, tx = sub.conn.sendq, meta.tx
    if not sub.bytes_sent:
        return
    sub.early_out = sendq.start - sub.conn.tcb.iss - 1
    left = sendq.end - sendq.start
    tx.queue.ack_to(tx.queue.start + sub.early_out)
    tx.start(tx.first)
    sub.sent = SentRuns()
    if left:
        sub.sent.add(tx.mapping(sub, sendq.start, tx.nxt, left))
        tx.nxt += left


def text_came(meta: "MptcpConn", sub: "Subflow", views: list[memoryview]) -> None:
    """The text of a SYN, for the program of a server."""
    queue = meta.rx.queue
    for view in views:
        queue.append(view)
        sub.early_in += len(view)
        meta.rx.bytes += len(view)
    meta.post(READABLE)
