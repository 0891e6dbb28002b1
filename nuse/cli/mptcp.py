"""`nuse mptcp endpoint|limits|monitor`: what `ip mptcp` is for the kernel."""

import argparse
import json
import sys

from nuse.cli.ask import client
from nuse.debugclient import DebugClient
from nuse.refusal import Refused
from nuse.show_ipmptcp import HELP, endpoint_lines, limits_line, monitor_line


def mptcp(args: argparse.Namespace) -> int:
    """Words as in `ip mptcp`; `show` is what nothing means."""
    words = args.words or ["help"]
    if words[0] == "help":
        print(HELP)
        return 0
    if words[0] not in ("endpoint", "endpoints", "limits", "monitor"):
        raise Refused(f'"mptcp {words[0]}" is unknown, try "nuse mptcp help"')
    with client(args) as stack:
        if words[0] == "monitor":
            return _monitor(stack, args.json)
        answer = stack.ask("mptcp", *words)
    if len(words) > 1 and words[1] not in ("show", "list"):
        return 0
    if args.json:
        print(json.dumps(answer))
    elif words[0] == "limits":
        print(limits_line(answer))
    else:
        for line in endpoint_lines(answer):
            print(line)
    return 0


def _monitor(stack: DebugClient, as_json: bool) -> int:
    """Events as they happen, until interrupted."""
    for event in stack.lines("subscribe", "events"):
        line = monitor_line(event) if "event" in event else None
        if line is not None:
            print(json.dumps(event) if as_json else line)
            sys.stdout.flush()
    return 0
