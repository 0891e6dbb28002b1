"""A connection's scheduler, congestion control and weights, read and changed from outside while it runs.

    scheduler CONN [NAME] | cc CONN [NAME] | weight CONN [SUBFLOW N]

CONN is what `explain` takes. `cc` holds for all of its subflows, and for plain TCP as well.
"""

import errno
from collections.abc import Sequence
from typing import Any

from mptcp.connection import MptcpConn
from mptcp.host import MptcpHost
from nuse.debugmptcp import conn_named
from stack.errors import StackError

CONN_USAGE = "mptcp scheduler CONN [NAME] | cc CONN [NAME] | weight CONN [SUBFLOW N]"
CONN_WORDS = ("scheduler", "cc", "weight")


def change_conn(stack: Any, host: MptcpHost, words: Sequence[str]) -> dict[str, Any]:
    """Obey `words`, of which the first is one of CONN_WORDS; what is so afterwards. Raises StackError."""
    what, name, args = words[0], words[1] if len(words) > 1 else "", words[2:]
    if not name or len(args) not in ((0, 2) if what == "weight" else (0, 1)):
        raise StackError(errno.EINVAL, f"usage: {CONN_USAGE}")
    conn = conn_named(stack, host, name)
    if what == "cc":
        return {"id": conn.id, "cc": _congestion(conn, args)}
    if not isinstance(conn, MptcpConn) or conn.fallback:
        raise StackError(errno.EOPNOTSUPP, f"connection {conn.id} is plain TCP")
    if what == "scheduler":
        if args:
            conn.set_scheduler(args[0])
        return {"id": conn.id, "scheduler": conn.scheduler.name}
    if args:
        subflow = next((sub for sub in conn.subflows if str(sub.id) == args[0] and sub.conn is not None), None)
        if subflow is None:
            ids = ", ".join(str(sub.id) for sub in conn.subflows)
            raise StackError(errno.ENOENT, f"no subflow {args[0]}; connection {conn.id} has {ids or 'none'}")
        if not (args[1].isascii() and args[1].isdigit()):
            raise StackError(errno.EINVAL, f"weight {args[1]!r} is no number")
        conn.set_weight(subflow, int(args[1]))
    return {"id": conn.id, "weights": {str(sub.id): sub.weight for sub in conn.subflows}}


def _congestion(conn: Any, args: Sequence[str]) -> str:
    """The first subflow's speaks for all: they differ where the sysctl changed before a later one came."""
    if args:
        conn.set_option("congestion", args[0])
    tcp = next((sub.conn for sub in conn.subflows if sub.conn), None) if isinstance(conn, MptcpConn) else conn
    return str(tcp.cc.name if tcp is not None else conn.options.congestion)


def change_lines(answer: dict[str, Any]) -> list[str]:
    """The answer as `nuse mptcp` prints it."""
    if "weights" in answer:
        return [f"subflow {ident} weight {weight}" for ident, weight in answer["weights"].items()]
    return [str(answer.get("scheduler") or answer["cc"])]
