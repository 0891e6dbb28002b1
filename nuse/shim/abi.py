"""Numbers of the Linux ABI that the standard library does not have: system calls, seccomp, socket options."""

import platform
from dataclasses import dataclass

# Our name of each call that the filter knows. The dispatch dict of syscalls.py uses the same names.
_X86_64 = {
    "ioctl": 16,
    "socket": 41,
    "connect": 42,
    "accept": 43,
    "sendto": 44,
    "recvfrom": 45,
    "sendmsg": 46,
    "recvmsg": 47,
    "shutdown": 48,
    "bind": 49,
    "listen": 50,
    "getsockname": 51,
    "getpeername": 52,
    "setsockopt": 54,
    "getsockopt": 55,
    "clone": 56,
    "accept4": 288,
    "recvmmsg": 299,
    "sendmmsg": 307,
    "io_uring_setup": 425,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "seccomp": 317,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
}
_AARCH64 = {
    "ioctl": 29,
    "socket": 198,
    "bind": 200,
    "listen": 201,
    "accept": 202,
    "connect": 203,
    "getsockname": 204,
    "getpeername": 205,
    "sendto": 206,
    "recvfrom": 207,
    "setsockopt": 208,
    "getsockopt": 209,
    "shutdown": 210,
    "sendmsg": 211,
    "recvmsg": 212,
    "clone": 220,
    "accept4": 242,
    "recvmmsg": 243,
    "sendmmsg": 269,
    "io_uring_setup": 425,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "seccomp": 277,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
}


@dataclass(frozen=True, slots=True)
class Compat:
    """The 32-bit programs of a machine. None of their `calls` is the number of a notified call of its own."""

    audit: int
    calls: dict[str, int]
    io_uring_setup: int = 425


@dataclass(frozen=True, slots=True)
class Arch:
    """One machine's system call numbers. `audit`: its AUDIT_ARCH; `x32`: numbers above 2**30 are another ABI."""

    name: str
    audit: int
    calls: dict[str, int]
    x32: bool
    compat: Compat


I386 = Compat(0x40000003, {"socket": 359, "socketcall": 102})
ARM = Compat(0x40000028, {"socket": 281})
X86_64 = Arch("x86_64", 0xC000003E, _X86_64, x32=True, compat=I386)
AARCH64 = Arch("aarch64", 0xC00000B7, _AARCH64, x32=False, compat=ARM)
ARCHES = {"x86_64": X86_64, "aarch64": AARCH64}


def native() -> Arch | None:
    """The machine we run on, or None if the shim does not know it."""
    return ARCHES.get(platform.machine())


# seccomp
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1
SECCOMP_ADDFD_FLAG_SETFD = 1
SECCOMP_ADDFD_FLAG_SEND = 2
SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1
SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101
SECCOMP_IOCTL_NOTIF_ID_VALID = 0x40082102
SECCOMP_IOCTL_NOTIF_ADDFD = 0x40182103
SECCOMP_IOCTL_NOTIF_SET_FLAGS = 0x40082104

# prctl, namespaces, mounts
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38
PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = (1 << 64) - 1
CLONE_FILES = 0x00000400
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19

# sockets
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
IPPROTO_MPTCP = 262
TCP_NUSE_OPTIONS, TCP_NUSE_SAVED, TCP_NUSE_STACK = 20001, 20002, 20003  # ours, of IPPROTO_TCP: nuse/shim/extraopts.py
MSG_OOB = 0x1
MSG_PEEK = 0x2
MSG_CTRUNC = 0x8
MSG_TRUNC = 0x20
MSG_DONTWAIT = 0x40
MSG_WAITFORONE = 0x10000
MSG_ERRQUEUE = 0x2000
MSG_NOSIGNAL = 0x4000
MSG_FASTOPEN = 0x20000000
MSG_CMSG_CLOEXEC = 0x40000000
SIOCOUTQ = 0x5411
FIONREAD = 0x541B
