"""sockaddr_in and sockaddr_in6 to (address, port) and back; pure, with the errnos that Linux gives.

The stack speaks of IPv4 with four bytes everywhere. A program's AF_INET6 socket writes and reads those as
::ffff:a.b.c.d, so mapping happens here and nowhere else.
"""

import errno
import struct

from stack.errors import StackError

AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10
SIN_LEN, SIN6_LEN = 16, 28
SIN6_LEN_OLD = 24  # without sin6_scope_id, RFC 2133; Linux still takes it
SOCKADDR_MAX = 128  # struct sockaddr_storage
MAPPED = b"\0" * 10 + b"\xff\xff"
ANY4, ANY6 = b"\0" * 4, b"\0" * 16
LOOPBACK4, LOOPBACK6 = b"\x7f\0\0\1", b"\0" * 15 + b"\1"

SockAddr = tuple[bytes, int]
_FAMILY = struct.Struct("=H")
_SIN = struct.Struct("!H4s8x")
_SIN6 = struct.Struct("!HI16s")


def family_of(raw: bytes) -> int:
    """sa_family; EINVAL if there is not even that."""
    if len(raw) < 2:
        raise StackError(errno.EINVAL, "no address family")
    return int(_FAMILY.unpack_from(raw)[0])


def decode(raw: bytes, v6: bool) -> SockAddr:
    """The address in a sockaddr given to a socket of family AF_INET6 if `v6`, else AF_INET.

    A mapped IPv4 address comes out with four bytes. Raises StackError: EINVAL when too short, EAFNOSUPPORT when of
    another family.
    """
    least = SIN6_LEN_OLD if v6 else SIN_LEN
    if len(raw) < least:
        raise StackError(errno.EINVAL, f"sockaddr of {len(raw)} bytes")
    family = family_of(raw)
    if v6 and family == AF_INET6:
        port, _flow, addr = _SIN6.unpack_from(raw, 2)
        return (addr[12:] if addr.startswith(MAPPED) else addr), port
    if not v6 and family == AF_INET:
        port, addr = _SIN.unpack_from(raw, 2)
        return addr, port
    raise StackError(errno.EAFNOSUPPORT, f"address family {family}")


def decode_datagram(raw: bytes, v6: bool) -> SockAddr:
    """As `decode`, but an AF_INET6 datagram socket also takes a sockaddr_in, and an AF_INET one an AF_UNSPEC."""
    if len(raw) >= SIN_LEN:
        family = family_of(raw)
        if family == AF_INET if v6 else family == AF_UNSPEC:
            port, addr = _SIN.unpack_from(raw, 2)
            return addr, port
    return decode(raw, v6)


def decode_bind(raw: bytes, v6: bool) -> SockAddr:
    """As `decode`; for AF_INET, AF_UNSPEC with 0.0.0.0 is a wildcard too (a very old habit that Linux keeps)."""
    if not v6 and len(raw) >= SIN_LEN and family_of(raw) == AF_UNSPEC and raw[4:8] == ANY4:
        return ANY4, int(_SIN.unpack_from(raw, 2)[0])
    return decode(raw, v6)


def encode(addr: SockAddr | None, v6: bool) -> bytes:
    """The sockaddr that a socket of that family shows; None is the wildcard with port 0."""
    host, port = addr or (ANY6 if v6 else ANY4, 0)
    if not v6:
        return _FAMILY.pack(AF_INET) + _SIN.pack(port, host)
    if len(host) == 4:
        host = ANY6 if host == ANY4 else MAPPED + host
    return _FAMILY.pack(AF_INET6) + _SIN6.pack(port, 0, host) + b"\0\0\0\0"


def reachable(addr: SockAddr, local: SockAddr | None = None) -> SockAddr:
    """Where a connect or sendto to `addr` really goes: the wildcard means this host, as in Linux.

    A socket bound to an IPv4 address, `local`, goes there; to it the wildcard of IPv6 is that of IPv4.
    """
    host, port = addr
    bound4 = local is not None and len(local[0]) == 4
    if host == ANY4:
        return (local[0] if local is not None and bound4 and local[0] != ANY4 else LOOPBACK4), port
    if host == ANY6 and bound4:
        return LOOPBACK4, port
    if host == ANY6:
        return LOOPBACK6, port
    return addr
