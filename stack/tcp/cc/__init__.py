"""Congestion controls by name. A new one is a class in a file here and a line in this dict."""

import errno

from stack.errors import StackError
from stack.tcp.cc.base import CongestionControl
from stack.tcp.cc.bbr import Bbr
from stack.tcp.cc.cubic import Cubic
from stack.tcp.cc.dctcp import Dctcp
from stack.tcp.cc.reno import Reno
from stack.units import Nanos

CONGESTION_CONTROLS: dict[str, type[CongestionControl]] = {"cubic": Cubic, "reno": Reno, "bbr": Bbr, "dctcp": Dctcp}


def make_congestion_control(name: str, mss: int, now: Nanos) -> CongestionControl:
    """A fresh instance. Raises StackError(ENOENT) for an unknown name, as setsockopt(TCP_CONGESTION) does."""
    found = CONGESTION_CONTROLS.get(name)
    if found is None:
        raise StackError(errno.ENOENT, f"no congestion control {name!r}")
    return found(mss, now)
