"""setsockopt, getsockopt and the ioctls of sockets: lengths and pointers here, meanings in options.py."""

import errno
import struct

from nuse.shim import carrier, mpopts, options
from nuse.shim.abi import IPPROTO_MPTCP, SIOCOUTQ
from nuse.shim.datagram import DatagramSocket
from nuse.shim.netdev import interface_ioctl
from nuse.shim.notif import Notification
from nuse.shim.opttable import (
    BUFFERS,
    IGNORED_BLOBS,
    NO_INET,
    SO_ERROR,
    SOL_IP,
    SOL_SOCKET,
    SOL_TCP,
    TEXT,
    TIMEVALS,
)
from nuse.shim.session import CONTINUE, Interrupted, Session, signed
from nuse.shim.sock import Socket
from nuse.shim.stream import LISTENING, StreamSocket
from stack.errors import StackError

_INT = struct.Struct("=i")
_LONGEST = 1024  # no option that we know is longer; more is not read


def sys_setsockopt(s: Session, n: Notification) -> int | None:
    """setsockopt(fd, level, name, value, length)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    level, name, length = signed(n.args[1]), signed(n.args[2]), signed(n.args[4])
    if length < 0:
        return -errno.EINVAL
    if mpopts.ignores(sock, level, name):
        return 0
    if level == mpopts.SOL_MPTCP and isinstance(sock, StreamSocket) and sock.speaks_mptcp:
        mpopts.set_mptcp(sock, name, s.read(n, n.args[3], min(length, _LONGEST)))
        s.hub.wake()
        return 0
    if not options.has_level(sock, level):
        return -errno.ENOPROTOOPT
    if length < 4 and level in (SOL_SOCKET, SOL_TCP) and (level, name) not in TEXT:
        return -errno.EINVAL
    raw = s.read(n, n.args[3], min(length, _LONGEST))
    if (level, name) in NO_INET:
        return -errno.EOPNOTSUPP
    if options.set_blob(sock, level, name, raw):
        native = level == SOL_SOCKET and name in TIMEVALS
    elif len(raw) < 4 and level != SOL_IP:
        return -errno.EINVAL
    elif level == SOL_SOCKET and name in BUFFERS:
        options.set_buffer(sock, name, options.int_of(raw))
        native = False
    else:
        native = options.set_int(sock, level, name, options.int_of(raw))
    if native:
        return CONTINUE
    if not isinstance(sock, StreamSocket) or s.hub.stack.tcp.marked:
        s.hub.wake()
    return 0


def sys_getsockopt(s: Session, n: Notification) -> int | None:
    """getsockopt(fd, level, name, value, length pointer)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    level, name = signed(n.args[1]), signed(n.args[2])
    room = s.read_int(n, n.args[4])
    if room < 0:
        return -errno.EINVAL
    if level == mpopts.SOL_MPTCP and isinstance(sock, StreamSocket) and sock.speaks_mptcp:
        return _get_mptcp(s, n, sock, name, room)
    if not options.has_level(sock, level):
        return -errno.ENOPROTOOPT if sock.v6 else -errno.EOPNOTSUPP
    if (level, name) in NO_INET:
        return -errno.EOPNOTSUPP
    if (level, name) in IGNORED_BLOBS:
        return -errno.ENOPROTOOPT
    if (level, name) == (SOL_SOCKET, SO_ERROR):
        return _take_error(s, n, sock, room)
    try:
        raw = options.get_blob(sock, level, name, room)
        if raw is None:
            value = options.get_int(sock, level, name)
            raw = bytes([value]) if level == SOL_IP and 0 < room < 4 and 0 <= value < 256 else _INT.pack(value)
    except StackError as error:
        if error.errno == errno.ENOPROTOOPT and sock.proto == IPPROTO_MPTCP and level != SOL_SOCKET:
            return -errno.EOPNOTSUPP
        raise
    _write_value(s, n, raw, room)
    return 0


def _write_value(s: Session, n: Notification, value: bytes, room: int) -> None:
    """As much of an option's value as the program has room for."""
    size = min(room, len(value))
    s.write_sized(n, value[:size], n.args[3], n.args[4], room, size)


def _get_mptcp(s: Session, n: Notification, sock: StreamSocket, name: int, room: int) -> int:
    """An option of SOL_MPTCP. Some read their value first, and one writes elsewhere as well."""
    asked = s.read(n, n.args[3], min(room, mpopts.MAX_REQUEST)) if name != mpopts.MPTCP_INFO else b""
    value, arrays = mpopts.get_mptcp(sock, name, asked)
    for piece in arrays:
        s.write(n, piece)
    _write_value(s, n, value, room)
    return 0


def _take_error(s: Session, n: Notification, sock: Socket, room: int) -> int:
    """SO_ERROR, which stays pending if the call is interrupted."""
    value = sock.take_error()
    if value and not carrier_error(s, n, sock):
        value = 0
    try:
        _write_value(s, n, _INT.pack(value), room)
    except Interrupted:
        sock.error = value
        raise
    return 0


def carrier_error(s: Session, n: Notification, sock: Socket) -> bool:
    """True if the program has not heard of the socket's error yet. It is told once, be it by us or by a plain read."""
    if not sock.carrier_has_error:
        return True
    sock.carrier_has_error = False
    theirs = s.hub.tasks.copy_socket(n.tid, signed(n.args[0]), sock.name, sock.carrier_kind)
    if theirs is None:
        return True
    with theirs:
        return theirs.getsockopt(SOL_SOCKET, SO_ERROR) != 0


def sys_ioctl(s: Session, n: Notification) -> int | None:
    """ioctl(fd, request, pointer), for the requests that the filter names."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    if n.args[1] & 0xFFFFFFFF == SIOCOUTQ:
        s.write_int(n, n.args[2], _outq(sock))
        return 0
    return interface_ioctl(s, n)


def _outq(sock: Socket) -> int:
    """SIOCOUTQ: bytes not acknowledged by the peer, with those that still lie in the carrier."""
    if isinstance(sock, StreamSocket):
        if sock.phase == LISTENING:
            raise StackError(errno.EINVAL, "SIOCOUTQ on a listener")
        if sock.conn is None or sock.pump is None or sock.end.fileno() < 0:
            return 0
        return int(sock.conn.send_queued) + carrier.unread(sock.end)
    assert isinstance(sock, DatagramSocket)
    return carrier.unread(sock.end) if sock.end.fileno() >= 0 else 0
