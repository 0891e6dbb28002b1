"""System calls about a socket's life: socket, bind, listen, connect, shutdown, both names; and the dispatch table.

A handler gets the session and the notification; it returns the result, CONTINUE (not our socket: the kernel does
it) or LATER. It raises OSError for an errno. The order of the checks is Linux's, as far as a program can see it.
"""

import errno
import os
import socket

from nuse.shim import abi, carrier, sockaddr
from nuse.shim.abi import IPPROTO_MPTCP
from nuse.shim.compat import compat_socket, compat_socketcall
from nuse.shim.datagram import DatagramSocket
from nuse.shim.epolls import register_anew, registrations
from nuse.shim.fdtable import descriptor_flags, socket_name
from nuse.shim.kernelside import also_free, goes_to, hand_over, listens_at, verdict_at_birth
from nuse.shim.kernelside import make as make_kernels
from nuse.shim.mpopts import has_mptcp, upgrades
from nuse.shim.notif import Notification
from nuse.shim.options import flag, keep_to_v6, reuse, timeout
from nuse.shim.opttable import IP_BIND_ADDRESS_NO_PORT, IPV6_V6ONLY, SOL_IP, SOL_IPV6
from nuse.shim.origin import bind_address
from nuse.shim.rules import KERNEL, STACK
from nuse.shim.session import CONTINUE, LATER, Handler, Session, signed
from nuse.shim.sock import Pending, Socket
from nuse.shim.stream import CONNECTING, DEAD, ESTABLISHED, FRESH, SHUT_RD, SHUT_RDWR, SHUT_WR, StreamSocket
from nuse.shim.syscalls_accept import sys_accept, sys_accept4
from nuse.shim.syscalls_msg import sys_recvfrom, sys_recvmmsg, sys_recvmsg, sys_sendmmsg, sys_sendmsg, sys_sendto
from nuse.shim.syscalls_opt import carrier_error, sys_getsockopt, sys_ioctl, sys_setsockopt
from stack.errors import StackError
from stack.ip.addr import is_multicast

_TYPE_MASK = 0xF
_TYPE_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
CAP_NET_BIND_SERVICE, CAP_NET_RAW = 10, 13
RAW_PROTOCOLS = 256
FIRST_FREE_PORT = 1024
PORT_TRIES = 64  # for a port that the kernel does not use either


def sys_socket(s: Session, n: Notification) -> int | None:
    """socket(family, type, protocol); the filter lets INET streams, datagrams and raw sockets through to here."""
    family, kind, proto = signed(n.args[0]), n.args[1] & _TYPE_MASK, signed(n.args[2])
    flags = n.args[1] & 0xFFFFFFFF & ~_TYPE_MASK
    if flags & ~_TYPE_FLAGS:
        return -errno.EINVAL
    if not s.policy.serves(family, kind, proto) or not s.at_home(n.tid):
        return CONTINUE
    if proto == IPPROTO_MPTCP and not has_mptcp(s.hub, s.policy):
        return -errno.ENOPROTOOPT  # as where net.mptcp.enabled is 0
    if kind == socket.SOCK_RAW:
        if not 0 < proto < RAW_PROTOCOLS:
            return -errno.EPROTONOSUPPORT if 0 <= proto < RAW_PROTOCOLS else -errno.EINVAL
        if not s.capable(n.tid, CAP_NET_RAW):
            return -errno.EPERM
    verdict: str | None = STACK
    if s.policy.rules:
        verdict = verdict_at_birth(s, n, family, kind, proto)
        if verdict == KERNEL:
            return make_kernels(s, n, family, kind, flags, proto)
    v6 = family == socket.AF_INET6
    nonblock = bool(flags & socket.SOCK_NONBLOCK)
    ours, theirs = carrier.make_pair(
        socket.SOCK_STREAM if kind == socket.SOCK_STREAM else socket.SOCK_SEQPACKET, nonblock=nonblock
    )
    with theirs:
        try:
            given = s.listener.give(n.id, theirs.fileno(), cloexec=bool(flags & socket.SOCK_CLOEXEC))
        except OSError:
            ours.close()
            raise
        if given < 0:
            ours.close()
            return LATER
        name = socket_name(theirs.fileno())
    if kind == socket.SOCK_STREAM:
        stream = StreamSocket(s.hub, v6, proto or socket.IPPROTO_TCP, ours, name)
        stream.hint = (n.tid, given)
        stream.options = s.policy.options()
        stream.mptcp = proto == IPPROTO_MPTCP or upgrades(s.hub, s.policy, verdict)
        stream.unsettled = verdict is None
        return LATER
    stack = s.hub.stack
    if kind == socket.SOCK_RAW:
        endpoint = stack.raw.open(v6, proto)
    elif proto in (0, socket.IPPROTO_UDP):
        endpoint = stack.udp.open(v6)
    else:
        endpoint = stack.icmp.open_echo(v6)
    sock = DatagramSocket(s.hub, v6, proto or socket.IPPROTO_UDP, ours, name, endpoint, kind)
    sock.hint = (n.tid, given)
    sock.unsettled = verdict is None
    return LATER


def sys_bind(s: Session, n: Notification) -> int | None:
    """bind(fd, sockaddr, length)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    addr = sockaddr.decode_bind(s.read_sockaddr(n, n.args[1], n.args[2]), sock.v6)
    if 0 < addr[1] < FIRST_FREE_PORT and _is_ported(sock) and not s.capable(n.tid, CAP_NET_BIND_SERVICE):
        return -errno.EACCES
    if sock.unsettled and isinstance(sock, DatagramSocket) and addr[1]:
        if listens_at(s, n, sock, addr):
            return hand_over(s, n, sock)
        sock.unsettled = False  # a server's: it answers whoever asks
    s.hub.poller.run_now()  # a socket closed just before has given its port back
    if sock.v6 and len(addr[0]) == 4 and flag(sock, SOL_IPV6, IPV6_V6ONLY):
        return -errno.EINVAL
    if not sock.v6 and not _may_hold(s, addr[0]):  # looked at before EINVAL, where AF_INET6 does it after
        return -errno.EADDRNOTAVAIL
    try:
        _bind(s, n, sock, addr)
    except StackError as error:  # perhaps only a socket has the port whose close could not be seen
        if error.errno != errno.EADDRINUSE or not s.hub.reap(addr[1]):
            raise
        _bind(s, n, sock, addr)
    if len(addr[0]) == 16 and addr[0] != sockaddr.ANY6:
        keep_to_v6(sock)
    return 0


def _bind(s: Session, n: Notification, sock: Socket, addr: sockaddr.SockAddr) -> None:
    if isinstance(sock, DatagramSocket):
        sock.endpoint.bind(*addr, **reuse(sock))
        return
    assert isinstance(sock, StreamSocket)
    if not addr[1] and flag(sock, SOL_IP, IP_BIND_ADDRESS_NO_PORT):
        bind_address(sock, addr[0])
        return
    sock.bind(addr, **reuse(sock))
    for _ in range(PORT_TRIES if sock.unsettled and not addr[1] else 0):  # a chosen one serves whoever gets the socket
        if also_free(n, sock):
            return
        sock.release_port()
        sock.bind(addr, **reuse(sock))


def _may_hold(s: Session, addr: bytes) -> bool:
    """bind() to this IPv4 address is possible at all."""
    routes = s.hub.stack.routes
    return addr == sockaddr.ANY4 or routes.is_local(addr) or is_multicast(addr) or routes.is_broadcast(addr)


def _is_ported(sock: Socket) -> bool:
    return not (isinstance(sock, DatagramSocket) and not sock.is_udp)


def sys_listen(s: Session, n: Notification) -> int | None:
    """listen(fd, backlog); a socket without a port gets an ephemeral one."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    if not isinstance(sock, StreamSocket):
        return -errno.EOPNOTSUPP
    backlog = min(n.args[1] & 0xFFFFFFFF, s.hub.stack.sysctl.somaxconn)
    if sock.phase == FRESH and listens_at(s, n, sock, sock.bound_name()):
        return hand_over(s, n, sock)
    if sock.phase == FRESH and sock.binding is None:
        sock.bind((sock.bound_addr or (sockaddr.ANY6 if sock.v6 else sockaddr.ANY4), 0), **reuse(sock))
    with _copy(s, n, sock) as theirs:
        sock.listen(backlog, theirs)
    return 0


def _copy(s: Session, n: Notification, sock: Socket) -> socket.socket:
    copy = s.hub.tasks.copy_socket(n.tid, signed(n.args[0]), sock.name, sock.carrier_kind)
    if copy is None:
        raise StackError(errno.EBADF, "the descriptor changed under the call")
    return copy


# ---------------------------------------------------------------------- connect


def sys_connect(s: Session, n: Notification) -> int | None:
    """connect(fd, sockaddr, length)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    raw = s.read_sockaddr(n, n.args[1], n.args[2])
    family = sockaddr.family_of(raw)
    if isinstance(sock, DatagramSocket):
        if family == sockaddr.AF_UNSPEC:
            sock.endpoint.disconnect()
        else:
            remote = sockaddr.reachable(sockaddr.decode_datagram(raw, sock.v6), sock.local_address())
            if goes_to(s, n, sock, remote):
                return hand_over(s, n, sock)
            sock.send_pending()
            sock.endpoint.connect(remote)
        return 0
    assert isinstance(sock, StreamSocket)
    if family == sockaddr.AF_UNSPEC:
        sock.disconnect()
        _renew(s, n, sock)
        return 0
    if sock.phase == FRESH:
        return _connect_fresh(s, n, sock, raw)
    return _connect_again(s, n, sock)


def _connect_fresh(s: Session, n: Notification, sock: StreamSocket, raw: bytes) -> int | None:
    remote = sockaddr.reachable(sockaddr.decode(raw, sock.v6), sock.local_address())
    if len(remote[0]) == 4 and sock.v6 and sock.options.v6only:
        return -errno.ENETUNREACH
    if goes_to(s, n, sock, remote):
        return hand_over(s, n, sock)
    with _copy(s, n, sock) as theirs:
        sock.connect(remote, theirs)
        if carrier.is_nonblocking(theirs):
            return -errno.EINPROGRESS
    Pending(s, n, sock.waiting, timeout(sock, socket.SO_SNDTIMEO), -errno.EINPROGRESS)
    return LATER


def _connect_again(s: Session, n: Notification, sock: StreamSocket) -> int | None:
    """connect on a socket that is not fresh: what Linux's inet_stream_connect answers in each state."""
    if sock.phase == CONNECTING:
        with _copy(s, n, sock) as theirs:
            if carrier.is_nonblocking(theirs):
                return -errno.EALREADY
        Pending(s, n, sock.waiting, timeout(sock, socket.SO_SNDTIMEO), -errno.EALREADY)
        return LATER
    if sock.phase == ESTABLISHED and not sock.connect_told:
        sock.connect_told = True
        return 0
    if sock.phase == DEAD and not (sock.conn and sock.connect_told):
        # A connect that nobody waited for failed, or worked and was reset: told once, then it may be tried again.
        error = sock.take_error()
        known = not carrier_error(s, n, sock)  # a plain read has told it
        _renew(s, n, sock)
        return -(errno.ECONNABORTED if known or not error else error)
    return -errno.EISCONN


def _renew(s: Session, n: Notification, sock: StreamSocket) -> None:
    """Put a fresh carrier in place of the program's descriptor. Its duplicates keep the dead one (docs/shim.md)."""
    fd = signed(n.args[0])
    flags = descriptor_flags(n.tid, fd)
    ours, theirs = carrier.make_pair(socket.SOCK_STREAM, nonblock=bool(flags & os.O_NONBLOCK))
    with theirs:
        watched = registrations(n.tid, fd, sock.name)
        if not s.listener.replace(n.id, theirs.fileno(), fd, cloexec=bool(flags & os.O_CLOEXEC)):
            ours.close()
            return
        register_anew(s.hub.tasks, n.tid, fd, theirs.fileno(), watched)
        sock.renew(ours, socket_name(theirs.fileno()))


# ---------------------------------------------------------------------- shutdown and names


def sys_shutdown(s: Session, n: Notification) -> int | None:
    """shutdown(fd, how)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    how = signed(n.args[1])
    if not SHUT_RD <= how <= SHUT_RDWR:
        return -errno.EINVAL
    if isinstance(sock, StreamSocket):
        return CONTINUE if sock.shutdown(how) else 0
    assert isinstance(sock, DatagramSocket)
    if how != SHUT_RD:
        if not sock.shut_write:
            sock.send_pending()
        sock.shut_write = True
    if how != SHUT_WR:
        sock.stop_reading()
    if sock.endpoint.remote is not None:
        return CONTINUE
    with _copy(s, n, sock) as theirs:  # it has its effect all the same: that is how a thread in recvfrom is woken
        theirs.shutdown(how)
    return -errno.ENOTCONN


def sys_getsockname(s: Session, n: Notification) -> int | None:
    """getsockname(fd, sockaddr, length pointer)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    s.write_sockaddr(n, sockaddr.encode(sock.local_address(), sock.v6), n.args[1], n.args[2])
    return 0


def sys_getpeername(s: Session, n: Notification) -> int | None:
    """getpeername(fd, sockaddr, length pointer)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    remote = sock.remote_address()
    if remote is None:
        return -errno.ENOTCONN
    s.write_sockaddr(n, sockaddr.encode(remote, sock.v6), n.args[1], n.args[2])
    return 0


_BY_NAME: dict[str, Handler] = {
    "socket": sys_socket,
    "bind": sys_bind,
    "listen": sys_listen,
    "connect": sys_connect,
    "accept": sys_accept,
    "accept4": sys_accept4,
    "shutdown": sys_shutdown,
    "getsockname": sys_getsockname,
    "getpeername": sys_getpeername,
    "setsockopt": sys_setsockopt,
    "getsockopt": sys_getsockopt,
    "ioctl": sys_ioctl,
    "sendto": sys_sendto,
    "recvfrom": sys_recvfrom,
    "sendmsg": sys_sendmsg,
    "recvmsg": sys_recvmsg,
    "sendmmsg": sys_sendmmsg,
    "recvmmsg": sys_recvmmsg,
}

_COMPAT: dict[str, Handler] = {"socket": compat_socket, "socketcall": compat_socketcall}


def handlers() -> dict[int, Handler]:
    """System call number → handler, for the machine we run on."""
    arch = abi.native()
    if arch is None:
        return {}
    table = {arch.calls[name]: handler for name, handler in _BY_NAME.items()}
    return table | {nr: _COMPAT[name] for name, nr in arch.compat.calls.items()}
