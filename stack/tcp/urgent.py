"""Urgent data, RFC 9293 §3.8.5 and RFC 6093: one byte out of band, as every sockets interface has it.

The pointer on the wire is one past the urgent byte, as BSD and Linux send it (RFC 6093 §2.1; tcp_stdurg 0). Only the
last mark counts: a newer one makes an older byte, if nobody took it, plain text again. The byte stays in the receive
queue; readers stop at it and then skip it, unless the program wants it in line (SO_OOBINLINE).
"""

import errno
from typing import TYPE_CHECKING

from stack.errors import StackError
from stack.events import URGENT
from stack.wire.tcp import Segment

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn


class Urgent:
    """A mark in the stream received: the sequence number of the urgent byte, and whether MSG_OOB took it."""

    __slots__ = ("seq", "taken")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.taken = False


def on_pointer(conn: "TcpConn", seg: Segment) -> None:
    """A segment with URG: note the mark and tell the owner, unless it is old."""
    if not seg.urg:
        return
    seq = seg.seq + seg.urg - 1
    mark = conn.urgent
    if seq < conn.read_seq() or (mark is not None and seq <= mark.seq):
        return
    conn.urgent = Urgent(seq)
    conn.post(URGENT)


def readable_now(conn: "TcpConn", mark: Urgent) -> int:
    """Bytes in order without the urgent one, as FIONREAD counts them."""
    ready = conn.recvq.readable
    if not conn.options.oobinline and conn.read_seq() <= mark.seq < conn.recvq.nxt:
        ready -= 1
    return ready


def limit_at_mark(conn: "TcpConn", mark: Urgent, limit: int) -> int:
    """How far a read may go: up to the mark. At the mark the urgent byte is dropped first, and the mark is history."""
    to_mark = mark.seq - conn.read_seq()
    if to_mark > 0:
        return min(limit, to_mark)
    conn.urgent = None
    if not to_mark and not conn.options.oobinline and conn.recvq.readable:
        conn.recvq.consume(1)
    return limit


def take(conn: "TcpConn", peek: bool) -> bytes:
    """The urgent byte, recv(MSG_OOB). Raises StackError EINVAL if there is none to have, EAGAIN if it is on its way."""
    mark = conn.urgent
    if mark is None or mark.taken or conn.options.oobinline:
        raise StackError(errno.EINVAL, "no urgent byte")
    if mark.seq >= conn.recvq.nxt:
        raise StackError(errno.EAGAIN, "the urgent byte has not arrived")
    offset = mark.seq - conn.read_seq()
    for view in conn.recvq.ready:
        if offset < len(view):
            mark.taken = not peek
            return bytes(view[offset : offset + 1])
        offset -= len(view)
    raise StackError(errno.EINVAL, "the urgent byte was read")


def pointer_for(conn: "TcpConn", seq: int) -> int:
    """The urgent pointer of a segment at `seq`, 0 for none: 65,535 at most (RFC 9293 §3.8.5)."""
    ahead = conn.snd_up - seq
    return min(ahead, 0xFFFF) if ahead > 0 else 0
