"""Urgent data of a program's streams: send(MSG_OOB) here, everything else by the carrier.

AF_UNIX streams know MSG_OOB since Linux 5.15, with TCP's semantics: one byte, a mark at which reads stop, SIOCATMARK,
SO_OOBINLINE, POLLPRI and SIGURG. So towards the program the pump passes the urgent byte on as one, and the kernel does
the rest. From the program the byte does not go through the carrier: the send is answered here, behind all that was
written before it.
"""

import errno
import socket

from nuse.shim.abi import MSG_DONTWAIT
from nuse.shim.carrier import is_nonblocking
from nuse.shim.message import Message, gather
from nuse.shim.notif import Notification
from nuse.shim.session import CONTINUE, LATER, Session, signed
from nuse.shim.stream import CONNECTING, ESTABLISHED, StreamSocket

PATIENCE = 0.005  # seconds until a call that found no room asks again


def send_urgent(s: Session, n: Notification, sock: StreamSocket, flags: int, message: Message) -> int | None:
    """send(MSG_OOB) on a socket that is or was connected: all of the data, the last byte of it urgent."""
    if sock.phase not in (ESTABLISHED, CONNECTING) or sock.shut_write:
        return -errno.EPIPE if message.name else CONTINUE  # the carrier is shut too: EPIPE, with its signal
    if sock.pump is not None and sock.pump.drain():
        data = gather(s, n, message)
        sock.conn.send(data, urgent=True)
        s.hub.wake()
        return len(data)
    theirs = s.hub.tasks.copy_socket(n.tid, signed(n.args[0]), sock.name, socket.SOCK_STREAM)
    if theirs is None:
        return -errno.EBADF
    with theirs:
        if flags & MSG_DONTWAIT or is_nonblocking(theirs):
            return -errno.EAGAIN
    s.hub.loop.call_later(PATIENCE, s.again, n)
    return LATER
