"""Options of UDP, ping and raw sockets that act on their endpoint, and SO_BINDTODEVICE."""

import errno
import socket
import struct

from nuse.shim.datagram import DatagramSocket
from nuse.shim.links import link_of_name
from nuse.shim.opttable import SO_BINDTODEVICE, SOL_IP, SOL_IPV6, Opt
from nuse.shim.sock import Socket
from stack.errors import StackError

SOL_RAW, SOL_ICMPV6 = 255, 58
ICMP_FILTER = (SOL_RAW, 1)
ICMP6_FILTER = (SOL_ICMPV6, 1)
IPV6_CHECKSUM = 7
MULTICAST_TTLS = {(SOL_IP, 33), (SOL_IPV6, 18)}
_INT = struct.Struct("=i")


def set_datagram(sock: DatagramSocket, opt: Opt, value: int) -> None:
    """An int option, value checked, as the endpoint knows it."""
    endpoint = sock.endpoint
    if opt.dgram == "hdrincl":
        endpoint.hdrincl = bool(value)
        return
    if opt.dgram == "mcast_ttl" and value == -1:
        value = 1
    setattr(endpoint.options, opt.dgram, bool(value) if opt.boolean else max(value, 0))
    if opt.dgram in ("recverr", "recverr6") and not value:
        endpoint.errors.clear()


def set_raw_option(sock: Socket, level: int, name: int, raw: bytes) -> bool:
    """ICMP_FILTER, ICMP6_FILTER, IPV6_CHECKSUM; False if it is another option."""
    if not isinstance(sock, DatagramSocket) or sock.kind != socket.SOCK_RAW:
        return False
    endpoint = sock.endpoint
    if (level, name) == ICMP_FILTER and not sock.v6:
        if sock.proto != socket.IPPROTO_ICMP:
            raise StackError(errno.EOPNOTSUPP, "not an ICMP socket")
        endpoint.icmp_filter = int.from_bytes(raw[:4], "little")
    elif (level, name) == ICMP6_FILTER and sock.v6:
        if sock.proto != socket.IPPROTO_ICMPV6:
            raise StackError(errno.EOPNOTSUPP, "not an ICMPv6 socket")
        endpoint.icmp_filter = int.from_bytes(raw[:32], "little")
    elif name == IPV6_CHECKSUM and sock.v6 and level in (SOL_RAW, SOL_IPV6):
        at = _INT.unpack_from(raw)[0] if len(raw) >= _INT.size else 1
        if (sock.proto == socket.IPPROTO_ICMPV6 and level == SOL_IPV6) or (at > 0 and at & 1):
            raise StackError(errno.EINVAL, f"no checksum at {at}")
        endpoint.checksum_at = max(at, -1)
    else:
        return False
    return True


def get_raw_option(sock: Socket, level: int, name: int) -> bytes | None:
    """The same, read; and IP_HDRINCL of IPPROTO_RAW, which nobody has to set."""
    if not isinstance(sock, DatagramSocket) or sock.kind != socket.SOCK_RAW:
        return None
    endpoint = sock.endpoint
    if (level, name) == ICMP_FILTER and not sock.v6:
        if sock.proto != socket.IPPROTO_ICMP:
            raise StackError(errno.EOPNOTSUPP, "not an ICMP socket")
        return int(endpoint.icmp_filter).to_bytes(4, "little")
    if (level, name) == ICMP6_FILTER and sock.v6 and sock.proto == socket.IPPROTO_ICMPV6:
        return int(endpoint.icmp_filter).to_bytes(32, "little")
    if name == IPV6_CHECKSUM and sock.v6 and level in (SOL_RAW, SOL_IPV6):
        return _INT.pack(endpoint.checksum_at)
    if (level, name) == (SOL_IP, 3):
        return _INT.pack(endpoint.hdrincl)
    return None


def bind_to_device(sock: Socket, raw: bytes) -> None:
    """SO_BINDTODEVICE: datagrams go and come by that link only; an empty name lifts it. Raises StackError ENODEV."""
    name = raw.split(b"\0")[0]
    link = link_of_name(sock.hub.stack, name.decode(errors="replace")) if name else None
    if isinstance(sock, DatagramSocket):
        sock.endpoint.options.link = link
    sock.values[SO_BINDTODEVICE] = name + b"\0" if name else b""
