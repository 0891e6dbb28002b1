"""What a program may set on a TCP socket: the TCP_*, SO_* and IP_* options that the connection itself obeys."""

import errno
from dataclasses import dataclass, replace

from stack.errors import StackError


@dataclass(slots=True, eq=False)
class TcpOptions:
    """Values as setsockopt takes them; −1 or 0 means "as the sysctl says". A listener's children copy it."""

    nodelay: bool = False
    cork: bool = False
    quickack: bool = True
    keepalive: bool = False
    keepidle: int = 0  # seconds; 0: sysctl
    keepintvl: int = 0
    keepcnt: int = 0
    user_timeout_ms: int = 0
    linger: int = -1  # seconds; −1: off
    linger2: int = 0  # seconds; 0: tcp_fin_timeout, below 0: none
    sndbuf: int = 0  # bytes; 0: autotuned
    rcvbuf: int = 0
    maxseg: int = 0
    tos: int = 0
    ttl: int = 0
    syncnt: int = 0
    notsent_lowat: int = 0
    window_clamp: int = 0
    defer_accept: int = 0
    v6only: bool = False
    congestion: str = ""

    def copy(self) -> "TcpOptions":
        """For a connection made from a listener."""
        return replace(self)


_RANGES = {
    "keepidle": (1, 32767),
    "keepintvl": (1, 32767),
    "keepcnt": (1, 127),
    "syncnt": (1, 127),
    "maxseg": (88, 32767),
    "user_timeout_ms": (0, 2**31 - 1),
    "tos": (0, 255),
    "ttl": (1, 255),
}


def check_option(name: str, value: int | bool | str) -> None:
    """Raise StackError(EINVAL) for a value that Linux refuses, ENOPROTOOPT for a name that is none."""
    if name not in TcpOptions.__dataclass_fields__:
        raise StackError(errno.ENOPROTOOPT, f"no TCP option {name!r}")
    low, high = _RANGES.get(name, (-(2**31), 2**31 - 1))
    if isinstance(value, int) and not low <= value <= high:
        raise StackError(errno.EINVAL, f"{name} {value} is outside {low}..{high}")
