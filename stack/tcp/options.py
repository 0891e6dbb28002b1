"""What a program may set on a TCP socket: the TCP_*, SO_* and IP_* options that the connection itself obeys."""

import errno
from dataclasses import dataclass, fields
from operator import attrgetter

from stack.errors import StackError

ON_SYN, ON_SYN_ACK, ON_DATA, ON_ACK = 1, 2, 4, 8  # which segments carry an extra option


@dataclass(slots=True, frozen=True)
class ExtraOption:
    """An option of the program's own: `data` behind kind and length, on the segments that `where` names."""

    where: int
    kind: int
    data: bytes


@dataclass(slots=True, eq=False)
class TcpOptions:
    """Values as setsockopt takes them; −1 or 0 means "as the sysctl says". A listener's children copy it."""

    nodelay: bool = False
    cork: bool = False
    quickack: bool = True
    oobinline: bool = False
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
    max_pacing_rate: int = 0  # bytes a second; 0: none
    tos: int = 0
    ttl: int = 0
    syncnt: int = 0
    notsent_lowat: int = 0
    window_clamp: int = 0
    defer_accept: int = 0
    fastopen: int = 0  # of a listener: how many may be accepted on their SYN; 0: none
    fastopen_connect: bool = False  # connect() waits for text to put into the SYN
    save_syn: int = 0  # of a listener: its connections keep the IP and TCP headers of their SYN
    v6only: bool = False
    congestion: str = ""
    extra: tuple[ExtraOption, ...] = ()
    save_options: bool = False  # keep the unknown options of received segments for the program

    def copy(self) -> "TcpOptions":
        """For a connection made from a listener."""
        return TcpOptions(*_all_values(self))  # a third of what dataclasses.replace takes


_all_values = attrgetter(*(each.name for each in fields(TcpOptions)))

_RANGES = {
    "keepidle": (1, 32767),
    "keepintvl": (1, 32767),
    "keepcnt": (1, 127),
    "syncnt": (1, 127),
    "maxseg": (88, 32767),
    "user_timeout_ms": (0, 2**31 - 1),
    "max_pacing_rate": (0, 2**64 - 1),
    "tos": (0, 255),
    "ttl": (1, 255),
}


OptionValue = int | bool | str | tuple[ExtraOption, ...]
EXTRA_ROOM = 28  # forty bytes less timestamps


def check_option(name: str, value: OptionValue) -> None:
    """Raise StackError(EINVAL) for a value that Linux refuses, ENOPROTOOPT for a name that is none."""
    if name not in TcpOptions.__dataclass_fields__:
        raise StackError(errno.ENOPROTOOPT, f"no TCP option {name!r}")
    if isinstance(value, tuple):
        for each in value:
            if each.kind < 2 or not each.where or not 0 <= len(each.data) <= EXTRA_ROOM - 2:
                raise StackError(errno.EINVAL, f"option kind {each.kind} with {len(each.data)} bytes cannot be sent")
        return
    low, high = _RANGES.get(name, (-(2**31), 2**31 - 1))
    if isinstance(value, int) and not low <= value <= high:
        raise StackError(errno.EINVAL, f"{name} {value} is outside {low}..{high}")
