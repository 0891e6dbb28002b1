"""struct msghdr and its relatives in a program's memory, and filling one with a received datagram."""

import errno
import socket
import struct
from dataclasses import dataclass, field

from nuse.shim import options, opttable, sockaddr
from nuse.shim.abi import MSG_CTRUNC, MSG_TRUNC
from nuse.shim.datagram import DatagramSocket, Entry
from nuse.shim.notif import Notification
from nuse.shim.opttable import SOL_IP, SOL_IPV6, SOL_SOCKET
from nuse.shim.session import Session
from stack.errors import StackError

_MSGHDR = struct.Struct("=QI4xQQQQi4x")  # name, namelen, iov, iovlen, control, controllen, flags
_IOVEC = struct.Struct("=QQ")
_CMSGHDR = struct.Struct("=Qii")
_INT = struct.Struct("=i")
MSGHDR_LEN, MMSGHDR_LEN = 56, 64
NAMELEN_AT, CONTROLLEN_AT, FLAGS_AT, MMSG_LEN_AT = 8, 40, 48, 56
UIO_MAXIOV = 1024
LARGEST = 1 << 17


@dataclass(slots=True, eq=False)
class Message:
    """Where a datagram comes from or goes to. `header` is the msghdr's address, 0 for sendto and recvfrom."""

    buffers: list[tuple[int, int]] = field(default_factory=list)
    name: int = 0
    name_room: int = 0
    name_length_at: int = 0  # where recvfrom wants the length
    control: int = 0
    control_room: int = 0
    header: int = 0

    @property
    def room(self) -> int:
        """Bytes of payload that fit."""
        return sum(size for _at, size in self.buffers)


def read_header(s: Session, n: Notification, at: int) -> tuple[int, int, int, int, int, int]:
    """name, namelen, iov, iovlen, control, controllen of the msghdr at `at`."""
    name, name_length, iov, count, control, control_length, _flags = _MSGHDR.unpack(s.read(n, at, MSGHDR_LEN))
    return name, name_length, iov, count, control, control_length


def read_message(s: Session, n: Notification, at: int) -> Message:
    """The msghdr at `at` with its buffers. Raises EFAULT, EMSGSIZE, EINVAL."""
    name, name_length, iov, count, control, control_length = read_header(s, n, at)
    if count > UIO_MAXIOV:
        raise StackError(errno.EMSGSIZE, f"{count} buffers")
    if name_length >> 31:
        raise StackError(errno.EINVAL, "negative namelen")
    buffers = list(_IOVEC.iter_unpack(s.read(n, iov, count * _IOVEC.size)))
    if any(size >> 63 for _at, size in buffers):
        raise StackError(errno.EINVAL, "negative buffer length")
    return Message(buffers, name, name_length if name else 0, 0, control, control_length if control else 0, at)


def gather(s: Session, n: Notification, message: Message) -> bytes:
    """The payload to send; EMSGSIZE for what no datagram can hold."""
    if message.room > LARGEST:
        raise StackError(errno.EMSGSIZE, f"{message.room} bytes")
    if len(message.buffers) == 1:
        return s.read(n, *message.buffers[0])
    return b"".join(s.read(n, at, size) for at, size in message.buffers)


def fill(
    s: Session, n: Notification, sock: DatagramSocket, message: Message, entry: Entry, data: bytes, flags: int
) -> int:
    """Write a datagram, its address and its control messages into the program; returns the call's result."""
    left = memoryview(data)
    for at, size in message.buffers:
        if not left:
            break
        s.write(n, at, bytes(left[:size]) if len(left) > size else bytes(left))
        left = left[size:]
    shown = MSG_TRUNC if left else 0
    assert entry.addr is not None
    name = sockaddr.encode(entry.addr, sock.v6)
    if message.name and message.name_room:
        s.write(n, message.name, name[: message.name_room])
    if message.name_length_at:
        s.write_int(n, message.name_length_at, len(name))
    if message.header:
        control = control_messages(sock, entry)
        if len(control) > message.control_room:
            control, shown = b"", shown | MSG_CTRUNC
        if control:
            s.write(n, message.control, control)
        s.write_int(n, message.header + NAMELEN_AT, len(name) if message.name else 0)
        s.write(n, message.header + CONTROLLEN_AT, len(control).to_bytes(8, "little"))
        s.write_int(n, message.header + FLAGS_AT, shown)
    return len(data) if flags & MSG_TRUNC else len(data) - len(left)


def _cmsg(level: int, kind: int, payload: bytes) -> bytes:
    length = _CMSGHDR.size + len(payload)
    return _CMSGHDR.pack(length, level, kind) + payload + bytes(-length % 8)


def control_messages(sock: DatagramSocket, entry: Entry) -> bytes:
    """What the program asked to be told with each datagram: time, TTL, TOS, destination."""
    on = options.flag
    out = []
    seconds, nanos = divmod(entry.stamp, 1_000_000_000)
    if on(sock, SOL_SOCKET, opttable.SO_TIMESTAMPNS):
        out.append(_cmsg(SOL_SOCKET, opttable.SO_TIMESTAMPNS, struct.pack("=qq", seconds, nanos)))
    elif on(sock, SOL_SOCKET, opttable.SO_TIMESTAMP):
        out.append(_cmsg(SOL_SOCKET, opttable.SO_TIMESTAMP, struct.pack("=qq", seconds, nanos // 1000)))
    v4 = len(entry.dst) == 4
    if v4:
        if on(sock, SOL_IP, opttable.IP_PKTINFO):
            info = _INT.pack(entry.link_index) + entry.dst + entry.dst
            out.append(_cmsg(SOL_IP, opttable.IP_PKTINFO, info))
        if on(sock, SOL_IP, opttable.IP_RECVTTL):
            out.append(_cmsg(SOL_IP, socket.IP_TTL, _INT.pack(entry.ttl)))
        if on(sock, SOL_IP, opttable.IP_RECVTOS):
            out.append(_cmsg(SOL_IP, socket.IP_TOS, bytes([entry.tos])))
    if sock.v6:
        if on(sock, SOL_IPV6, opttable.IPV6_RECVPKTINFO):
            dst = sockaddr.MAPPED + entry.dst if v4 else entry.dst
            out.append(_cmsg(SOL_IPV6, socket.IPV6_PKTINFO, dst + _INT.pack(entry.link_index)))
        if on(sock, SOL_IPV6, opttable.IPV6_RECVHOPLIMIT):
            out.append(_cmsg(SOL_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(entry.ttl)))
        if on(sock, SOL_IPV6, opttable.IPV6_RECVTCLASS):
            out.append(_cmsg(SOL_IPV6, socket.IPV6_TCLASS, _INT.pack(entry.tos)))
    return b"".join(out)
