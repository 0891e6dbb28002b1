"""The TUN device, opened with python-pytun: whole super-segments in and out, checksums left to the kernel.

With IFF_VNET_HDR each packet carries a virtio_net_hdr, and TUNSETOFFLOAD tells the kernel that we take packets of up
to 64 KB whose payload checksum nobody computed. That is the stack's speed: Python's cost is per packet, not per byte.
"""

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from array import array
from collections.abc import Sequence

import pytun

from nuse.device import Buffer
from stack.ip.link import IP_MAX
from stack.wire.vnet import VNET_LEN

TUNSETOFFLOAD = 0x400454D0
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
OFFLOAD_TCP = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
OFFLOAD_ALL = OFFLOAD_TCP | TUN_F_USO4 | TUN_F_USO6  # USO: Linux 6.2

SIOCSIFTXQLEN, SIOCETHTOOL = 0x8943, 0x8946
ETHTOOL_GLINK = 0x0A
TX_QUEUE = 10_000  # packets; the kernel's 500 overflow under one bulk sender
LARGEST = VNET_LEN + IP_MAX  # what the kernel hands over is at most one IP packet long
BIG_TCP_SINCE = (6, 3)  # Linux that takes IPv4 packets of more than 64 KB (total length 0) from a device
# The kernel keeps a packet in 17 pieces at the most, of 32 KB but for the last three, which are 16, 8 and 4 KB.
BIG_TCP_MAX = 15 * 32768
TOO_LARGE = (errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE)  # its memory has no such pieces, now
DEVICE_FILE = "/dev/net/tun"
GONE = (errno.EBADFD, errno.EFAULT)  # what reads and writes say after `ip link del`


class TunError(OSError):
    """A device that cannot be had; the message says why and what to do."""


class Tun:
    """One TUN device, non-blocking. `name` may be that of an existing persistent device."""

    __slots__ = ("_device", "_fd", "dropped", "gone", "gso_max", "name", "offload", "write_errors")

    def __init__(self, name: str = "", *, offload: bool = True, queue_len: int = TX_QUEUE) -> None:
        """Open or create the device; it still needs addresses and `up` (nuse/hostnet.py). Raises TunError.

        `offload` off makes the kernel hand over wire-size packets with full checksums.
        """
        if len(name.encode()) > 15:
            raise TunError(errno.ENAMETOOLONG, f"device name {name!r} is longer than 15 bytes")
        try:
            self._device = pytun.TunTapDevice(name=name, flags=pytun.IFF_TUN | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR)
        except OSError as exc:
            raise _explain(name, exc) from exc
        self._fd: int = self._device.fileno()
        self.name: str = self._device.name
        self.dropped = 0  # writes that would have blocked
        self.write_errors = 0  # writes that the kernel refused: device down, malformed packet
        self.gone = False  # somebody deleted the device
        try:
            self.offload = _set_offload(self._fd, offload)
            self.gso_max = BIG_TCP_MAX if self.offload and _kernel() >= BIG_TCP_SINCE else IP_MAX  # that we may write
            os.set_blocking(self._fd, False)
            os.set_inheritable(self._fd, False)
            _set_queue(self.name, queue_len)
            _settle(self.name)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        return self._fd

    def read(self) -> bytes | None:
        """The next packet; None if there is none, or if the device is down or gone."""
        try:
            return os.read(self._fd, LARGEST)
        except BlockingIOError:
            return None
        except OSError as exc:
            self.gone |= exc.errno in GONE
            return None

    def write(self, iovec: Sequence[Buffer]) -> bool:
        """Hand one packet to the host; False if it was dropped, and counted.

        A TUN write never waits: its send buffer is unlimited by default, and a host that is too slow drops on its own.
        So EAGAIN is treated as a full queue of a real device is.
        """
        try:
            os.writev(self._fd, iovec)
        except BlockingIOError:
            self.dropped += 1
            return False
        except OSError as exc:
            self.write_errors += 1
            self.gone |= exc.errno in GONE
            if exc.errno in TOO_LARGE:
                self.gso_max = max(self.gso_max // 2, IP_MAX)
            return False
        return True

    def close(self) -> None:
        """Close the file; a device that is not persistent disappears with it."""
        if self._fd >= 0:
            self._fd = -1
            self._device.close()


def _set_offload(fd: int, wanted: bool) -> bool:
    """Ask for super-segments; True if the kernel agreed, to TCP's at least."""
    for flags in (OFFLOAD_ALL, OFFLOAD_TCP) if wanted else ():
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, flags)
        except OSError:
            continue
        return True
    fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
    return False


def _kernel() -> tuple[int, int]:
    """Version of the running kernel; (0, 0) if its name is none that we understand."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _set_queue(name: str, length: int) -> None:
    """Set txqueuelen. Not fatal: the owner of a persistent device may lack the privilege."""
    request = struct.pack("16si20x", name.encode(), length)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, SIOCSIFTXQLEN, request)
        except OSError:
            return


def _settle(name: str) -> None:
    """Wait until the kernel sends on it: who asks for its carrier is answered when the link watcher has seen it.

    Opening gave it a carrier, but until that worker has run, the kernel drops what it has for the device: the answer to
    a first SYN, on a busy host. Before Linux 6.8 the question waits for nothing.
    """
    question = array("I", (ETHTOOL_GLINK, 0))
    request = struct.pack("16sP16x", name.encode(), question.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        fcntl.ioctl(sock, SIOCETHTOOL, request)


def _explain(name: str, exc: OSError) -> TunError:
    code = exc.errno or errno.EINVAL
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        why = f"no {DEVICE_FILE}: load the tun module (modprobe tun) or pass the device into the container"
    elif code in (errno.EPERM, errno.EACCES):
        why = f"no permission to open TUN device {name!r}: run as root or with CAP_NET_ADMIN"
    elif code == errno.EBUSY:
        why = f"TUN device {name!r} is in use by another process"
    elif code == errno.EINVAL:
        why = f"{name!r} is not a name for a TUN device, or belongs to another kind of device"
    else:
        why = f"cannot open TUN device {name!r}: {os.strerror(code)}"
    return TunError(code, why)
