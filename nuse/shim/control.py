"""Control messages (cmsg, RFC 3542 §20): what a program says with a datagram, and what it is told with one."""

import errno
import socket
import struct

from nuse.shim import options, opttable, sockaddr
from nuse.shim.datagram import DatagramSocket, Entry
from nuse.shim.links import link_of_index
from nuse.shim.opttable import SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_UDP
from stack.dgram_options import SendControl
from stack.errors import StackError
from stack.errqueue import ORIGIN_ICMP, ORIGIN_ICMP6, SockError
from stack.ip.addr import is_multicast

CMSGHDR = struct.Struct("=Qii")
_INT = struct.Struct("=i")
_EXTENDED_ERR = struct.Struct("=IBBBBII")
IP_TOS, IP_TTL, IP_RETOPTS, IP_PKTINFO, IP_RECVERR, IP_RECVORIGDSTADDR = 1, 2, 7, 8, 11, 20
IPV6_2292PKTINFO, IPV6_2292HOPLIMIT, IPV6_FLOWINFO, IPV6_RECVERR = 2, 8, 11, 25
IPV6_PKTINFO, IPV6_HOPLIMIT, IPV6_DONTFRAG, IPV6_TCLASS, IPV6_RECVORIGDSTADDR = 50, 52, 62, 67, 74
UDP_SEGMENT, UDP_GRO = 103, 104
_HARMLESS = {1, 2, 12, 36, 37}  # SCM_RIGHTS, SCM_CREDENTIALS, SO_PRIORITY, SO_MARK, SO_TIMESTAMPING

Cmsg = tuple[int, int, bytes]


def pack(messages: list[Cmsg], room: int) -> tuple[bytes, bool]:
    """As put_cmsg: the bytes, and whether one had to be cut or left out (MSG_CTRUNC)."""
    out, cut = bytearray(), False
    for level, kind, payload in messages:
        left = room - len(out)
        if left < CMSGHDR.size:
            return bytes(out), True
        length = CMSGHDR.size + len(payload)
        if length > left:
            cut, length = True, left
        whole = CMSGHDR.pack(length, level, kind) + payload[: length - CMSGHDR.size]
        out += (whole + bytes(-length % 8))[:left]
    return bytes(out), cut


def parse(raw: bytes) -> list[Cmsg]:
    """A msghdr's control bytes. Raises StackError EINVAL for a length that cannot be."""
    found, at = [], 0
    while at + CMSGHDR.size <= len(raw):
        length, level, kind = CMSGHDR.unpack_from(raw, at)
        if not CMSGHDR.size <= length <= len(raw) - at:
            raise StackError(errno.EINVAL, f"cmsg of {length} bytes")
        found.append((level, kind, raw[at + CMSGHDR.size : at + length]))
        at += length + (-length % 8)
    return found


# ---------------------------------------------------------------------- from the program


def send_control(sock: DatagramSocket, raw: bytes) -> SendControl:
    """What sendmsg's control messages ask for. Raises StackError EINVAL, ENODEV."""
    control = SendControl()
    for level, kind, payload in parse(raw):
        if level == SOL_SOCKET and kind not in _HARMLESS:
            raise StackError(errno.EINVAL, f"SOL_SOCKET control message {kind}")
        if level == SOL_UDP and sock.is_udp:
            if kind != UDP_SEGMENT or len(payload) != 2:
                raise StackError(errno.EINVAL, f"UDP control message {kind}")
            control.gso_size = int.from_bytes(payload, "little")
        elif level == SOL_IP:
            _take4(sock, control, kind, payload)
        elif level == SOL_IPV6 and sock.v6:
            _take6(sock, control, kind, payload)
    return control


def _int(payload: bytes, low: int, high: int) -> int:
    value: int = _INT.unpack(payload)[0] if len(payload) == _INT.size else low - 1
    if not low <= value <= high:
        raise StackError(errno.EINVAL, f"control message value {payload.hex()}")
    return value


def _source(sock: DatagramSocket, addr: bytes) -> bytes | None:
    if not any(addr):
        return None
    if not sock.hub.stack.routes.is_local(addr):
        raise StackError(errno.EINVAL, "not an address of this host")
    return addr


def _take4(sock: DatagramSocket, control: SendControl, kind: int, payload: bytes) -> None:
    """ip_cmsg_send."""
    if kind == IP_PKTINFO and len(payload) == 12:
        control.link = link_of_index(sock.hub.stack, _INT.unpack_from(payload)[0])
        control.src = _source(sock, payload[4:8])
    elif kind == IP_TTL:
        control.ttl = _int(payload, 1, 255)
    elif kind == IP_TOS:
        control.tos = payload[0] if len(payload) == 1 else _int(payload, 0, 255)
    elif kind != IP_RETOPTS:
        raise StackError(errno.EINVAL, f"IP control message {kind}")


def _take6(sock: DatagramSocket, control: SendControl, kind: int, payload: bytes) -> None:
    """ip6_datagram_send_ctl."""
    if kind in (IPV6_PKTINFO, IPV6_2292PKTINFO) and len(payload) >= 20:
        addr = payload[:16]
        control.link = link_of_index(sock.hub.stack, _INT.unpack_from(payload, 16)[0])
        control.src = _source(sock, addr[12:] if addr.startswith(sockaddr.MAPPED) else addr)
    elif kind in (IPV6_HOPLIMIT, IPV6_2292HOPLIMIT):
        value = _int(payload, -1, 255)
        control.ttl = None if value < 0 else value
    elif kind == IPV6_TCLASS:
        value = _int(payload, -1, 255)
        control.tos = None if value < 0 else value
    elif kind == IPV6_DONTFRAG:
        control.dontfrag = bool(_int(payload, 0, 1))
    elif kind != IPV6_FLOWINFO:
        raise StackError(errno.EINVAL, f"IPv6 control message {kind}")


# ---------------------------------------------------------------------- to the program


def received(sock: DatagramSocket, entry: Entry) -> list[Cmsg]:
    """What the program asked to be told with each datagram, in Linux's order: time, GRO, destination, TTL, TOS."""
    on = options.flag
    out: list[Cmsg] = []
    seconds, nanos = divmod(entry.stamp, 1_000_000_000)
    if on(sock, SOL_SOCKET, opttable.SO_TIMESTAMPNS):
        out.append((SOL_SOCKET, opttable.SO_TIMESTAMPNS, struct.pack("=qq", seconds, nanos)))
    elif on(sock, SOL_SOCKET, opttable.SO_TIMESTAMP):
        out.append((SOL_SOCKET, opttable.SO_TIMESTAMP, struct.pack("=qq", seconds, nanos // 1000)))
    if entry.segment:
        out.append((SOL_UDP, UDP_GRO, _INT.pack(entry.segment)))
    v4 = len(entry.dst) == 4
    if sock.v6 and on(sock, SOL_IPV6, opttable.IPV6_RECVPKTINFO):
        dst = sockaddr.MAPPED + entry.dst if v4 else entry.dst
        out.append((SOL_IPV6, socket.IPV6_PKTINFO, dst + _INT.pack(entry.link_index)))
    return out + (_received4(sock, entry) if v4 else _received6(sock, entry))


def _received4(sock: DatagramSocket, entry: Entry) -> list[Cmsg]:
    """ip_cmsg_recv."""
    on = options.flag
    out: list[Cmsg] = []
    if on(sock, SOL_IP, IP_PKTINFO):
        out.append((SOL_IP, IP_PKTINFO, _INT.pack(entry.link_index) + _specific(sock, entry) + entry.dst))
    if on(sock, SOL_IP, opttable.IP_RECVTTL):
        out.append((SOL_IP, IP_TTL, _INT.pack(entry.ttl)))
    if on(sock, SOL_IP, opttable.IP_RECVTOS):
        out.append((SOL_IP, IP_TOS, bytes([entry.tos])))
    if on(sock, SOL_IP, IP_RECVORIGDSTADDR):
        out.append((SOL_IP, IP_RECVORIGDSTADDR, sockaddr.encode((entry.dst, sock.endpoint.local[1]), False)))
    return out


def _specific(sock: DatagramSocket, entry: Entry) -> bytes:
    """ipi_spec_dst: where an answer should come from."""
    if not is_multicast(entry.dst):
        return entry.dst
    links = sock.hub.stack.links.values()
    own = [addr for link in links if link.index == entry.link_index for addr, _length in link.addrs if len(addr) == 4]
    return own[0] if own else bytes(4)


def _received6(sock: DatagramSocket, entry: Entry) -> list[Cmsg]:
    """ip6_datagram_recv_specific_ctl."""
    on = options.flag
    out: list[Cmsg] = []
    if on(sock, SOL_IPV6, opttable.IPV6_RECVHOPLIMIT):
        out.append((SOL_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(entry.ttl)))
    if on(sock, SOL_IPV6, opttable.IPV6_RECVTCLASS):
        out.append((SOL_IPV6, socket.IPV6_TCLASS, _INT.pack(entry.tos)))
    if on(sock, SOL_IPV6, IPV6_RECVORIGDSTADDR):
        out.append((SOL_IPV6, IPV6_RECVORIGDSTADDR, sockaddr.encode((entry.dst, sock.endpoint.local[1]), True)))
    return out


def error_message(sock: DatagramSocket, report: SockError) -> Cmsg:
    """IP_RECVERR or IPV6_RECVERR: struct sock_extended_err and the offender's address."""
    extended = _EXTENDED_ERR.pack(report.errno, report.origin, report.kind, report.code, 0, report.info, 0)
    if report.offender is not None and report.origin in (ORIGIN_ICMP, ORIGIN_ICMP6):
        offender = sockaddr.encode((report.offender, 0), sock.v6)
    else:
        offender = bytes(sockaddr.SIN6_LEN if sock.v6 else sockaddr.SIN_LEN)
    return (SOL_IPV6, IPV6_RECVERR, extended + offender) if sock.v6 else (SOL_IP, IP_RECVERR, extended + offender)
