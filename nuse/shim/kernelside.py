"""Sockets that rules give to the kernel: a socket of the stack's own network namespace, as without `nuse run`.

A program in the stack's namespace cannot make one by itself: the kernel's sockets there lead nowhere.
"""

import contextlib
import errno
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuse.shim.abi import IPPROTO_MPTCP
from nuse.shim.datagram import DatagramSocket
from nuse.shim.epolls import register_anew, registrations
from nuse.shim.fdtable import descriptor_flags
from nuse.shim.mpopts import upgrades
from nuse.shim.opttable import BUFFERS, SO_LINGER, SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET
from nuse.shim.rules import KERNEL, LISTEN, MPTCP, TCP, TO, decide
from nuse.shim.session import CONTINUE, LATER, Session, signed
from nuse.shim.sockaddr import ANY4, ANY6, MAPPED
from nuse.shim.stream import StreamSocket

if TYPE_CHECKING:
    from nuse.shim.notif import Notification
    from nuse.shim.sock import SockAddr, Socket

_TIMEVAL = struct.Struct("=qq")
_LINGER = struct.Struct("=ii")


def kind_of(kind: int, proto: int) -> str:
    """A rule's word for a type of socket."""
    if kind == socket.SOCK_STREAM:
        return "tcp"
    if kind == socket.SOCK_RAW:
        return "raw"
    return "udp" if proto in (0, socket.IPPROTO_UDP) else "ping"


def names_of(tid: int) -> tuple[str, ...]:
    """What rules may call a task's program: its path, the path's last part, and what `ps` calls it."""
    names = []
    with contextlib.suppress(OSError):
        path = os.readlink(f"/proc/{tid}/exe").removesuffix(" (deleted)")
        names += [path, os.path.basename(path)]
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{tid}/status").read_text()
        group = next(line.split()[1] for line in status.splitlines() if line.startswith("Tgid:"))
        names.append(Path(f"/proc/{group}/comm").read_text().removesuffix("\n"))
    return tuple(names)


def verdict_at_birth(s: Session, n: "Notification", family: int, kind: int, proto: int) -> str | None:
    """Whose socket() this is; None if the address will tell.

    Raises PermissionError if the address would tell too late that the kernel has no ping sockets for such a program,
    by which programs know that they need a raw one.
    """
    word = kind_of(kind, proto)
    verdict = decide(s.policy.rules, word, lambda: names_of(n.tid), "")
    if verdict is None and word == "ping":
        _socket(n, family, kind, proto).close()
    return verdict


def make(s: Session, n: "Notification", family: int, kind: int, flags: int, proto: int) -> int | None:
    """socket() of the kernel: the program's own call if that comes to the same, else one of ours."""
    if s.shares_our_network:
        return CONTINUE
    with _socket(n, family, kind, proto) as theirs:
        theirs.setblocking(not flags & socket.SOCK_NONBLOCK)
        s.listener.give(n.id, theirs.fileno(), cloexec=bool(flags & socket.SOCK_CLOEXEC))
    return LATER


def _socket(n: "Notification", family: int, kind: int, proto: int) -> socket.socket:
    theirs = socket.socket(family, kind, proto)
    with contextlib.suppress(OSError):  # without root everything is one user's anyway
        owner = os.stat(f"/proc/{n.tid}")
        os.fchown(theirs.fileno(), owner.st_uid, owner.st_gid)  # whom `ss -e` and uid rules take it for
    return theirs


def goes_to(s: Session, n: "Notification", sock: "Socket", remote: "SockAddr") -> bool:
    """True if the kernel is to have a socket that connects or sends to `remote`."""
    return _settle(s, n, sock, TO, remote)


def listens_at(s: Session, n: "Notification", sock: "Socket", local: "SockAddr | None") -> bool:
    """True if the kernel is to have a socket that listens at `local`."""
    return _settle(s, n, sock, LISTEN, local or (ANY6 if sock.v6 else ANY4, 0))


def _settle(s: Session, n: "Notification", sock: "Socket", side: str, address: "SockAddr") -> bool:
    """Look at the rules for an address. A stream that the stack keeps learns here whether it is upgraded."""
    if not sock.unsettled:
        return False
    verdict = decide(s.policy.rules, kind_of(sock.kind, sock.proto), lambda: names_of(n.tid), side, *address)
    if isinstance(sock, StreamSocket) and verdict in (MPTCP, TCP) and sock.proto != IPPROTO_MPTCP:
        sock.mptcp = upgrades(s.hub, s.policy, verdict) and not sock.options.extra
    return verdict == KERNEL


def hand_over(s: Session, n: "Notification", sock: "Socket") -> int | None:
    """Put a socket of the kernel in place of the program's descriptor; the kernel then does the call.

    Raises OSError where the kernel refuses the port.
    """
    fd = signed(n.args[0])
    flags = descriptor_flags(n.tid, fd)
    family = socket.AF_INET6 if sock.v6 else socket.AF_INET
    with _socket(n, family, sock.kind, sock.proto) as theirs:
        _repeat_options(sock, theirs)
        local = _bound(sock)
        if local is not None:
            theirs.bind((_text(local[0], sock.v6), local[1]))
        theirs.setblocking(not flags & os.O_NONBLOCK)
        watched = registrations(n.tid, fd, sock.name)
        if not s.listener.replace(n.id, theirs.fileno(), fd, cloexec=bool(flags & os.O_CLOEXEC)):
            return LATER
        register_anew(s.hub.tasks, n.tid, fd, theirs.fileno(), watched)
    sock.leave()
    return CONTINUE


def also_free(n: "Notification", sock: "Socket") -> bool:
    """False if the kernel has the port in use that a socket took here: it could not be handed over with it."""
    local = _bound(sock)
    if local is None:
        return True
    family = socket.AF_INET6 if sock.v6 else socket.AF_INET
    with _socket(n, family, sock.kind, sock.proto) as theirs:
        _repeat_options(sock, theirs)
        try:
            theirs.bind((_text(local[0], sock.v6), local[1]))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def _bound(sock: "Socket") -> "SockAddr | None":
    """Where bind() put it."""
    if isinstance(sock, StreamSocket):
        return sock.bound_name()
    assert isinstance(sock, DatagramSocket)
    local = sock.local_address()
    return local if local is not None and local[1] else None


def _text(addr: bytes, v6: bool) -> str:
    if not v6:
        return socket.inet_ntop(socket.AF_INET, addr)
    if len(addr) == len(ANY4):
        addr = ANY6 if addr == ANY4 else MAPPED + addr
    return socket.inet_ntop(socket.AF_INET6, addr)


def _repeat_options(sock: "Socket", theirs: socket.socket) -> None:
    """Set on the kernel's socket what the program has set. Refusals come too late to tell anybody."""
    for (level, name), value in sock.values.items():
        with contextlib.suppress(OSError):
            theirs.setsockopt(level, name, _packed(level, name, value))


def _packed(level: int, name: int, value: Any) -> int | bytes:
    if level == SOL_SOCKET:
        if name in (SO_RCVTIMEO, SO_SNDTIMEO):
            return _TIMEVAL.pack(int(value), round(value % 1 * 1e6))
        if name == SO_LINGER:
            return _LINGER.pack(*value)
        if name in BUFFERS:
            return int(value) // 2  # the kernel doubles it, as it was doubled here
    if isinstance(value, int):
        return value
    if isinstance(value, bytes):
        return value
    raise OSError(errno.ENOPROTOOPT, "an option with a meaning of its own")
