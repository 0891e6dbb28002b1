"""Options of a Multipath TCP connection: what is its own, what is each subflow's, and what TCP does not have."""

import errno
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING

from mptcp.sched import make_scheduler
from mptcp.sched.base import Scheduler
from stack.errors import StackError
from stack.tcp.cc import find_congestion_control
from stack.tcp.options import OptionValue, TcpOptions, check_option

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn
    from mptcp.subflow import Subflow

PER_SUBFLOW = frozenset(("extra", "save_options"))  # options that need the place Multipath TCP has taken
OWN = frozenset(("nodelay", "cork", "sndbuf", "rcvbuf", "linger", "notsent_lowat"))  # … and that are the connection's
MAX_WEIGHT = 1000


@dataclass(slots=True, eq=False)
class MptcpOptions(TcpOptions):
    """TcpOptions, and who chooses among the subflows. To a connection of plain TCP they are TcpOptions."""

    scheduler: str = ""  # empty: as net.mptcp.scheduler says

    def copy(self) -> "MptcpOptions":
        """For a connection made from a listener."""
        return MptcpOptions(*_all_values(self))


_all_values = attrgetter(*(each.name for each in fields(MptcpOptions)))


def scheduler_for(options: TcpOptions | None, default: str) -> Scheduler:
    """What a connection with `options` begins with. Raises StackError ENOENT."""
    return make_scheduler((options.scheduler if isinstance(options, MptcpOptions) else "") or default)


def set_option(meta: "MptcpConn", name: str, value: OptionValue) -> None:
    """See MptcpConn.set_option."""
    check_option(name, value)
    if name in PER_SUBFLOW:
        raise StackError(errno.EOPNOTSUPP, "Multipath TCP has this connection's options")
    if name == "congestion":  # there may be no subflow just now that would refuse it
        find_congestion_control(str(value))
    for sub in meta.subflows:
        if name not in OWN or sub.plain:
            sub.conn.set_option(name, value)
    setattr(meta.options, name, value)
    if name == "rcvbuf":
        meta.rx.buffer.auto = False
        meta.rx.buffer.size = min(max(meta.options.rcvbuf, 2304), meta.rx.buffer.limit)
        meta.window_moved()
    meta.wake_subflows()


def set_weight(meta: "MptcpConn", sub: "Subflow", weight: int) -> None:
    """See MptcpConn.set_weight."""
    if not 1 <= weight <= MAX_WEIGHT:
        raise StackError(errno.EINVAL, f"weight {weight} is outside 1..{MAX_WEIGHT}")
    sub.weight = meta.weights[sub.conn.local[0], sub.conn.remote[0]] = weight
    meta.say(f"weight of subflow {sub.id} is {weight}")
    meta.wake_subflows()


def subflow_options(meta: "MptcpConn") -> TcpOptions:
    """For one more subflow: Nagle and buffers are the connection's own affair."""
    options = meta.options.copy()
    options.nodelay, options.cork, options.linger, options.notsent_lowat = True, False, -1, 0
    options.sndbuf = 1 << 30
    options.rcvbuf = max(meta.rx.buffer.limit, meta.options.rcvbuf)
    options.extra, options.save_options, options.fastopen_connect = (), False, False
    return options
