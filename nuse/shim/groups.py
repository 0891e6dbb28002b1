"""Multicast socket options: memberships, source filters and the outgoing interface, in all the forms Linux has them.

IP_ADD_MEMBERSHIP and its relatives name the interface by address or index, IPV6_JOIN_GROUP by index, MCAST_JOIN_GROUP
(RFC 3678 §5) works for both families.
"""

import errno
import struct
from collections.abc import Callable

from nuse.shim import sockaddr
from nuse.shim.datagram import DatagramSocket
from nuse.shim.links import link_of_address, link_of_index
from nuse.shim.opttable import SOL_IP, SOL_IPV6
from nuse.shim.sock import Socket
from stack.errors import StackError
from stack.ip.link import Link

IP_MULTICAST_IF, IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP = 32, 35, 36
IP_UNBLOCK_SOURCE, IP_BLOCK_SOURCE, IP_ADD_SOURCE, IP_DROP_SOURCE, IP_MSFILTER = 37, 38, 39, 40, 41
MCAST_JOIN_GROUP, MCAST_BLOCK_SOURCE, MCAST_UNBLOCK_SOURCE, MCAST_LEAVE_GROUP = 42, 43, 44, 45
MCAST_JOIN_SOURCE, MCAST_LEAVE_SOURCE, MCAST_MSFILTER = 46, 47, 48
IPV6_MULTICAST_IF, IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP = 17, 20, 21
_INT = struct.Struct("=i")
Handler = Callable[[DatagramSocket, int, bytes], None]
_MREQN = struct.Struct("=4s4si")
_MREQ6 = struct.Struct("=16si")
_MSFILTER = struct.Struct("=4s4sII")
_GROUP_FILTER = struct.Struct("=I4x128sII")
_STORAGE = 128
_IPV4 = (IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP)
_SOURCES4 = (IP_UNBLOCK_SOURCE, IP_BLOCK_SOURCE, IP_ADD_SOURCE, IP_DROP_SOURCE)


def set_group_option(sock: Socket, level: int, name: int, raw: bytes) -> bool:
    """True if it was one of the options above. Raises StackError with Linux's errno."""
    wanted = _handlers(level).get(name)
    if wanted is None:
        return False
    if not isinstance(sock, DatagramSocket):
        raise StackError(errno.EPROTO if name in (*_IPV4, IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP) else errno.EINVAL, "TCP")
    wanted(sock, name, raw)
    return True


def _handlers(level: int) -> dict[int, Handler]:
    return _OF_IP if level == SOL_IP else _OF_IPV6 if level == SOL_IPV6 else {}


def _need(raw: bytes, size: int) -> None:
    if len(raw) < size:
        raise StackError(errno.EINVAL, f"{len(raw)} bytes, {size} wanted")


def _link4(sock: DatagramSocket, addr: bytes, index: int = 0) -> Link | None:
    """Linux's ip_mc_find_dev: by index, else by address, else by route."""
    stack = sock.hub.stack
    if index:
        return link_of_index(stack, index)
    if addr == sockaddr.ANY4:
        return None
    link = link_of_address(stack, addr)
    if link is None:
        raise StackError(errno.ENODEV, "no interface with that address")
    return link


def _membership4(sock: DatagramSocket, name: int, raw: bytes) -> None:
    """struct ip_mreq, or ip_mreqn with an index."""
    _need(raw, 8)
    group, addr, index = _MREQN.unpack(raw[:12]) if len(raw) >= _MREQN.size else (raw[:4], raw[4:8], 0)
    link = _link4(sock, addr, index)
    if name == IP_ADD_MEMBERSHIP:
        sock.endpoint.join(group, link)
    else:
        sock.endpoint.leave(group, link)


def _source4(sock: DatagramSocket, name: int, raw: bytes) -> None:
    """struct ip_mreq_source."""
    _need(raw, 12)
    group, addr, source = raw[:4], raw[4:8], raw[8:12]
    _on_source(sock, _SAME[name], group, source, _link4(sock, addr))


def _on_source(sock: DatagramSocket, name: int, group: bytes, source: bytes, link: Link | None) -> None:
    endpoint = sock.endpoint
    if name == MCAST_JOIN_SOURCE:
        endpoint.join(group, link, source)
    elif name == MCAST_LEAVE_SOURCE:
        endpoint.leave(group, link, source)
    else:
        endpoint.block(group, source, link, unblock=name == MCAST_UNBLOCK_SOURCE)


def _msfilter4(sock: DatagramSocket, _name: int, raw: bytes) -> None:
    """struct ip_msfilter."""
    _need(raw, _MSFILTER.size)
    group, addr, mode, count = _MSFILTER.unpack_from(raw)
    _need(raw, _MSFILTER.size + 4 * count)
    sources = [raw[at : at + 4] for at in range(16, 16 + 4 * count, 4)]
    sock.endpoint.set_filter(group, sources, include=bool(mode), link=_link4(sock, addr))


def _address(sock: DatagramSocket, raw: bytes, v6: bool) -> bytes:
    try:
        return sockaddr.decode(raw, v6)[0]
    except StackError:
        raise StackError(errno.EADDRNOTAVAIL if v6 else errno.EINVAL, "not of this family") from None


def _mcast(v6: bool) -> Handler:
    def handle(sock: DatagramSocket, name: int, raw: bytes) -> None:
        """struct group_req, group_source_req, group_filter."""
        stack, endpoint = sock.hub.stack, sock.endpoint
        if name == MCAST_MSFILTER:
            _need(raw, _GROUP_FILTER.size)
            index, group_raw, mode, count = _GROUP_FILTER.unpack_from(raw)
            _need(raw, _GROUP_FILTER.size + _STORAGE * count)
            first = _GROUP_FILTER.size
            sources = [
                _address(sock, raw[at : at + _STORAGE], v6) for at in range(first, first + _STORAGE * count, _STORAGE)
            ]
            group = _address(sock, group_raw, v6)
            endpoint.set_filter(group, sources, include=bool(mode), link=link_of_index(stack, index))
            return
        _need(raw, 8 + _STORAGE)
        link = link_of_index(stack, _INT.unpack_from(raw)[0])
        group = _address(sock, raw[8 : 8 + _STORAGE], v6)
        if name == MCAST_JOIN_GROUP:
            endpoint.join(group, link)
        elif name == MCAST_LEAVE_GROUP:
            endpoint.leave(group, link)
        else:
            _need(raw, 8 + 2 * _STORAGE)
            _on_source(sock, name, group, _address(sock, raw[8 + _STORAGE :], v6), link)

    return handle


def _membership6(sock: DatagramSocket, name: int, raw: bytes) -> None:
    """struct ipv6_mreq."""
    _need(raw, _MREQ6.size)
    group, index = _MREQ6.unpack_from(raw)
    link = link_of_index(sock.hub.stack, index)
    if name == IPV6_JOIN_GROUP:
        sock.endpoint.join(group, link)
    else:
        sock.endpoint.leave(group, link)


def _out4(sock: DatagramSocket, name: int, raw: bytes) -> None:
    """IP_MULTICAST_IF: struct in_addr, ip_mreq or ip_mreqn."""
    _need(raw, 4)
    index, addr = 0, raw[:4]
    if len(raw) >= 8:
        addr = raw[4:8]
    if len(raw) >= _MREQN.size:
        index = _INT.unpack_from(raw, 8)[0]
    options = sock.endpoint.options
    try:
        link = _link4(sock, addr, index)
    except StackError:
        raise StackError(errno.EADDRNOTAVAIL, "no such interface") from None
    options.mcast_link = link
    options.mcast_addr = addr if addr != sockaddr.ANY4 else None
    sock.values[SOL_IP, name] = addr


def _out6(sock: DatagramSocket, name: int, raw: bytes) -> None:
    """IPV6_MULTICAST_IF: an index."""
    _need(raw, 4)
    index = _INT.unpack_from(raw)[0]
    sock.endpoint.options.mcast_link = link_of_index(sock.hub.stack, index)
    sock.values[SOL_IPV6, name] = index


def get_group_option(sock: Socket, level: int, name: int) -> bytes | None:
    """The outgoing interface; None if it is another option."""
    if (level, name) == (SOL_IP, IP_MULTICAST_IF):
        return bytes(sock.values.get((level, name), sockaddr.ANY4))
    if (level, name) == (SOL_IPV6, IPV6_MULTICAST_IF):
        return _INT.pack(sock.values.get((level, name), 0))
    return None


_SAME = {
    IP_UNBLOCK_SOURCE: MCAST_UNBLOCK_SOURCE,
    IP_BLOCK_SOURCE: MCAST_BLOCK_SOURCE,
    IP_ADD_SOURCE: MCAST_JOIN_SOURCE,
    IP_DROP_SOURCE: MCAST_LEAVE_SOURCE,
}
_RFC3678 = range(MCAST_JOIN_GROUP, MCAST_MSFILTER + 1)
_OF_IP: dict[int, Handler] = (
    dict.fromkeys(_IPV4, _membership4)
    | dict.fromkeys(_SOURCES4, _source4)
    | {IP_MSFILTER: _msfilter4, IP_MULTICAST_IF: _out4}
    | {name: _mcast(v6=False) for name in _RFC3678}
)
_OF_IPV6: dict[int, Handler] = {
    IPV6_JOIN_GROUP: _membership6,
    IPV6_LEAVE_GROUP: _membership6,
    IPV6_MULTICAST_IF: _out6,
} | {name: _mcast(v6=True) for name in _RFC3678}
