"""A received datagram on its way up, once the IP layer has accepted it: what UDP, ICMP and the slow path share.

TCP's fast path does without it.
"""

from dataclasses import dataclass

from stack.ip.link import Link

UNICAST, BROADCAST, MULTICAST = 0, 1, 2


@dataclass(slots=True, eq=False)
class Inbound:
    """One whole datagram: `pkt[l4:end]` is what the protocol named by `proto` gets."""

    pkt: bytes
    l3: int
    l4: int
    end: int
    src: bytes
    dst: bytes
    proto: int
    ttl: int
    tos: int
    link: Link
    csum_ok: bool  # somebody vouches for the transport checksum
    kind: int = UNICAST
    nxt_at: int = 0  # IPv6: where the field that named `proto` lies
