"""ss, nstat, link, route, sysctl, debug: what a running stack says through its debug socket."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from nuse.cli.ask import client as _client
from nuse.cli.ask import state as _state
from nuse.debugclient import DebugClient
from nuse.refusal import Refused
from nuse.show import (
    choose_counters,
    counter_lines,
    link_json,
    link_lines,
    route_json,
    route_lines,
    sysctl_text,
)
from nuse.show_ss import SsOptions, parse_filter, select, ss_lines

LINK_SET = "up|down|mtu N|addr add|del ADDR/LENGTH|impair WORDS|impair clear"
ROUTE_VERBS = ("add", "del", "delete", "replace", "change")


def _print(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(line + "\n" for line in lines))


def _print_json(value: Any) -> None:
    _print([json.dumps(value)])


def ss(args: argparse.Namespace) -> int:
    """`nuse ss`."""
    options = SsOptions(**{f.name: getattr(args, f.name) for f in fields(SsOptions)})
    matches = parse_filter(args.filter)
    with _client(args) as client:
        rows = [*client.ask("listeners"), *client.ask("sockets"), *client.ask("conns"), *client.ask("mptcp")]
    chosen = select(rows, options, matches)
    if args.json:
        _print_json(chosen)
    else:
        _print(ss_lines(chosen, options))
    return 0


def explain(args: argparse.Namespace) -> int:
    """`nuse explain CONN`."""
    with _client(args) as client:
        found = client.ask("explain", args.conn)
    if args.json:
        _print_json(found)
    else:
        _print(found["lines"])
    return 0


def nstat(args: argparse.Namespace) -> int:
    """`nuse nstat`: what grew since the last time, or with -a since the start."""
    state = _state(args)
    with DebugClient(state.debug_sock) as client:
        counters: dict[str, int] = client.ask("counters")
    history = state.path / "nstat.history"
    since: dict[str, int] = {}
    if not args.ignore:
        if history.exists():
            since = json.loads(history.read_text())
        history.write_text(json.dumps(counters))
    chosen = choose_counters(counters, since=since, zeros=args.zeros, patterns=args.patterns)
    if args.json:
        _print_json({"kernel": chosen})
    else:
        _print(counter_lines(chosen))
    return 0


def link(args: argparse.Namespace) -> int:
    """`nuse link [show [LINK]]` and `nuse link set LINK …`."""
    words = args.words or ["show"]
    if words[0] == "set":
        if len(words) < 3 or words[2] not in ("up", "down", "mtu", "addr", "impair"):
            raise Refused(f"usage: nuse link set LINK {LINK_SET}")
        with _client(args) as client:
            client.ask("link", *words[1:])
        return 0
    if words[0] != "show" or len(words) > 2:
        raise Refused(f"usage: nuse link [show [LINK]] | nuse link set LINK {LINK_SET}")
    with _client(args) as client:
        links = client.ask("links") if len(words) == 1 else [client.ask("link", words[1])]
    if args.json:
        _print_json([link_json(row) for row in links])
    else:
        _print(link_lines(links, stats=args.stats))
    return 0


def route(args: argparse.Namespace) -> int:
    """`nuse route [show]` and `nuse route add|del|replace …`."""
    words = args.words or ["show"]
    if words[0] not in ("show", "list", *ROUTE_VERBS) or (words[0] in ("show", "list") and len(words) > 1):
        from nuse.netcmd import ROUTE_USAGE  # which brings the stack with it

        raise Refused(f"usage: nuse route [show] | nuse {ROUTE_USAGE}")
    with _client(args) as client:
        if words[0] in ROUTE_VERBS:
            client.ask("route", *words)
            return 0
        routes = client.ask("routes")
    if args.json:
        _print_json([route_json(row) for row in routes])
    else:
        _print(route_lines(routes))
    return 0


def sysctl(args: argparse.Namespace) -> int:
    """`nuse sysctl`: -a, names, and name=value."""
    if not args.words and not args.all:
        raise Refused("usage: nuse sysctl -a | NAME… | NAME=VALUE…")
    found: dict[str, Any] = {}
    with _client(args) as client:
        if args.all:
            found = client.ask("sysctl")
        for word in args.words:
            name, equals, value = (part.strip() for part in word.partition("="))
            if equals and not value:
                raise Refused(f"sysctl {word}: a value is missing")
            if args.write and not equals:
                raise Refused(f"sysctl -w {word}: wants NAME=VALUE")
            found |= client.ask("sysctl", name, *value.split())
    if args.json:
        _print_json(found)
    else:
        _print(sysctl_text(v) if args.values else f"{name} = {sysctl_text(v)}" for name, v in found.items())
    return 0


def debug(args: argparse.Namespace) -> int:
    """`nuse debug WORDS…`: the answer as JSON, for reading; a stream goes on until interrupted."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    with _client(args) as client:
        if not words:
            rows = client.ask("help")
            width = max(len(row["usage"]) for row in rows)
            _print(f"{row['usage']:<{width}}  {row['does']}" for row in rows)
        elif words[0] == "subscribe":
            for event in client.lines(*words):
                _print_json(event)
                sys.stdout.flush()
        else:
            _print([json.dumps(client.ask(*words), indent=2 if sys.stdout.isatty() else None)])
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "ss": ss,
    "explain": explain,
    "nstat": nstat,
    "link": link,
    "route": route,
    "sysctl": sysctl,
    "debug": debug,
}
