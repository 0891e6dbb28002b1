"""What all commands share: how errors end them, the options that describe a stack, a table."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from nuse.config import (
    DEFAULT_NAME,
    Config,
    ConfigError,
    check_mptcp,
    check_name,
    load_toml,
    parse_link_spec,
    set_cc,
    set_sysctl_word,
)
from nuse.refusal import EXIT_REFUSED, Refused


def say(line: str) -> None:
    """One line on stderr, in nuse's name."""
    sys.stderr.write(f"nuse: {line}\n")
    sys.stderr.flush()


def guarded(command: Callable[[], int]) -> int:
    """Run a command; what refuses becomes one line and exit status 2."""
    try:
        status = command()
        sys.stdout.flush()
    except (ConfigError, Refused) as exc:
        say(str(exc))
        return EXIT_REFUSED
    except BrokenPipeError:  # `nuse ss | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are nuse's one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        say(f"{message} (see `{self.prog} --help`)")
        raise SystemExit(EXIT_REFUSED)


def add_name(parser: argparse.ArgumentParser, help_: str = "which stack") -> None:
    """--name N."""
    parser.add_argument("--name", metavar="N", help=f"{help_} (default: {DEFAULT_NAME})")


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """The options that describe a stack to be."""
    parser.add_argument("-c", "--config", metavar="FILE", help="read nuse.toml")
    parser.add_argument(
        "--link", metavar="SPEC", action="append", default=[], help="a link: tun0,stack=ADDR/LEN,host=ADDR/LEN,mtu=N,…"
    )
    parser.add_argument("--sysctl", metavar="K=V", action="append", default=[], help="set a sysctl before it starts")
    parser.add_argument("--cc", metavar="NAME", help="congestion control of new connections")
    parser.add_argument("--no-offload", action="store_true", help="one packet at a time, checksums in Python")
    parser.add_argument(
        "--impair",
        metavar="WORDS",
        action="append",
        default=[],
        help="worsen the links, or one: '[tun0] delay 20ms rate 50mbit loss 1%%'",
    )


def describes_stack(args: argparse.Namespace) -> bool:
    """Whether any option of add_stack_options was given but --cc, which a program may have for its own sockets."""
    return bool(args.config or args.link or args.sysctl or args.no_offload or args.impair)


def config_from(args: argparse.Namespace) -> Config:
    """The configuration that options and file describe; options win. Raises ConfigError."""
    config = load_toml(args.config) if getattr(args, "config", None) else Config()
    if args.name:
        config.name = check_name(args.name)
    if args.link:
        config.links = [parse_link_spec(text) for text in args.link]
    for word in getattr(args, "sysctl", ()):
        set_sysctl_word(config, word)
    if getattr(args, "cc", None):
        set_cc(config, args.cc)
    if getattr(args, "no_offload", False):
        config.offload = False
    if getattr(args, "mptcp", None):
        config.mptcp = check_mptcp(args.mptcp)
    config.impair = getattr(args, "impair", [])
    config.check()
    return config


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows as lines with aligned columns; those in `right` flush right, the last one never padded."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        " ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


__all__ = ["DEFAULT_NAME", "Parser", "add_name", "add_stack_options", "config_from", "guarded", "say", "table"]
