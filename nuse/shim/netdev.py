"""SIOCGIF… on a carrier: questions about interfaces, asked in the program's network namespace.

The carrier belongs to the supervisor's namespace, so the kernel would answer for the wrong host. A datagram socket of
the kernel, opened once per session in the program's namespace, is asked instead.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct

from nuse.shim import abi, native
from nuse.shim.notif import Notification
from nuse.shim.session import CONTINUE, Session

IFREQ = 40
SIOCGIFCONF, SIOCGIFNAME, SIOCGIFINDEX = 0x8912, 0x8910, 0x8933
_PLAIN = frozenset(
    (SIOCGIFNAME, SIOCGIFINDEX, 0x8913, 0x8915, 0x8917, 0x8919, 0x891B, 0x891D, 0x8921, 0x8927, 0x8942, 0x8970)
)  # name, index, flags, address, dstaddr, broadcast, netmask, metric, mtu, hwaddr, txqueuelen, map
_IFCONF = struct.Struct("=i4xQ")
_LARGEST_CONF = 1 << 16


def _open_there(tid: int) -> socket.socket:
    """A kernel socket in a task's network namespace; in our own if we may not enter that."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/proc/{tid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            native.setns(there, abi.CLONE_NEWNET)
        except PermissionError:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            native.setns(here, abi.CLONE_NEWNET)
    finally:
        os.close(here)
        os.close(there)


def interface_ioctl(s: Session, n: Notification) -> int | None:
    """One of the SIOCGIF… requests; others in that range go to the kernel."""
    request = n.args[1] & 0xFFFFFFFF
    if request != SIOCGIFCONF and request not in _PLAIN:
        return CONTINUE
    with _open_there(n.tid) as asked:
        if request == SIOCGIFCONF:
            return _ifconf(s, n, asked)
        answer = fcntl.ioctl(asked.fileno(), request, s.read(n, n.args[2], IFREQ))
    s.write(n, (n.args[2], answer))
    return 0


def _ifconf(s: Session, n: Notification, asked: socket.socket) -> int:
    """SIOCGIFCONF: struct ifconf points to a buffer of ifreqs, or to NULL to ask how many bytes there are."""
    room, pointer = _IFCONF.unpack(s.read(n, n.args[2], _IFCONF.size))
    if pointer and room < 0:
        return -errno.EINVAL
    ours = bytearray(min(room, _LARGEST_CONF) if pointer else 0)
    hold = (ctypes.c_char * len(ours)).from_buffer(ours) if ours else None
    address = ctypes.addressof(hold) if hold is not None else 0
    used, _ = _IFCONF.unpack(fcntl.ioctl(asked.fileno(), SIOCGIFCONF, _IFCONF.pack(len(ours), address)))
    if pointer:
        s.write(n, (pointer, bytes(ours[:used])))
    s.write_int(n, n.args[2], used)
    return 0
