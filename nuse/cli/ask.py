"""Which running stack a command means, and the way to ask it."""

import argparse

from nuse.config import DEFAULT_NAME, check_name
from nuse.debugclient import DebugClient
from nuse.refusal import Refused
from nuse.statedir import StateDir, stack_names


def state(args: argparse.Namespace) -> StateDir:
    """The stack that is meant; without --name the only one there is will do."""
    named = StateDir(check_name(args.name or DEFAULT_NAME))
    if named.holder() is not None:
        return named
    others = stack_names()
    if args.name is None and len(others) == 1:
        return StateDir(others[0])
    hint = f"up are: {', '.join(others)}" if others else "`nuse up` starts one"
    raise Refused(f"no stack named {named.name!r} is up; {hint}")


def client(args: argparse.Namespace) -> DebugClient:
    """A connection to its debug socket."""
    return DebugClient(state(args).debug_sock)
