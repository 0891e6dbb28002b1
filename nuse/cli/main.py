"""From argv to a command."""

import argparse
import sys
from collections.abc import Callable

from nuse.cli.common import guarded
from nuse.cli.parser import build_parser

Command = Callable[[argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    """Entry of the `nuse` command. Returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    command: list[str] = []
    if words[:1] == ["run"] and "--" in words:
        cut = words.index("--")
        words, command = words[:cut], words[cut + 1 :]
    args = build_parser().parse_args(words)
    if command:
        args.command += command
    return guarded(lambda: _command(args.verb)(args))


def _command(verb: str) -> Command:
    """The function behind a word; imported now, for a fast start."""
    if verb in ("up", "down", "run"):
        from nuse.cli import up

        return {"up": up.up, "down": up.down, "run": up.run}[verb]
    if verb == "demo":
        from nuse.demo import demo

        return demo
    if verb == "mptcp":
        from nuse.cli.mptcp import mptcp

        return mptcp
    from nuse.cli import look

    return look.COMMANDS[verb]
