"""accept and accept4: at once if a connection is queued, else later; and nothing is lost if the program goes away."""

import errno
import socket
from typing import Any

from mptcp.connection import MptcpConn
from nuse.shim import carrier, sockaddr
from nuse.shim.fdtable import socket_name
from nuse.shim.notif import Notification
from nuse.shim.options import inherit, inherit_native, timeout
from nuse.shim.session import CONTINUE, LATER, Interrupted, Session, signed
from nuse.shim.sock import Pending
from nuse.shim.stream import LISTENING, StreamSocket

_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


def sys_accept(s: Session, n: Notification) -> int | None:
    """accept(fd, sockaddr, length pointer)."""
    return _accept(s, n, 0)


def sys_accept4(s: Session, n: Notification) -> int | None:
    """accept4(fd, sockaddr, length pointer, flags)."""
    return _accept(s, n, signed(n.args[3]))


def _accept(s: Session, n: Notification, flags: int) -> int | None:
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    if flags & ~_FLAGS:
        return -errno.EINVAL
    if not isinstance(sock, StreamSocket):
        return -errno.EOPNOTSUPP
    if sock.phase != LISTENING:
        return -errno.EINVAL
    theirs = s.hub.tasks.copy_socket(n.tid, signed(n.args[0]), sock.name, socket.SOCK_STREAM)
    if theirs is None:
        return -errno.EBADF
    with theirs:
        conn = sock.take()
        sock.settle(theirs)
        if conn is None and carrier.is_nonblocking(theirs):
            return -errno.EAGAIN
    if conn is not None:
        _hand_over(s, n, sock, conn, flags)
    else:
        _Accept(s, n, sock, flags)
    return LATER


class _Accept(Pending):
    """A blocked accept."""

    __slots__ = ("_flags", "_sock")

    def __init__(self, s: Session, n: Notification, sock: StreamSocket, flags: int) -> None:
        super().__init__(s, n, sock.waiting, timeout(sock, socket.SO_RCVTIMEO), -errno.EAGAIN)
        self._sock = sock
        self._flags = flags

    def serve(self, *_what: Any) -> None:
        """A connection is queued: give it to this caller."""
        self.drop()
        if not self.session.listener.valid(self.n.id):
            return
        conn = self._sock.take()
        if conn is None:
            return
        try:
            _hand_over(self.session, self.n, self._sock, conn, self._flags)
        except OSError as error:
            self.session.reply(self.n, -(error.errno or errno.EIO))
        except Interrupted:
            pass


def _hand_over(s: Session, n: Notification, sock: StreamSocket, conn: Any, flags: int) -> None:
    """Make a carrier for `conn`, write the peer's address, answer with the descriptor; all undone if nobody is there.

    As in Linux a bad address pointer costs the connection, while a full descriptor table leaves it queued.
    """
    ours, theirs = carrier.make_pair(socket.SOCK_STREAM, nonblock=bool(flags & socket.SOCK_NONBLOCK))
    with theirs:
        inherit_native(sock, theirs)
        try:
            if n.args[1]:
                s.write_sockaddr(n, sockaddr.encode(conn.remote, sock.v6), n.args[1], n.args[2])
        except Interrupted:
            ours.close()
            sock.put_back(conn)
            raise
        except OSError:
            ours.close()
            conn.abort()
            s.hub.wake()
            raise
        try:
            given = s.listener.give(n.id, theirs.fileno(), cloexec=bool(flags & socket.SOCK_CLOEXEC))
        except OSError:
            ours.close()
            sock.put_back(conn)
            raise
        if given < 0:
            ours.close()
            sock.put_back(conn)
            return
        name = socket_name(theirs.fileno())
    is_mptcp = isinstance(conn, MptcpConn)  # else its peer did not ask for it
    child = StreamSocket(s.hub, sock.v6, sock.proto if is_mptcp else socket.IPPROTO_TCP, ours, name)
    child.mptcp = is_mptcp
    child.hint = (n.tid, given)
    inherit(sock, child)
    child.adopt(conn)
