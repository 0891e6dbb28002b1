"""What our SYN or SYN-ACK offers, from link and options alone."""

from stack.ip.link import Link
from stack.tcp.options import TcpOptions


def advertised_mss(link: Link, v6: bool, options: TcpOptions) -> int:
    """The MSS we tell the peer: what fits our link without options, RFC 9293 §3.7.1, RFC 6691."""
    mss = link.mtu - (60 if v6 else 40)
    if options.maxseg:
        mss = min(mss, options.maxseg)
    return min(max(mss, 48), 65495)


def window_shift(most: int) -> int:
    """The scale that lets a receive buffer of `most` be advertised, RFC 7323 §2.3."""
    shift = 0
    while most >> shift > 65535 and shift < 14:
        shift += 1
    return shift
