"""MPTCP as a program's sockets see it: who gets it, the options of SOL_MPTCP, and those that an MPTCP socket refuses.

A socket that asked for IPPROTO_MPTCP takes every option that Linux's takes (net/mptcp/sockopt.c), and besides those of
TCP and IP that Linux refuses there although they make sense (TCP_USER_TIMEOUT, TCP_QUICKACK, IP_TTL …): they hold for
all subflows. What it refuses, it refuses with Linux's errno. A socket that asked for TCP and was upgraded takes what
TCP takes, and calls itself TCP. One that fell back to TCP has no SOL_MPTCP, by which programs find out.
"""

import errno
from typing import TYPE_CHECKING

from mptcp.diag import snapshot
from mptcp.info import ADDRS_SIZE, TCP_INFO_SIZE, full_info, pack_addrs, subflow_array
from mptcp.sched import make_scheduler
from nuse.shim.abi import IPPROTO_MPTCP
from nuse.shim.opttable import SOL_SOCKET, TCP_ULP
from nuse.shim.rules import MPTCP, TCP
from nuse.shim.stream import StreamSocket
from nuse.shim.tcpinfo import pack_info
from stack.errors import StackError

if TYPE_CHECKING:
    from mptcp.subflow import Subflow
    from nuse.shim.hub import Hub
    from nuse.shim.policy import Policy
    from nuse.shim.sock import Socket

SOL_MPTCP = 284
MPTCP_NUSE_SCHEDULER = 20001  # ours, as TCP_NUSE_OPTIONS is: the scheduler's name, also for what a listener accepts
MPTCP_INFO, MPTCP_TCPINFO, MPTCP_SUBFLOW_ADDRS, MPTCP_FULL_INFO = 1, 2, 3, 4
SCHEDULER_NAME = 16  # bytes, as TCP_CONGESTION's
MAX_REQUEST = 1 << 16  # bytes of a program's buffer that are looked at
_SOCKET_TAKES = {1, 2, 5, 6, 7, 8, 9, 11, 12, 13, 15, 18, 20, 21, 25, 29, 32, 33, 35, 36, 37, 40, 43, 45, 46, 49}
_SOCKET_TAKES |= {*range(62, 68)}
_SOCKET_IGNORES = {14, 16, 34, 41, 69, 70, 76}  # SO_BSDCOMPAT, SO_PASSCRED, …: success without effect


def has_mptcp(hub: "Hub", policy: "Policy") -> bool:
    """True if a program may have an MPTCP socket."""
    return hub.mptcp is not None and policy.mptcp != "off" and bool(hub.mptcp.sysctl.enabled)


def upgrades(hub: "Hub", policy: "Policy", verdict: str | None = None) -> bool:
    """True if a program's TCP socket is to be MPTCP's, as the verdict of a rule says, or without one the policy."""
    if hub.mptcp is None or not has_mptcp(hub, policy):
        return False
    if verdict in (MPTCP, TCP):
        return verdict == MPTCP
    return policy.mptcp == "on" or bool(hub.mptcp.sysctl.mptcp_upgrade)


def ignores(sock: "Socket", level: int, name: int) -> bool:
    """What setsockopt on an MPTCP socket makes of an option before TCP is asked: True if it is to do nothing.

    Raises StackError EOPNOTSUPP, ENOPROTOOPT for those that are refused.
    """
    if sock.proto != IPPROTO_MPTCP:
        return False
    if level == SOL_SOCKET and name not in _SOCKET_TAKES:
        if name in _SOCKET_IGNORES:
            return True
        raise StackError(errno.EOPNOTSUPP, "not on an MPTCP socket")
    if (level, name) == TCP_ULP:
        raise StackError(errno.ENOPROTOOPT, "MPTCP is the upper layer protocol")
    return False


def get_mptcp(sock: StreamSocket, name: int, request: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """An option of SOL_MPTCP: its value, and what is to be written elsewhere, as (address, bytes).

    `request` is what the program's buffer held before. Raises StackError EINVAL, EOPNOTSUPP.
    """
    host, meta, now = sock.hub.mptcp, sock.meta, sock.hub.now()
    assert host is not None
    subflows = [sub for sub in meta.subflows if sub.conn is not None] if meta is not None else []
    if name == MPTCP_INFO:
        return snapshot(host, meta, now).pack(), []
    if name == MPTCP_TCPINFO:
        return subflow_array(request, TCP_INFO_SIZE, [pack_info(sub.conn.info(now)) for sub in subflows]), []
    if name == MPTCP_SUBFLOW_ADDRS:
        return subflow_array(request, ADDRS_SIZE, [_addrs(sub) for sub in subflows]), []
    if name == MPTCP_FULL_INFO:
        answer = full_info(
            request,
            lambda: snapshot(host, meta, now),
            [pack_info(sub.conn.info(now)) for sub in subflows],
            [(sub.id, _addrs(sub)) for sub in subflows],
        )
        return answer.value, answer.arrays
    if name == MPTCP_NUSE_SCHEDULER:
        chosen = meta.scheduler.name if meta is not None else sock.options.scheduler or host.sysctl.scheduler
        return chosen.encode().ljust(SCHEDULER_NAME, b"\0"), []
    raise StackError(errno.EOPNOTSUPP, "no such option of SOL_MPTCP")


def set_mptcp(sock: StreamSocket, name: int, raw: bytes) -> None:
    """Set an option of SOL_MPTCP, now and for children. Raises StackError ENOENT; ENOPROTOOPT for what is only read."""
    if name != MPTCP_NUSE_SCHEDULER:
        raise StackError(errno.ENOPROTOOPT, "no option of SOL_MPTCP that can be set")
    scheduler = raw.split(b"\0")[0].decode(errors="replace")
    make_scheduler(scheduler)
    if sock.meta is not None:
        sock.meta.set_scheduler(scheduler)
    sock.options.scheduler = scheduler


def _addrs(sub: "Subflow") -> bytes:
    return pack_addrs(sub.conn.local, sub.conn.remote)
