"""Options of UDP, echo and raw endpoints, and what a program may say with a single datagram (cmsg)."""

from dataclasses import dataclass

from stack.ip.link import Link

# IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
DONT = 0  # never DF; cut what does not fit the path
WANT = 1  # DF on what fits the path, cut what does not
DO = 2  # always DF; what does not fit is EMSGSIZE
PROBE = 3  # as DO, but against the link's MTU, whatever the path is said to carry
INTERFACE = 4  # against the link's MTU, without DF; what does not fit is EMSGSIZE
OMIT = 5  # as INTERFACE, but cut what does not fit


@dataclass(slots=True, eq=False)
class DatagramOptions:
    """Socket options; ttl 0 means the sysctl's."""

    rcvbuf: int
    sndbuf: int
    ttl: int = 0
    tos: int = 0
    broadcast: bool = False
    mtu_discover: int = WANT
    mtu_discover6: int = WANT
    recverr: bool = False  # IP_RECVERR
    recverr6: bool = False  # IPV6_RECVERR
    link: Link | None = None  # SO_BINDTODEVICE
    mcast_ttl: int = 1
    mcast_loop: bool = True
    mcast_all: bool = True  # hear groups that somebody else on this host joined, as long as none is joined here
    mcast_link: Link | None = None  # IP_MULTICAST_IF by link …
    mcast_addr: bytes | None = None  # … and by address, which is the source then
    autoflowlabel: bool | None = None  # IPV6_AUTOFLOWLABEL; None: net.ipv6.auto_flowlabels decides
    no_check: bool = False  # SO_NO_CHECK: UDP over IPv4 leaves without a checksum
    gso_size: int = 0  # UDP_SEGMENT
    gro: bool = False  # UDP_GRO


@dataclass(slots=True, eq=False)
class SendControl:
    """Ancillary data of one datagram: IP_PKTINFO, IP_TTL, IP_TOS, UDP_SEGMENT, IPV6_DONTFRAG. None: as the options."""

    src: bytes | None = None
    link: Link | None = None
    ttl: int | None = None
    tos: int | None = None
    gso_size: int | None = None
    dontfrag: bool = False
