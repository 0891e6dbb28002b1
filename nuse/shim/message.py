"""struct msghdr and its relatives in a program's memory, and filling one with a received datagram."""

import errno
import struct
from dataclasses import dataclass, field

from nuse.shim import control, sockaddr
from nuse.shim.abi import MSG_CTRUNC, MSG_ERRQUEUE, MSG_TRUNC
from nuse.shim.datagram import DatagramSocket, Entry
from nuse.shim.notif import Notification
from nuse.shim.session import Session
from stack.errors import StackError
from stack.errqueue import SockError

_MSGHDR = struct.Struct("=QI4xQQQQi4x")  # name, namelen, iov, iovlen, control, controllen, flags
_IOVEC = struct.Struct("=QQ")
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
    name, name_length, iov, count, ancillary, ancillary_length, _flags = _MSGHDR.unpack(s.read(n, at, MSGHDR_LEN))
    return name, name_length, iov, count, ancillary, ancillary_length


def read_message(s: Session, n: Notification, at: int) -> Message:
    """The msghdr at `at` with its buffers. Raises EFAULT, EMSGSIZE, EINVAL."""
    name, name_length, iov, count, ancillary, room = read_header(s, n, at)
    if count > UIO_MAXIOV:
        raise StackError(errno.EMSGSIZE, f"{count} buffers")
    if name_length >> 31:
        raise StackError(errno.EINVAL, "negative namelen")
    buffers = list(_IOVEC.iter_unpack(s.read(n, iov, count * _IOVEC.size)))
    if any(size >> 63 for _at, size in buffers):
        raise StackError(errno.EINVAL, "negative buffer length")
    return Message(buffers, name, name_length if name else 0, 0, ancillary, room if ancillary else 0, at)


def gather(s: Session, n: Notification, message: Message) -> bytes:
    """The payload to send; EMSGSIZE for what no datagram can hold."""
    if message.room > LARGEST:
        raise StackError(errno.EMSGSIZE, f"{message.room} bytes")
    if len(message.buffers) == 1:
        return s.read(n, *message.buffers[0])
    return b"".join(s.read(n, at, size) for at, size in message.buffers)


def _scatter(s: Session, n: Notification, message: Message, data: bytes) -> memoryview:
    """Write the payload into the buffers; returns what did not fit."""
    left = memoryview(data)
    for at, size in message.buffers:
        if not left:
            break
        s.write(n, (at, bytes(left[:size])))
        left = left[size:]
    return left


def _write_name(s: Session, n: Notification, message: Message, name: bytes) -> None:
    """The address, as much as there is room for, and its length."""
    shown = name[: message.name_room] if message.name else b""
    if message.name_length_at:
        s.write_sized(n, shown, message.name, message.name_length_at, message.name_room, len(name))
    elif shown:
        s.write(n, (message.name, shown))


def _finish_header(
    s: Session, n: Notification, message: Message, name_length: int, messages: list[control.Cmsg], shown: int
) -> None:
    """Control messages, lengths and flags of a received msghdr."""
    raw, cut = control.pack(messages, message.control_room)
    header = message.header
    told = name_length if message.name else 0
    s.write_sized(n, raw, message.control, header + NAMELEN_AT, message.name_room, told)
    flags = shown | (MSG_CTRUNC if cut else 0)
    s.write(
        n, (header + CONTROLLEN_AT, len(raw).to_bytes(8, "little")), (header + FLAGS_AT, flags.to_bytes(4, "little"))
    )


def fill_error(s: Session, n: Notification, sock: DatagramSocket, message: Message, report: SockError) -> int:
    """As `fill`, with an entry of the error queue: what we sent, where to, and what became of it."""
    left = _scatter(s, n, message, report.payload)
    name = sockaddr.encode(report.dst, sock.v6)
    _write_name(s, n, message, name)
    if message.header:
        shown = MSG_ERRQUEUE | (MSG_TRUNC if left else 0)
        _finish_header(s, n, message, len(name), [control.error_message(sock, report)], shown)
    return len(report.payload) - len(left)


def fill_nothing(s: Session, n: Notification, message: Message) -> int:
    """What a receive gives after SHUT_RD: no bytes, from nobody."""
    if message.name_length_at:
        s.write_sized(n, b"", 0, message.name_length_at, message.name_room, 0)
    if message.header:
        _finish_header(s, n, message, 0, [], 0)
    return 0


def fill(
    s: Session, n: Notification, sock: DatagramSocket, message: Message, entry: Entry, data: bytes, flags: int
) -> int:
    """Write a datagram, its address and its control messages into the program; returns the call's result."""
    left = _scatter(s, n, message, data)
    shown = MSG_TRUNC if left else 0
    assert entry.addr is not None
    name = sockaddr.encode(entry.addr, sock.v6)
    _write_name(s, n, message, name)
    if message.header:
        _finish_header(s, n, message, len(name), control.received(sock, entry), shown)
    return len(data) if flags & MSG_TRUNC else len(data) - len(left)
