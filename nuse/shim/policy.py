"""Which sockets of a program the stack serves; all others are the kernel's."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from mptcp.sockopt import MptcpOptions
from nuse.shim.abi import IPPROTO_MPTCP
from nuse.shim.rules import Rule

_TCP = (0, socket.IPPROTO_TCP, IPPROTO_MPTCP)


@dataclass(slots=True)
class Policy:
    """Settings of one program. Everything INET is the stack's, but for what `rules` say."""

    udp: bool = True
    ping: bool = True
    raw: bool = True
    mptcp: str = "auto"  # upgrade of TCP sockets: as nuse.mptcp_upgrade says, on, or off: no MPTCP, not even if asked
    scheduler: str = ""  # of its MPTCP sockets that do not say; empty: net.mptcp.scheduler
    congestion: str = ""  # of its TCP sockets; empty: net.ipv4.tcp_congestion_control
    rules: Sequence[Rule] = ()

    def options(self) -> MptcpOptions:
        """What its sockets begin with."""
        return MptcpOptions(scheduler=self.scheduler, congestion=self.congestion)

    def serves(self, family: int, kind: int, proto: int) -> bool:
        """True if socket(family, kind, proto) is to be ours."""
        if kind == socket.SOCK_STREAM:
            return proto in _TCP
        if kind == socket.SOCK_RAW:
            return self.raw
        if kind != socket.SOCK_DGRAM:
            return False
        if proto in (0, socket.IPPROTO_UDP):
            return self.udp
        echo = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        return self.ping and proto == echo
