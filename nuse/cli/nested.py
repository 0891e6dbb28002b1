"""`nuse run` in a program that `nuse run` started: the stack is the same already, so the command is all that is left.

A process tree has one seccomp listener, the kernel allows no second: what would need another is refused.
"""

import argparse
import os
import signal
import socket

from nuse.cli.common import describes_stack, say
from nuse.refusal import Refused
from nuse.shim.abi import TCP_NUSE_STACK

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it
NAME_ROOM = 64


def stack_here() -> str | None:
    """The name of the stack that serves this process; None on the kernel."""
    try:
        with socket.socket() as sock:
            return sock.getsockopt(socket.IPPROTO_TCP, TCP_NUSE_STACK, NAME_ROOM).decode()
    except OSError:
        return None


def run_here(args: argparse.Namespace, here: str) -> int:
    """Become the command. Raises Refused if another stack, or another setting of this one, was asked for."""
    from nuse.shim.launch import restore_signals

    if args.name not in (None, here):
        raise Refused(f"this runs on stack {here} already, and a program cannot have two")
    if (
        describes_stack(args)
        or args.mptcp
        or args.mptcp_scheduler
        or args.cc
        or args.netns
        or args.rule
        or args.loopback
    ):
        raise Refused(f"this runs on stack {here} already, with settings of its own; leave the options out")
    restore_signals(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    try:
        os.execvp(args.command[0], args.command)
    except OSError as exc:
        say(f"{args.command[0]}: {exc.strerror}")
        return NOT_FOUND if isinstance(exc, FileNotFoundError) else NOT_EXECUTABLE
