"""32-bit programs: they may have every socket but those of the Internet, and the log says who was refused.

Their calls have other numbers and other structures. What they inherit from a program of 64 bits, an accepted
connection say, they can read and write like any file.
"""

import errno
import logging
import socket
import struct
from pathlib import Path

from nuse.shim.notif import Notification
from nuse.shim.session import CONTINUE, Session, signed

log = logging.getLogger("nuse.shim")

_SOCKETCALL = struct.Struct("=i")
_INTERNET = (socket.AF_INET, socket.AF_INET6)


def compat_socket(s: Session, n: Notification) -> int:
    """socket(family, type, protocol)."""
    return _decide(s, n, signed(n.args[0]))


def compat_socketcall(s: Session, n: Notification) -> int:
    """socketcall(SYS_SOCKET, arguments)."""
    return _decide(s, n, _SOCKETCALL.unpack(s.read(n, n.args[1] & 0xFFFFFFFF, _SOCKETCALL.size))[0])


def _decide(s: Session, n: Notification, family: int) -> int:
    if family not in _INTERNET or not s.at_home(n.tid):
        return CONTINUE
    name = Path(f"/proc/{n.tid}/comm").read_text().strip()
    log.warning("%s (task %d) is a 32-bit program: it gets ENOSYS for Internet sockets", name, n.tid)
    return -errno.ENOSYS
