"""A link: one device through which packets come and go, and the addresses that the stack holds on it."""

from dataclasses import dataclass, field

IP_MAX = 65535  # bytes that the length field of an IP header can say


@dataclass(slots=True, eq=False)
class LinkStats:
    """Counters of one link, in the words of `ip -s link`; a GSO super-segment counts once."""

    rx_packets: int = 0
    rx_bytes: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    tx_dropped: int = 0


@dataclass(slots=True, eq=False)
class Link:
    """One device. Everything in it may change at run time except `name` and `index`."""

    name: str
    index: int
    mtu: int = 1500
    addrs: list[tuple[bytes, int]] = field(default_factory=list)  # (4 or 16 bytes, prefix length)
    offload: bool = True  # the device takes super-segments and checksums what NEEDS_CSUM marks
    gso_max: int = IP_MAX  # largest IP packet handed to the device when offload is on; more than that is BIG TCP
    up: bool = True
    loopback: bool = False
    deprecated: set[bytes] = field(default_factory=set)  # addresses to be used for nothing new (RFC 4862 §5.5.4)
    temporary: set[bytes] = field(default_factory=set)  # addresses for privacy, preferred as sources (RFC 8981)
    stats: LinkStats = field(default_factory=LinkStats)
