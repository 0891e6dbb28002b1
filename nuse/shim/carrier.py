"""The AF_UNIX socket pair that a program holds in place of an INET socket: making it, blocking it, breaking it.

What an AF_UNIX socket can be made to look like, each tried on Linux:

- *not writable yet* (connecting, listening): shrink the program end's SO_SNDBUF and fill it with junk. It polls
  nothing, for epoll's edges too. Draining the junk from our end and restoring the buffer gives the EPOLLOUT edge of a
  connect.
- *reset*: close our end while it holds unread bytes. The program reads what was delivered, then gets ECONNRESET,
  EPIPE on write, and polls IN|OUT|ERR|HUP|RDHUP, which is also what a failed connect polls.
- *end of stream*: shutdown(SHUT_WR) on our end.
"""

import contextlib
import fcntl
import os
import socket
import struct

from nuse.shim.abi import FIONREAD, MSG_DONTWAIT, MSG_NOSIGNAL, SIOCOUTQ, SO_SNDBUFFORCE

SNDBUF = 1 << 20  # of both ends (the kernel doubles it): 64 KiB writes and reads overlap, measured 7 → 21 Gbit/s
DATAGRAM_SNDBUF = 212992
_JUNK = bytes(16384)
_INT = struct.Struct("=i")


def _set_sndbuf(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def make_pair(kind: int, *, nonblock: bool) -> tuple[socket.socket, socket.socket]:
    """(our end, program's end); `kind` is SOCK_STREAM or SOCK_SEQPACKET. Our end never blocks.

    Datagrams ride on SOCK_SEQPACKET: it keeps boundaries as SOCK_DGRAM does, and unlike that it tells when the other
    end is closed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    if nonblock:
        theirs.setblocking(False)
    size = SNDBUF if kind == socket.SOCK_STREAM else DATAGRAM_SNDBUF
    _set_sndbuf(ours, size)
    _set_sndbuf(theirs, size)
    return ours, theirs


def block(theirs: socket.socket) -> None:
    """Make the program's end not writable, by filling it; `theirs` is a copy of it."""
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with contextlib.suppress(BlockingIOError):
        while True:
            theirs.send(_JUNK, MSG_DONTWAIT | MSG_NOSIGNAL)


def unblock(ours: socket.socket, theirs: socket.socket | None) -> None:
    """Make it writable again: take the junk out, and give the buffer its size back if we have a copy of that end."""
    left = unread(ours)  # before the buffer grows: what a blocked writer adds after this is data
    if theirs is not None:
        _set_sndbuf(theirs, SNDBUF)
    while left > 0:
        left -= len(ours.recv(left))


def unread(ours: socket.socket) -> int:
    """Bytes that the program has sent and we have not read."""
    return int(_INT.unpack(fcntl.ioctl(ours.fileno(), FIONREAD, b"\0\0\0\0"))[0])


def untaken(ours: socket.socket) -> int:
    """Memory of what we have sent and the program has not read: bytes, with the kernel's overhead per buffer."""
    return int(_INT.unpack(fcntl.ioctl(ours.fileno(), SIOCOUTQ, b"\0\0\0\0"))[0])


def is_nonblocking(theirs: socket.socket) -> bool:
    """O_NONBLOCK of the program's end, a property of the open file that all its copies share."""
    return bool(fcntl.fcntl(theirs.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK)


def refuse_writes(ours: socket.socket, theirs: socket.socket | None) -> None:
    """The program's writes fail from now on, also one that waits for room. A byte stays unread: see `spoil`."""
    if theirs is not None and not unread(ours):
        spoil(theirs)
    with contextlib.suppress(OSError):
        ours.shutdown(socket.SHUT_RD)
        left = unread(ours) - 1
        while left > 0:
            left -= len(ours.recv(left))


def spoil(theirs: socket.socket) -> None:
    """Leave a byte unread in our end, so that closing our end resets the program's."""
    with contextlib.suppress(OSError):
        theirs.send(b"\0", MSG_DONTWAIT | MSG_NOSIGNAL)
