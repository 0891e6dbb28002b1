"""Flow labels, RFC 6437: twenty bits that are the same for all packets of a flow, and a stranger cannot predict.

Linux's net.ipv6.auto_flowlabels: a keyed hash of addresses, protocol and ports, so that routers spread load without
looking for ports (RFC 6438).
"""

import zlib


def flow_label(seed: int, src: bytes, dst: bytes, proto: int, ports: bytes = b"") -> int:
    """The label of a flow; never 0, which means none."""
    return (zlib.crc32(b"%b%b%c%b" % (src, dst, proto, ports), seed) * 0x9E3779B1 >> 16 & 0xFFFFF) or 1
