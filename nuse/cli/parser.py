"""The grammar of the command line."""

import argparse
from typing import Any

from nuse.cli.common import Parser, add_name, add_stack_options
from nuse.config import LOOPBACK_OWNERS, NETNS_MODES

EPILOG = """examples:
  nuse demo                                  see it work, leave no trace
  sudo nuse up --detach                      a stack on tun0; then, as often as you like:
  sudo nuse run -- curl https://example.org  an unmodified program on it
  nuse ss -ti                                what its TCP is doing
  nuse link set tun0 impair delay 20ms loss 1%
  nuse down
"""


class _Version(argparse.Action):
    """Says the version that is installed. Looked up when asked: that takes as long as all else that a command needs."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"nuse {version('nuse')}")
        except PackageNotFoundError:
            print("nuse (not installed)")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """All commands."""
    parser = Parser(
        prog="nuse",
        description="A TCP/IP stack in a user process, for unmodified programs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and end")
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True, parser_class=Parser)
    _life(commands)
    _look(commands)
    return parser


def _life(commands: "argparse._SubParsersAction[Parser]") -> None:
    up = commands.add_parser("up", help="bring up links and namespace, run the stack")
    add_name(up, "what to call it")
    add_stack_options(up)
    up.add_argument("--detach", action="store_true", help="return once it is ready")

    down = commands.add_parser("down", help="end a stack and remove what it made")
    add_name(down)

    run = commands.add_parser("run", help="run a command on a stack", usage="nuse run [options] [--] CMD…")
    add_name(run)
    add_stack_options(run)
    run.add_argument(
        "--mptcp",
        metavar="MODE",
        nargs="?",
        const="on",
        help="make CMD's TCP sockets MPTCP's; MODE auto: as nuse.mptcp_upgrade says, off: none, not even if asked",
    )
    run.add_argument("--no-mptcp", dest="mptcp", action="store_const", const="off", help="the same as --mptcp=off")
    run.add_argument("--mptcp-scheduler", metavar="NAME", help="scheduler of CMD's MPTCP sockets")
    run.add_argument(
        "--rule",
        metavar="WORDS",
        action="append",
        default=[],
        help="which sockets are whose: '(stack|kernel|mptcp|tcp) [tcp|udp] [program NAME] [to|listen PREFIX] [port N]'",
    )
    run.add_argument("--loopback", choices=LOOPBACK_OWNERS, help="who has CMD's 127.0.0.0/8 and ::1")
    run.add_argument("--netns", choices=NETNS_MODES, help="where CMD runs: in the stack's namespace, or here")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD", help="the command and its arguments")

    demo = commands.add_parser("demo", help="curl and a web server over a stack of their own")
    demo.add_argument("--size", metavar="MB", type=int, default=100, help="how much to download (default: 100)")
    demo.add_argument("--no-offload", action="store_true", help="one packet at a time, checksums in Python")


def _look(commands: "argparse._SubParsersAction[Parser]") -> None:
    ss = commands.add_parser("ss", help="sockets, as ss(8) shows them", add_help=False)
    ss.add_argument("--help", action="help", help="show this")
    add_name(ss)
    for letter, word, help_ in (
        ("t", "tcp", "TCP sockets"),
        ("u", "udp", "UDP sockets"),
        ("w", "raw", "raw sockets"),
        ("M", "mptcp", "MPTCP sockets"),
        ("x", "unix", "Unix sockets: a stack has none"),
        ("l", "listening", "listening sockets only"),
        ("a", "all", "listening and others"),
        ("n", "numeric", "ports as numbers"),
        ("i", "info", "TCP's inner figures"),
        ("o", "options", "timers"),
        ("e", "extended", "who holds the socket, and its number"),
        ("O", "oneline", "one line a socket"),
        ("H", "no-header", "no header line"),
        ("j", "json", "JSON"),
        ("4", "ipv4", "IPv4 only"),
        ("6", "ipv6", "IPv6 only"),
    ):
        ss.add_argument(f"-{letter}", f"--{word}", action="store_true", help=help_)
    ss.add_argument(
        "filter", nargs="*", metavar="FILTER", help="state NAME; sport, dport, src, dst as in `dport = :80`"
    )

    explain = commands.add_parser("explain", help="one connection in words: its paths, and why they are what they are")
    add_name(explain)
    explain.add_argument("-j", "--json", action="store_true", help="JSON")
    explain.add_argument("conn", metavar="CONN", help="its id in `nuse ss -e`, or one of its ADDRESS:PORTs")

    nstat = commands.add_parser("nstat", help="counters, as nstat(8) shows them")
    add_name(nstat)
    nstat.add_argument("-a", "--ignore", action="store_true", help="absolute values (always so)")
    nstat.add_argument("-z", "--zeros", action="store_true", help="also those that are zero")
    nstat.add_argument("-j", "--json", action="store_true", help="JSON")
    nstat.add_argument("patterns", nargs="*", metavar="PATTERN", help="only these, as in 'TcpExt*'")

    link = commands.add_parser("link", help="links: show, set up, down, MTU, addresses, impair")
    add_name(link)
    link.add_argument("-s", "--stats", action="store_true", help="with counters")
    link.add_argument("-j", "--json", action="store_true", help="JSON")
    link.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="show [LINK] | set LINK up|down|mtu N|addr add|del ADDR/LENGTH|impair WORDS|impair clear",
    )

    route = commands.add_parser("route", help="the stack's routes: show, add, del, replace, as in `ip route`")
    add_name(route)
    route.add_argument("-j", "--json", action="store_true", help="JSON")
    route.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="add|del|replace [TYPE] PREFIX|default [via ADDR] [dev LINK] [src ADDR] [metric N] [mtu N] [advmss N]",
    )

    mptcp = commands.add_parser(
        "mptcp", help="MPTCP's endpoints, limits and events as in `ip mptcp`; scheduler, cc and weights of a connection"
    )
    add_name(mptcp)
    mptcp.add_argument("-j", "--json", action="store_true", help="JSON")
    mptcp.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="endpoint …, limits …, monitor, scheduler CONN [NAME], cc CONN [NAME], weight CONN [SUBFLOW N], or help",
    )

    sysctl = commands.add_parser("sysctl", help="read or set the stack's sysctls")
    add_name(sysctl)
    sysctl.add_argument("-a", "--all", action="store_true", help="all of them")
    sysctl.add_argument("-w", "--write", action="store_true", help="set (name=value does so anyway)")
    sysctl.add_argument("-n", "--values", action="store_true", help="values only")
    sysctl.add_argument("-j", "--json", action="store_true", help="JSON")
    sysctl.add_argument("words", nargs="*", metavar="NAME[=VALUE]")

    debug = commands.add_parser("debug", help="speak to the debug socket; alone, it lists what it knows")
    add_name(debug)
    debug.add_argument("words", nargs=argparse.REMAINDER, metavar="WORD")
