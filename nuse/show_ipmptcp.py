"""Lines as `ip mptcp` prints them, from what the debug socket says. Pure: rows in, text out."""

from collections.abc import Iterable, Mapping
from typing import Any

from mptcp.pm.endpoint import FLAG_NAMES
from mptcp.pm.events import PREFIX

Row = Mapping[str, Any]

_NOT_FIELDS = ("t", "event")

HELP = """\
Usage:  nuse mptcp endpoint add ADDRESS [ dev NAME ] [ id ID ]
                                [ port NR ] [ FLAG-LIST ]
        nuse mptcp endpoint delete id ID [ ADDRESS ]
        nuse mptcp endpoint change [ id ID ] [ ADDRESS ] [ port NR ] CHANGE-OPT
        nuse mptcp endpoint show [ id ID ]
        nuse mptcp endpoint flush
        nuse mptcp limits set [ subflows NR ] [ add_addr_accepted NR ]
        nuse mptcp limits show
        nuse mptcp monitor
        nuse mptcp scheduler CONN [ NAME ]
        nuse mptcp cc CONN [ NAME ]
        nuse mptcp weight CONN [ SUBFLOW N ]
FLAG-LIST := [ FLAG-LIST ] FLAG
FLAG  := [ signal | subflow | backup | fullmesh ]
CHANGE-OPT := [ backup | nobackup | fullmesh | nofullmesh ]
CONN := an id of `nuse ss -Me`, or an ADDRESS:PORT that only one connection has"""


def endpoint_lines(rows: Iterable[Row]) -> list[str]:
    """`ip mptcp endpoint show`."""
    lines = []
    for row in rows:
        words = [row["address"]]
        if "port" in row:
            words += ["port", str(row["port"])]
        words += ["id", str(row["id"]), *(name for name in FLAG_NAMES if name in row)]
        if "dev" in row:
            words += ["dev", row["dev"]]
        lines.append(" ".join(words))
    return lines


def limits_line(row: Row) -> str:
    """`ip mptcp limits show`."""
    return " ".join(f"{name} {value}" for name, value in row.items())


def monitor_line(event: Row) -> str | None:
    """A line of `ip mptcp monitor`; None for an event that is not of MPTCP's path management."""
    name = str(event["event"])
    if not name.startswith(PREFIX):
        return None
    kind = name.removeprefix(PREFIX).upper().replace("-", "_")
    fields = (f"{key}={value}" for key, value in event.items() if key not in _NOT_FIELDS)
    return " ".join([f"[{kind:>14}]", *fields])
