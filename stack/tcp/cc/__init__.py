"""Congestion controls by name. A new one is a class in a file here and a line in this dict, or a call of `register`."""

import errno

from stack.config import CC_NAMES
from stack.errors import StackError
from stack.tcp.cc.base import CongestionControl
from stack.tcp.cc.bbr import Bbr
from stack.tcp.cc.cubic import Cubic
from stack.tcp.cc.dctcp import Dctcp
from stack.tcp.cc.reno import Reno
from stack.units import Nanos

CONGESTION_CONTROLS: dict[str, type[CongestionControl]] = {"cubic": Cubic, "reno": Reno, "bbr": Bbr, "dctcp": Dctcp}


def register(kind: type[CongestionControl]) -> None:
    """Let sysctls and programs name `kind`. Stacks made before do not allow it to programs: as with Linux's modules."""
    CONGESTION_CONTROLS[kind.name] = kind
    if kind.name not in CC_NAMES:
        CC_NAMES.append(kind.name)


def unregister(kind: type[CongestionControl]) -> None:
    """It is not to be had any more; connections that use it keep it."""
    CONGESTION_CONTROLS.pop(kind.name, None)
    if kind.name in CC_NAMES:
        CC_NAMES.remove(kind.name)


def find_congestion_control(name: str) -> type[CongestionControl]:
    """Its class. Raises StackError(ENOENT) for an unknown name, as setsockopt(TCP_CONGESTION) does."""
    found = CONGESTION_CONTROLS.get(name)
    if found is None:
        raise StackError(errno.ENOENT, f"no congestion control {name!r}")
    return found


def make_congestion_control(name: str, mss: int, now: Nanos) -> CongestionControl:
    """A fresh instance. Raises StackError(ENOENT) likewise."""
    return find_congestion_control(name)(mss, now)
