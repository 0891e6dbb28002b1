"""What our SYN or SYN-ACK offers, from route and options alone."""

from stack.tcp.options import TcpOptions


def advertised_mss(mtu: int, advmss: int, v6: bool, options: TcpOptions) -> int:
    """The MSS we tell the peer: what fits the way back without options, RFC 9293 §3.7.1, RFC 6691.

    As Linux's tcp_mss_clamp(dst_metric_advmss()): a route's own `advmss` instead of what follows from its MTU, and no
    more than TCP_MAXSEG.
    """
    mss = advmss or mtu - (60 if v6 else 40)
    if options.maxseg:
        mss = min(mss, options.maxseg)
    return min(max(mss, 48), 65495)


def window_shift(most: int) -> int:
    """The scale that lets a receive buffer of `most` be advertised, RFC 7323 §2.3."""
    shift = 0
    while most >> shift > 65535 and shift < 14:
        shift += 1
    return shift
