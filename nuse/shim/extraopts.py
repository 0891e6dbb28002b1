"""A program's own TCP options: the socket options by which it sends them and reads the peer's, and knows where it is.

    TCP_NUSE_OPTIONS  set: what to send from now on;  get: the same
    TCP_NUSE_SAVED    set to 1: keep the unknown options that arrive;  get: those kept since the last get
    TCP_NUSE_STACK    get: the name of the stack that serves the socket

A value is a row of records: u8 where, u8 kind, u8 length, then so many bytes. `where` is a sum of 1 SYN, 2 SYN-ACK, 4
segments with text, 8 those without. Kinds 253 and 254 are for experiments, and begin with an ExID (RFC 6994). On a
listener they hold for what it accepts. On a kernel socket setsockopt answers ENOPROTOOPT, so a program can tell.
"""

import errno

from nuse.shim.abi import IPPROTO_MPTCP, TCP_NUSE_OPTIONS, TCP_NUSE_STACK
from nuse.shim.stream import StreamSocket
from stack.errors import StackError
from stack.tcp.conn import TcpConn
from stack.tcp.extension import ExtraOptions
from stack.tcp.options import ExtraOption


def decode(raw: bytes) -> tuple[ExtraOption, ...]:
    """Records to options. Raises StackError EINVAL for a record that is cut short."""
    found = []
    at = 0
    while at < len(raw):
        if at + 3 > len(raw) or at + 3 + raw[at + 2] > len(raw):
            raise StackError(errno.EINVAL, "a record is cut short")
        where, kind, size = raw[at : at + 3]
        found.append(ExtraOption(where, kind, raw[at + 3 : at + 3 + size]))
        at += 3 + size
    return tuple(found)


def encode(where: int, kind: int, data: bytes) -> bytes:
    """One record."""
    return bytes((where, kind, len(data))) + data


def set_extra(sock: StreamSocket, name: int, raw: bytes) -> None:
    """setsockopt of either. Raises StackError EINVAL, EOPNOTSUPP: with MPTCP the place of extra options is taken.

    A TCP socket that was to be upgraded stays TCP.
    """
    if sock.proto != IPPROTO_MPTCP and sock.conn is None:
        sock.mptcp = False
    if sock.mptcp:
        raise StackError(errno.EOPNOTSUPP, "no options of its own on an MPTCP socket")
    if name == TCP_NUSE_OPTIONS:
        sock.set_option("extra", decode(raw))
    else:
        sock.set_option("save_options", any(raw))


def get_extra(sock: StreamSocket, name: int) -> bytes:
    """getsockopt of any; reading what was saved takes it."""
    if name == TCP_NUSE_STACK:
        return sock.hub.stack_name.encode()
    if name == TCP_NUSE_OPTIONS:
        options = sock.conn.options if sock.conn is not None else sock.options
        return b"".join(encode(each.where, each.kind, each.data) for each in options.extra)
    ext = sock.conn.ext if isinstance(sock.conn, TcpConn) else None
    if not isinstance(ext, ExtraOptions):
        return b""
    saved = b"".join(encode(where, kind, data) for where, (kind, data) in ext.saved)
    ext.saved.clear()
    return saved
