"""The table of int socket options: which exist, what they take, what they change; and the names of the others.

A known option that cannot matter here (IP_RECVERR, SO_PRIORITY …) is stored and read back, so programs see a Linux.
"""

from dataclasses import dataclass
from typing import Any

SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_IPV6 = 0, 1, 6, 17, 41
SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_RCVLOWAT = 2, 3, 4, 6, 7, 8, 18
SO_LINGER, SO_REUSEPORT, SO_RCVTIMEO, SO_SNDTIMEO = 13, 15, 20, 21
SO_TIMESTAMP, SO_TIMESTAMPNS = 29, 35
IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_BIND_ADDRESS_NO_PORT = 8, 12, 13, 24
IPV6_V6ONLY, IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS = 26, 49, 51, 66
SO_OOBINLINE = (SOL_SOCKET, 10)
TCP_ULP, TCP_IS_MPTCP = (SOL_TCP, 31), (SOL_TCP, 43)
I31 = 2**31 - 1

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Opt:
    """One option. `field` names the TcpOptions field behind it; `dgram` the DatagramOptions one."""

    default: int = 0
    low: int = -(2**31)
    high: int = I31
    boolean: bool = False
    field: str = ""
    dgram: str = ""
    native: bool = False  # the carrier obeys it too, so the kernel sets it there as well
    sysctl: str = ""  # where an unset value is read
    writable: bool = True


def _bool(**more: Any) -> Opt:
    return Opt(boolean=True, **more)


INTS: dict[Key, Opt] = {
    (SOL_IP, 3): _bool(dgram="hdrincl"),  # IP_HDRINCL: raw sockets only
    (SOL_SOCKET, 1): _bool(),  # SO_DEBUG
    (SOL_SOCKET, SO_REUSEADDR): _bool(),
    (SOL_SOCKET, 5): _bool(),  # SO_DONTROUTE
    (SOL_SOCKET, SO_BROADCAST): _bool(dgram="broadcast"),
    (SOL_SOCKET, 9): _bool(field="keepalive"),
    SO_OOBINLINE: _bool(native=True),
    (SOL_SOCKET, 11): _bool(dgram="no_check"),  # SO_NO_CHECK
    (SOL_SOCKET, 12): Opt(),  # SO_PRIORITY
    (SOL_SOCKET, SO_REUSEPORT): _bool(),
    (SOL_SOCKET, SO_RCVLOWAT): Opt(default=1, native=True),
    (SOL_SOCKET, 19): Opt(default=1, writable=False),  # SO_SNDLOWAT
    (SOL_SOCKET, SO_TIMESTAMP): _bool(),
    (SOL_SOCKET, SO_TIMESTAMPNS): _bool(),
    (SOL_SOCKET, 36): Opt(),  # SO_MARK
    (SOL_SOCKET, 40): _bool(),  # SO_RXQ_OVFL
    (SOL_SOCKET, 43): _bool(),  # SO_NOFCS
    (SOL_SOCKET, 45): _bool(),  # SO_SELECT_ERR_QUEUE
    (SOL_SOCKET, 46): Opt(low=0),  # SO_BUSY_POLL
    (SOL_SOCKET, 49): Opt(default=-1),  # SO_INCOMING_CPU
    (SOL_SOCKET, 56): Opt(writable=False),  # SO_INCOMING_NAPI_ID
    (SOL_SOCKET, 60): _bool(),  # SO_ZEROCOPY: the kernel ignores MSG_ZEROCOPY on the carrier and copies
    (SOL_TCP, 1): _bool(field="nodelay"),
    (SOL_TCP, 2): Opt(default=536, field="maxseg"),
    (SOL_TCP, 3): _bool(field="cork"),
    (SOL_TCP, 4): Opt(field="keepidle", sysctl="tcp_keepalive_time"),
    (SOL_TCP, 5): Opt(field="keepintvl", sysctl="tcp_keepalive_intvl"),
    (SOL_TCP, 6): Opt(field="keepcnt", sysctl="tcp_keepalive_probes"),
    (SOL_TCP, 7): Opt(field="syncnt", sysctl="tcp_syn_retries"),
    (SOL_TCP, 8): Opt(field="linger2", sysctl="tcp_fin_timeout"),
    (SOL_TCP, 9): Opt(field="defer_accept"),
    (SOL_TCP, 10): Opt(low=0, field="window_clamp"),
    (SOL_TCP, 12): _bool(default=1, field="quickack"),
    (SOL_TCP, 16): _bool(),  # TCP_THIN_LINEAR_TIMEOUTS
    (SOL_TCP, 17): _bool(),  # TCP_THIN_DUPACK
    (SOL_TCP, 18): Opt(field="user_timeout_ms"),
    (SOL_TCP, 23): Opt(low=0, field="fastopen"),  # TCP_FASTOPEN
    (SOL_TCP, 24): Opt(),  # TCP_TIMESTAMP
    (SOL_TCP, 25): Opt(field="notsent_lowat"),
    (SOL_TCP, 27): Opt(low=0, high=2, field="save_syn"),  # TCP_SAVE_SYN
    (SOL_TCP, 30): Opt(low=0, high=1, field="fastopen_connect"),  # TCP_FASTOPEN_CONNECT
    (SOL_TCP, 34): Opt(low=0, high=1),  # TCP_FASTOPEN_NO_COOKIE
    (SOL_TCP, 36): Opt(low=0, high=1),  # TCP_INQ
    TCP_IS_MPTCP: Opt(writable=False),
    (SOL_IP, 1): Opt(field="tos", dgram="tos"),
    (SOL_IP, 2): Opt(low=1, high=255, field="ttl", dgram="ttl", sysctl="ip_default_ttl"),
    (SOL_IP, 6): _bool(),  # IP_RECVOPTS
    (SOL_IP, 7): _bool(),  # IP_RETOPTS
    (SOL_IP, IP_PKTINFO): _bool(),
    (SOL_IP, 10): Opt(default=1, low=0, high=5, dgram="mtu_discover"),  # IP_MTU_DISCOVER
    (SOL_IP, 11): _bool(dgram="recverr"),  # IP_RECVERR
    (SOL_IP, IP_RECVTTL): _bool(),
    (SOL_IP, IP_RECVTOS): _bool(),
    (SOL_IP, 15): _bool(),  # IP_FREEBIND
    (SOL_IP, 18): _bool(),  # IP_PASSSEC
    (SOL_IP, 19): _bool(),  # IP_TRANSPARENT
    (SOL_IP, 20): _bool(),  # IP_RECVORIGDSTADDR
    (SOL_IP, 21): Opt(low=0, high=255),  # IP_MINTTL
    (SOL_IP, 22): _bool(),  # IP_NODEFRAG
    (SOL_IP, 23): _bool(),  # IP_CHECKSUM
    (SOL_IP, IP_BIND_ADDRESS_NO_PORT): _bool(),
    (SOL_IP, 33): Opt(default=1, low=-1, high=255, dgram="mcast_ttl"),  # IP_MULTICAST_TTL
    (SOL_IP, 34): _bool(default=1, dgram="mcast_loop"),  # IP_MULTICAST_LOOP
    (SOL_IP, 49): _bool(default=1, dgram="mcast_all"),  # IP_MULTICAST_ALL
    (SOL_IP, 50): Opt(),  # IP_UNICAST_IF
    (SOL_IP, 51): Opt(),  # IP_LOCAL_PORT_RANGE
    (SOL_IPV6, 16): Opt(default=-1, low=-1, high=255, field="ttl", dgram="ttl", sysctl="ip_default_ttl"),
    (SOL_IPV6, 18): Opt(default=1, low=-1, high=255, dgram="mcast_ttl"),  # IPV6_MULTICAST_HOPS
    (SOL_IPV6, 19): _bool(default=1, dgram="mcast_loop"),  # IPV6_MULTICAST_LOOP
    (SOL_IPV6, 23): Opt(default=1, low=0, high=5, dgram="mtu_discover6"),  # IPV6_MTU_DISCOVER
    (SOL_IPV6, 25): _bool(dgram="recverr6"),  # IPV6_RECVERR
    (SOL_IPV6, IPV6_V6ONLY): _bool(field="v6only"),
    (SOL_IPV6, 29): _bool(default=1, dgram="mcast_all"),  # IPV6_MULTICAST_ALL
    (SOL_IPV6, 33): _bool(),  # IPV6_FLOWINFO_SEND
    (SOL_IPV6, IPV6_RECVPKTINFO): _bool(),
    (SOL_IPV6, IPV6_RECVHOPLIMIT): _bool(),
    (SOL_IPV6, 62): _bool(),  # IPV6_DONTFRAG
    (SOL_IPV6, IPV6_RECVTCLASS): _bool(),
    (SOL_IPV6, 67): Opt(low=-1, high=255, field="tos", dgram="tos"),
    (SOL_IPV6, 70): _bool(default=1, dgram="autoflowlabel"),  # IPV6_AUTOFLOWLABEL
    (SOL_IPV6, 72): Opt(),  # IPV6_ADDR_PREFERENCES
    (SOL_IPV6, 73): Opt(low=0, high=255),  # IPV6_MINHOPCOUNT
    (SOL_IPV6, 60): _bool(),  # IPV6_RECVPATHMTU
    (SOL_IPV6, 74): _bool(),  # IPV6_RECVORIGDSTADDR
    (SOL_IPV6, 78): _bool(),  # IPV6_FREEBIND
    (SOL_UDP, 1): _bool(),  # UDP_CORK: each send is a datagram
    (SOL_UDP, 101): _bool(),  # UDP_NO_CHECK6_TX
    (SOL_UDP, 102): _bool(),  # UDP_NO_CHECK6_RX
    (SOL_UDP, 103): Opt(low=0, high=65535, dgram="gso_size"),  # UDP_SEGMENT
    (SOL_UDP, 104): _bool(dgram="gro"),  # UDP_GRO
}
NATIVE = {key for key, opt in INTS.items() if opt.native}
TIMEVALS = {
    20: SO_RCVTIMEO,
    66: SO_RCVTIMEO,
    21: SO_SNDTIMEO,
    67: SO_SNDTIMEO,
}  # old and 64-bit names: same layout here
BUFFERS = {SO_SNDBUF: ("sndbuf", 4608), SO_RCVBUF: ("rcvbuf", 2304), 32: ("sndbuf", 4608), 33: ("rcvbuf", 2304)}
BUFFER_MAX = 8 << 20  # bytes, after Linux's doubling
IGNORED_BLOBS = {(SOL_SOCKET, 27), (SOL_SOCKET, 44)}  # SO_DETACH_FILTER, SO_LOCK_FILTER
TCP_CONGESTION, TCP_INFO = (SOL_TCP, 13), (SOL_TCP, 11)
TCP_CC_INFO, TCP_SAVED_SYN, TCP_FASTOPEN_KEY = (SOL_TCP, 26), (SOL_TCP, 28), (SOL_TCP, 33)
SO_BINDTODEVICE, SO_TIMESTAMPING, SO_MAX_PACING_RATE = (SOL_SOCKET, 25), (SOL_SOCKET, 37), (SOL_SOCKET, 47)
TEXT = {SO_BINDTODEVICE, TCP_CONGESTION, TCP_ULP, (SOL_TCP, 20001)}  # may be shorter than an int
NO_INET = {(SOL_SOCKET, 16), (SOL_SOCKET, 34)}  # SO_PASSCRED, SO_PASSSEC: AF_UNIX only
