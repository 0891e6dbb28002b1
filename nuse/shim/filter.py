"""The seccomp filter: which system calls stop for the supervisor, as a classic BPF program.

Only calls that name, make or ask about a socket are notified. read, write, close, poll, epoll and fork never are: they
work on the carrier by themselves, and an intercepted close that is interrupted would lose the descriptor. send and recv
are sendto and recvfrom with a NULL address and stay native too, but for a recv of one byte: that is how programs find
out whether a socket is connected (CPython's ssl does), and AF_UNIX would say EAGAIN, or wait. The kernel caches which
calls are allowed whatever their arguments, so those pay nothing at all.

32-bit programs (i386, arm) stop where they make a socket: the supervisor refuses those of the Internet, as numbers and
structures differ, and a way round the stack must not exist. All calls of x32 and of other foreign machines get ENOSYS.
"""

import errno
import struct

from nuse.shim.abi import (
    FIONREAD,
    MSG_ERRQUEUE,
    MSG_FASTOPEN,
    MSG_OOB,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_USER_NOTIF,
    SIOCOUTQ,
    Arch,
)

_INSTRUCTION = struct.Struct("=HBBI")
_LD, _AND, _JEQ, _JGE, _JSET, _RET = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, ALU|AND|K, JMP|…|K, RET|K
_NR, _ARCH = 0, 4
AF_INET, AF_INET6, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_TYPE_MASK = 2, 10, 1, 2, 3, 0xF
SYS_SOCKET = 1  # socketcall's number of socket()

ALWAYS = (
    "connect", "accept", "accept4", "sendmsg", "recvmsg", "shutdown", "bind", "listen", "getsockname", "getpeername",
    "setsockopt", "getsockopt", "recvmmsg", "sendmmsg",
)  # fmt: skip
SIOCGIF_FIRST, SIOCGIF_LAST = 0x8910, 0x8970  # interface questions, answered from the program's namespace
IOCTLS = (SIOCOUTQ,)
assert FIONREAD not in IOCTLS  # the kernel counts the carrier's bytes by itself


def _arg(n: int, high: bool = False) -> int:
    return 16 + 8 * n + (4 if high else 0)  # struct seccomp_data, little endian


class _Assembler:
    """Instructions with named jump targets. A target of None falls through."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, str | None, str | None]] = []
        self._labels: dict[str, int] = {}

    def op(self, code: int, k: int) -> None:
        self._code.append((code, k, None, None))

    def jump(self, code: int, k: int, yes: str | None = None, no: str | None = None) -> None:
        self._code.append((code, k, yes, no))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def _offset(self, here: int, name: str | None) -> int:
        offset = 0 if name is None else self._labels[name] - here - 1
        assert 0 <= offset < 256
        return offset

    def build(self) -> bytes:
        return b"".join(
            _INSTRUCTION.pack(code, self._offset(i, yes), self._offset(i, no), k)
            for i, (code, k, yes, no) in enumerate(self._code)
        )


def _message_call(asm: _Assembler, nr: int, name: str, flags: int, size: int = 0) -> None:
    """sendto or recvfrom: notified when the address pointer is set or one of `flags` is, or for `size` bytes."""
    asm.jump(_JEQ, nr, None, f"not {name}")
    asm.op(_LD, _arg(4))
    asm.jump(_JEQ, 0, None, "notify")
    asm.op(_LD, _arg(4, high=True))
    asm.jump(_JEQ, 0, None, "notify")
    if size:
        asm.op(_LD, _arg(2))
        asm.jump(_JEQ, size, "notify")
    asm.op(_LD, _arg(3))
    asm.jump(_JSET, flags, "notify", "allow")
    asm.label(f"not {name}")


def build_filter(arch: Arch) -> bytes:
    """The filter as an array of struct sock_filter."""
    asm = _Assembler()
    calls = arch.calls
    asm.op(_LD, _ARCH)
    asm.jump(_JEQ, arch.audit, None, "foreign")
    asm.op(_LD, _NR)
    if arch.x32:
        asm.jump(_JGE, 0x40000000, "enosys")
    _message_call(asm, calls["sendto"], "sendto", MSG_OOB | MSG_FASTOPEN)
    _message_call(asm, calls["recvfrom"], "recvfrom", MSG_OOB | MSG_ERRQUEUE, size=1)
    for name in ALWAYS:
        asm.jump(_JEQ, calls[name], "notify")
    asm.jump(_JEQ, calls["socket"], "socket")
    asm.jump(_JEQ, calls["ioctl"], "ioctl")
    asm.jump(_JEQ, calls["io_uring_setup"], "enosys", "allow")

    asm.label("foreign")
    compat = arch.compat
    asm.jump(_JEQ, compat.audit, None, "enosys")
    asm.op(_LD, _NR)
    asm.jump(_JEQ, compat.calls["socket"], "socket")
    if "socketcall" in compat.calls:  # its arguments lie in memory
        asm.jump(_JEQ, compat.calls["socketcall"], None, "not socketcall")
        asm.op(_LD, _arg(0))
        asm.jump(_JEQ, SYS_SOCKET, "notify", "allow")
        asm.label("not socketcall")
    asm.jump(_JEQ, compat.io_uring_setup, "enosys", "allow")

    asm.label("socket")
    asm.op(_LD, _arg(0))
    asm.jump(_JEQ, AF_INET, "inet")
    asm.jump(_JEQ, AF_INET6, "inet", "allow")
    asm.label("inet")
    asm.op(_LD, _arg(1))
    asm.op(_AND, SOCK_TYPE_MASK)
    asm.jump(_JEQ, SOCK_STREAM, "notify")
    asm.jump(_JEQ, SOCK_DGRAM, "notify")
    asm.jump(_JEQ, SOCK_RAW, "notify", "allow")

    asm.label("ioctl")
    asm.op(_LD, _arg(1))
    for request in IOCTLS:
        asm.jump(_JEQ, request, "notify")
    asm.jump(_JGE, SIOCGIF_FIRST, None, "allow")
    asm.jump(_JGE, SIOCGIF_LAST, "allow", "notify")

    asm.label("enosys")
    asm.op(_RET, SECCOMP_RET_ERRNO | errno.ENOSYS)
    asm.label("notify")
    asm.op(_RET, SECCOMP_RET_USER_NOTIF)
    asm.label("allow")
    asm.op(_RET, SECCOMP_RET_ALLOW)
    return asm.build()
