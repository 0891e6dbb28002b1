"""Reading and setting socket options; opttable.py says which there are, syscalls_opt.py moves the bytes."""

import errno
import struct
from collections.abc import Callable
from socket import SOCK_RAW, socket

from nuse.shim import sockaddr
from nuse.shim.abi import TCP_NUSE_OPTIONS, TCP_NUSE_SAVED, TCP_NUSE_STACK
from nuse.shim.datagram import DatagramSocket
from nuse.shim.dgramopts import (
    MULTICAST_TTLS,
    SOL_ICMPV6,
    SOL_RAW,
    bind_to_device,
    get_raw_option,
    set_datagram,
    set_raw_option,
)
from nuse.shim.extraopts import get_extra, set_extra
from nuse.shim.groups import get_group_option, set_group_option
from nuse.shim.opttable import (
    BUFFER_MAX,
    BUFFERS,
    IGNORED_BLOBS,
    INTS,
    IPV6_V6ONLY,
    NATIVE,
    SO_BINDTODEVICE,
    SO_LINGER,
    SO_MAX_PACING_RATE,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SO_TIMESTAMPING,
    SO_TYPE,
    SOL_IP,
    SOL_IPV6,
    SOL_SOCKET,
    SOL_TCP,
    SOL_UDP,
    TCP_CC_INFO,
    TCP_CONGESTION,
    TCP_FASTOPEN_KEY,
    TCP_INFO,
    TCP_IS_MPTCP,
    TCP_SAVED_SYN,
    TCP_ULP,
    TIMEVALS,
    Key,
    Opt,
)
from nuse.shim.sock import Socket
from nuse.shim.stream import FRESH, LISTENING, StreamSocket
from nuse.shim.tcpinfo import NO_LIMIT, max_pacing_rate, pack_cc_info, pack_tcp_info
from stack.errors import StackError
from stack.tcp.cc import CONGESTION_CONTROLS

_INT = struct.Struct("=i")
TFO_CLIENT = 1  # net.ipv4.tcp_fastopen
INT_MAX = (1 << 31) - 1
_TWO_INTS = struct.Struct("=ii")
_TIMEVAL = struct.Struct("=qq")
_UCRED = struct.Struct("=iii")


def timeout(sock: Socket, name: int) -> float | None:
    """SO_RCVTIMEO or SO_SNDTIMEO in seconds; None waits for ever."""
    seconds: float | None = sock.values.get((SOL_SOCKET, name))
    return seconds


def flag(sock: Socket, level: int, name: int) -> bool:
    """A boolean option."""
    return bool(sock.values.get((level, name)))


def reuse(sock: Socket) -> dict[str, bool]:
    """What bind asks of the stack."""
    return {
        "reuseaddr": flag(sock, SOL_SOCKET, SO_REUSEADDR),
        "reuseport": flag(sock, SOL_SOCKET, SO_REUSEPORT),
        "v6only": flag(sock, SOL_IPV6, IPV6_V6ONLY),
    }


def keep_to_v6(sock: Socket) -> None:
    """Bound to an address of IPv6, which makes it IPV6_V6ONLY."""
    sock.values[SOL_IPV6, IPV6_V6ONLY] = 1
    if isinstance(sock, StreamSocket):
        sock.options.v6only = True


def inherit(listening: StreamSocket, child: StreamSocket) -> None:
    """An accepted socket has its listener's options."""
    child.values = dict(listening.values)


def inherit_native(listening: StreamSocket, theirs: socket) -> None:
    """… and so has its carrier, `theirs`, those that the kernel obeys."""
    for level, name in NATIVE & listening.values.keys():
        theirs.setsockopt(level, name, listening.values[level, name])
    for name in (SO_RCVTIMEO, SO_SNDTIMEO):
        if seconds := timeout(listening, name):
            theirs.setsockopt(SOL_SOCKET, name, _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6)))


def _known(sock: Socket, level: int, name: int) -> Opt:
    opt = INTS.get((level, name))
    if opt is None or not has_level(sock, level) or ((level, name) == (SOL_IP, 3) and sock.kind != SOCK_RAW):
        raise StackError(errno.ENOPROTOOPT, "no such option")
    return opt


def has_level(sock: Socket, level: int) -> bool:
    """The socket has options of this level at all."""
    if level == SOL_IPV6:
        return sock.v6
    own = SOL_TCP
    if isinstance(sock, DatagramSocket):
        own = SOL_UDP if sock.is_udp else SOL_RAW if sock.kind == SOCK_RAW else SOL_IP
        if sock.kind == SOCK_RAW and sock.v6 and level == SOL_ICMPV6:
            return True
    return level in (SOL_SOCKET, SOL_IP, own)


def set_int(sock: Socket, level: int, name: int, value: int) -> bool:
    """Set an int option; True if the kernel is to set it on the carrier too."""
    opt = _known(sock, level, name)
    if not opt.writable:
        raise StackError(errno.ENOPROTOOPT, "read-only")
    unset = value == -1 if opt.field == "ttl" else value == 0 and opt.field == "maxseg"
    if not unset and not opt.low <= value <= opt.high:
        raise StackError(errno.EINVAL, f"{value} is outside {opt.low}..{opt.high}")
    if opt.boolean:
        value = int(value != 0)
    if (level, name) == (SOL_SOCKET, SO_RCVLOWAT):
        value = _low_water(sock, value)
    if level == SOL_SOCKET and name in (SO_REUSEADDR, SO_REUSEPORT) and sock.held is not None:
        setattr(sock.held, "reuseaddr" if name == SO_REUSEADDR else "reuseport", bool(value))  # as others see it
    if (level, name) == (SOL_IPV6, IPV6_V6ONLY) and sock.named:
        raise StackError(errno.EINVAL, "IPV6_V6ONLY after bind")
    if (level, name) == (SOL_IPV6, IPV6_V6ONLY) and isinstance(sock, DatagramSocket) and sock.is_udp:
        sock.endpoint.v6only = bool(value)  # it counts for connect and sendto, too, which bind by themselves
    if isinstance(sock, StreamSocket) and opt.field:
        if opt.field.startswith("fastopen"):
            check_fast_open(sock, opt.field)
        if opt.field == "tos":  # the ECN bits belong to TCP
            value = max(value, 0) & ~3
        if unset:
            sock.reset_option(opt.field)
        else:
            sock.set_option(opt.field, bool(value) if opt.boolean else value)
    elif isinstance(sock, DatagramSocket) and opt.dgram:
        set_datagram(sock, opt, value)
    elif (level, name) in MULTICAST_TTLS and isinstance(sock, StreamSocket):
        raise StackError(errno.EINVAL if level == SOL_IP else errno.ENOPROTOOPT, "no multicast streams")
    if unset:
        sock.values.pop((level, name), None)
    else:
        sock.values[level, name] = value
    return opt.native


def _low_water(sock: Socket, value: int) -> int:
    """SO_RCVLOWAT as Linux keeps it: one at least, all that an int holds where it is negative, half a TCP's buffer."""
    most = INT_MAX
    if isinstance(sock, StreamSocket):
        most = (sock.values.get((SOL_SOCKET, SO_RCVBUF)) or sock.hub.stack.sysctl.tcp_rmem[2]) >> 1
    return min(value if value >= 0 else INT_MAX, most) or 1


def set_buffer(sock: Socket, name: int, value: int) -> None:
    """SO_SNDBUF and SO_RCVBUF: doubled and bounded as in Linux. The carrier's own buffers stay as they are."""
    field, least = BUFFERS[name]
    size = max(min((value & 0xFFFFFFFF) * 2, BUFFER_MAX), least)  # as unsigned: −1 asks for the most
    if isinstance(sock, StreamSocket):
        sock.set_option(field, size)
    elif isinstance(sock, DatagramSocket):
        setattr(sock.endpoint.options, field, size)
    sock.values[SOL_SOCKET, SO_SNDBUF if field == "sndbuf" else SO_RCVBUF] = size


def set_linger(sock: Socket, raw: bytes) -> None:
    """struct linger."""
    on, seconds = _TWO_INTS.unpack_from(raw)
    sock.values[SOL_SOCKET, SO_LINGER] = (int(on != 0), seconds)
    if isinstance(sock, StreamSocket):
        sock.set_option("linger", seconds if on else -1)


def set_timeval(sock: Socket, name: int, raw: bytes) -> None:
    """struct timeval of SO_RCVTIMEO and SO_SNDTIMEO; zero waits for ever, EDOM for microseconds that are none."""
    seconds, micros = _TIMEVAL.unpack_from(raw)
    if not 0 <= micros < 1_000_000:
        raise StackError(errno.EDOM, f"{micros} µs")
    value = max(seconds, 0) + (micros / 1e6 if seconds >= 0 else 0)
    key = (SOL_SOCKET, TIMEVALS[name])
    if value or seconds < 0:
        sock.values[key] = value
    else:
        sock.values.pop(key, None)


def set_max_pacing_rate(sock: Socket, raw: bytes) -> None:
    """SO_MAX_PACING_RATE in bytes a second, as an unsigned int or, with eight bytes, an unsigned long; ~0 lifts it."""
    rate = int.from_bytes(raw[:8] if len(raw) >= 8 else raw[:4], "little")
    if len(raw) < 8 and rate == 2**32 - 1:
        rate = NO_LIMIT
    if isinstance(sock, StreamSocket):
        sock.set_option("max_pacing_rate", 0 if rate == NO_LIMIT else rate)
    sock.values[SO_MAX_PACING_RATE] = rate


def get_int(sock: Socket, level: int, name: int) -> int:
    """An int option's value."""
    special = _SPECIAL.get((level, name))
    if special is not None:
        return special(sock)
    opt = _known(sock, level, name)
    if isinstance(sock, StreamSocket) and name == 2 and level == SOL_TCP and sock.conn is not None:
        return int(sock.conn.info(sock.hub.now()).snd_mss)
    value: int | None = sock.values.get((level, name))
    if value is not None:
        return value
    if opt.sysctl:
        return int(getattr(sock.hub.stack.sysctl, opt.sysctl))
    return 0 if opt.default == -1 and opt.field == "tos" else opt.default


def check_fast_open(sock: StreamSocket, field: str) -> None:
    """TCP_FASTOPEN and TCP_FASTOPEN_CONNECT, only before there is a connection. Raises StackError."""
    client = field == "fastopen_connect"
    if client and not sock.hub.stack.sysctl.tcp_fastopen & TFO_CLIENT:
        raise StackError(errno.EOPNOTSUPP, "tcp_fastopen says no")
    if sock.phase != FRESH and (client or sock.phase != LISTENING):
        raise StackError(errno.EINVAL, "too late")


def _accepting(sock: Socket) -> int:
    return int(isinstance(sock, StreamSocket) and sock.phase == LISTENING)


def _buffer(name: int) -> Callable[[Socket], int]:
    def read(sock: Socket) -> int:
        value: int | None = sock.values.get((SOL_SOCKET, name))
        if value is not None:
            return value
        sysctl = sock.hub.stack.sysctl
        if not isinstance(sock, StreamSocket):
            return int(sysctl.rmem_default)
        return int((sysctl.tcp_wmem if name == SO_SNDBUF else sysctl.tcp_rmem)[1])

    return read


def _mtu(sock: Socket) -> int:
    remote = sock.remote_address()
    if remote is None:
        raise StackError(errno.ENOTCONN, "not connected")
    return int(sock.hub.stack.route(remote[0]).mtu)


_SPECIAL: dict[Key, Callable[[Socket], int]] = {
    (SOL_SOCKET, SO_TYPE): lambda sock: sock.kind,
    (SOL_SOCKET, 30): _accepting,
    (SOL_SOCKET, 38): lambda sock: sock.proto,
    (SOL_SOCKET, 39): lambda sock: 10 if sock.v6 else 2,
    TCP_IS_MPTCP: lambda sock: int(isinstance(sock, StreamSocket) and sock.speaks_mptcp),
    (SOL_SOCKET, SO_SNDBUF): _buffer(SO_SNDBUF),
    (SOL_SOCKET, SO_RCVBUF): _buffer(SO_RCVBUF),
    (SOL_IP, 14): _mtu,
    (SOL_IPV6, 24): _mtu,
}


def get_blob(sock: Socket, level: int, name: int, room: int) -> bytes | None:
    """The value of an option that is not an int, None if it is one. `room` is what the program has for it."""
    if level == SOL_SOCKET:
        if name in TIMEVALS:
            seconds = timeout(sock, TIMEVALS[name]) or 0.0
            return _TIMEVAL.pack(int(seconds), round(seconds % 1 * 1e6))
        if name == SO_LINGER:
            return _TWO_INTS.pack(*sock.values.get((SOL_SOCKET, SO_LINGER), (0, 0)))
        if name == 17:  # SO_PEERCRED of an INET socket
            return _UCRED.pack(0, -1, -1)
        if name == 28:  # SO_PEERNAME
            remote = sock.remote_address()
            if remote is None:
                raise StackError(errno.ENOTCONN, "not connected")
            return sockaddr.encode(remote, sock.v6)
        if name == SO_MAX_PACING_RATE[1]:
            rate = max_pacing_rate(sock)
            return rate.to_bytes(8, "little") if room >= 8 else min(rate, 2**32 - 1).to_bytes(4, "little")
        if name == SO_TIMESTAMPING[1]:
            return bytes(sock.values.get(SO_TIMESTAMPING, bytes(8)))
        if name == 57:  # SO_COOKIE
            return int(sock.name[8:-1]).to_bytes(8, "little")
        if name == SO_BINDTODEVICE[1]:
            return bytes(sock.values.get(SO_BINDTODEVICE, b""))
    found = get_group_option(sock, level, name)
    if found is None:
        found = get_raw_option(sock, level, name)
    if found is not None:
        return found
    if isinstance(sock, StreamSocket):
        if level == SOL_TCP and name in (TCP_NUSE_OPTIONS, TCP_NUSE_SAVED, TCP_NUSE_STACK):
            return get_extra(sock, name)
        if (level, name) == TCP_CONGESTION:
            chosen = sock.options.congestion or sock.hub.stack.sysctl.tcp_congestion_control
            return str(chosen).encode().ljust(16, b"\0")
        if (level, name) == TCP_INFO:
            return pack_tcp_info(sock)
        if (level, name) == TCP_SAVED_SYN:
            return sock.take_saved_syn()
        if (level, name) == TCP_ULP:
            return b"mptcp".ljust(16, b"\0") if sock.speaks_mptcp else b""
        if (level, name) == TCP_CC_INFO:
            return pack_cc_info(sock)
        if (level, name) == TCP_FASTOPEN_KEY:  # no key of its own
            return b""
    return None


def set_blob(sock: Socket, level: int, name: int, raw: bytes) -> bool:
    """Set an option that is not an int; False if it is one."""
    if level == SOL_SOCKET and name in TIMEVALS:
        if len(raw) < _TIMEVAL.size:
            raise StackError(errno.EINVAL, "short timeval")
        set_timeval(sock, name, raw)
    elif (level, name) == (SOL_SOCKET, SO_LINGER):
        if len(raw) < _TWO_INTS.size:
            raise StackError(errno.EINVAL, "short linger")
        set_linger(sock, raw)
    elif (level, name) == SO_TIMESTAMPING:
        if len(raw) < 4:
            raise StackError(errno.EINVAL, "short value")
        sock.values[level, name] = raw[:8].ljust(8, b"\0")
    elif (level, name) == SO_MAX_PACING_RATE:
        set_max_pacing_rate(sock, raw)
    elif (level, name) == SO_BINDTODEVICE:
        bind_to_device(sock, raw)
    elif set_group_option(sock, level, name, raw) or set_raw_option(sock, level, name, raw):
        return True
    elif (level, name) == TCP_CONGESTION and isinstance(sock, StreamSocket):
        if not raw:
            raise StackError(errno.EINVAL, "no name")
        algorithm = raw.split(b"\0")[0].decode(errors="replace")
        if algorithm not in CONGESTION_CONTROLS:
            raise StackError(errno.ENOENT, f"no congestion control {algorithm!r}")
        sock.set_option("congestion", algorithm)
    elif level == SOL_TCP and name in (TCP_NUSE_OPTIONS, TCP_NUSE_SAVED) and isinstance(sock, StreamSocket):
        set_extra(sock, name, raw)
    elif (level, name) == TCP_ULP:  # no kernel TLS here
        raise StackError(errno.ENOENT, "no such upper layer protocol")
    elif (level, name) not in IGNORED_BLOBS:
        return False
    return True


def int_of(raw: bytes) -> int:
    """The int in an option's bytes; a single byte is taken too, as Linux's IP options do."""
    return int(_INT.unpack_from(raw)[0]) if len(raw) >= 4 else raw[0] if raw else 0
