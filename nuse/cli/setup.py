"""scripts/setup-tun.sh: devices, addresses, routes and the namespace, made to outlive stacks."""

import argparse
import os
import sys

from nuse.cli.common import Parser, add_name, config_from, guarded, say
from nuse.config import check_name
from nuse.linkspec import parse_link_spec
from nuse.refusal import Refused
from nuse.statedir import StateDir

HELP = """up      make persistent TUN devices, addresses, masquerading and the namespace
down    remove what up made
status  show what there is"""


def main(argv: list[str] | None = None) -> int:
    """Entry of `python -m nuse.hostnet`."""
    parser = Parser(prog="setup-tun.sh", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("up", "down", "status"))
    parser.add_argument("-c", "--config", metavar="FILE", help="read the links from nuse.toml")
    parser.add_argument("--link", metavar="SPEC", action="append", default=[], help="a link, as `nuse up` takes it")
    parser.add_argument("--user", metavar="UID", type=int, help="who may open the devices (default: who called sudo)")
    add_name(parser)
    args = parser.parse_args(argv)
    run = {"up": _up, "down": _down, "status": _status}[args.verb]
    return guarded(lambda: run(args))


def _state(args: argparse.Namespace) -> StateDir:
    return StateDir(check_name(args.name or "nuse"))


def _up(args: argparse.Namespace) -> int:
    from nuse.hostnet import HostNet, privileged

    config = config_from(args)
    if not privileged():
        raise Refused("no privilege to make network devices: run as root (sudo scripts/setup-tun.sh up)")
    state = _state(args)
    if state.holder() is not None:
        raise Refused(f"stack {state.name!r} is running: `nuse down --name {state.name}` first")
    owner = args.user if args.user is not None else int(os.environ.get("SUDO_UID", os.getuid()))
    net = HostNet(config, state, owner=owner, persistent=True)
    net.up()
    for warning in net.warnings:
        say(warning)
    return _status(args)


def _down(args: argparse.Namespace) -> int:
    from nuse.hostnet import HostNet, privileged

    state = _state(args)
    if not privileged():
        raise Refused("no privilege to remove network devices: run as root (sudo scripts/setup-tun.sh down)")
    if state.holder() is not None:
        raise Refused(f"stack {state.name!r} is running: `nuse down --name {state.name}` first")
    failures = HostNet(config_from(args), state).down() + HostNet(config_from(args), state, persistent=True).down()
    for failure in failures:
        say(f"could not remove {failure}")
    state.release()
    return 1 if failures else 0


def _status(args: argparse.Namespace) -> int:
    from nuse.hostnet_status import status_lines

    state = _state(args)
    plan = state.journal("setup").find("plan")
    if not plan:
        sys.stdout.write(f"{state.name}: nothing set up\n")
        return 1 if args.verb == "status" else 0
    links = [parse_link_spec(text) for text in plan[0]["links"]]
    sys.stdout.write("".join(line + "\n" for line in status_lines(state, links)))
    return 0
