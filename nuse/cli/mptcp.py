"""`nuse mptcp endpoint|limits|monitor`, what `ip mptcp` is for the kernel; and scheduler|cc|weight of a connection."""

import argparse
import json
import sys
from typing import Any

from nuse.cli.ask import client
from nuse.debugclient import DebugClient
from nuse.mptcpset import CONN_WORDS, change_lines
from nuse.refusal import Refused
from nuse.show_ipmptcp import HELP, endpoint_lines, limits_line, monitor_line


def mptcp(args: argparse.Namespace) -> int:
    """Words as in `ip mptcp`; `show` is what nothing means."""
    words = args.words or ["help"]
    if words[0] == "help":
        print(HELP)
        return 0
    if words[0] not in ("endpoint", "endpoints", "limits", "monitor", *CONN_WORDS):
        raise Refused(f'"mptcp {words[0]}" is unknown, try "nuse mptcp help"')
    with client(args) as stack:
        if words[0] == "monitor":
            return _monitor(stack, args.json)
        answer = stack.ask("mptcp", *words)
    if len(words) > 2 if words[0] in CONN_WORDS else len(words) > 1 and words[1] not in ("show", "list"):
        return 0  # it was a change
    if args.json:
        print(json.dumps(answer))
    else:
        for line in _lines(words[0], answer):
            print(line)
    return 0


def _lines(what: str, answer: Any) -> list[str]:
    if what in CONN_WORDS:
        return change_lines(answer)
    return [limits_line(answer)] if what == "limits" else endpoint_lines(answer)


def _monitor(stack: DebugClient, as_json: bool) -> int:
    """Events as they happen, until interrupted."""
    for event in stack.lines("subscribe", "events"):
        line = monitor_line(event) if "event" in event else None
        if line is not None:
            print(json.dumps(event) if as_json else line)
            sys.stdout.flush()
    return 0
