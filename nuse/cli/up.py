"""up, down, run: the life of a stack and of programs on it."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nuse import log
from nuse.cli.common import config_from, describes_stack, say
from nuse.cli.nested import NOT_EXECUTABLE, NOT_FOUND, run_here, stack_here
from nuse.config import DEFAULT_NAME, MPTCP_MODES, Config, check_choices, check_name, check_rules
from nuse.control import ControlClient, Message
from nuse.foreground import Foreground, Interrupted
from nuse.refusal import Refused
from nuse.statedir import StateDir, end_process, stack_names

if TYPE_CHECKING:
    from nuse.background import Background

PATIENCE = 15.0  # seconds that a stack may take to end, before it is killed


# --- up


def up(args: argparse.Namespace) -> int:
    """Run a stack in the foreground, or start it and leave."""
    config = config_from(args)
    if args.detach:
        from nuse.background import start_background

        started = start_background(config)
        for warning in started.warnings:
            say(warning)
        say(_greeting(config.name, started.links))
        return 0
    return _serve(config)


def _serve(config: Config) -> int:
    from nuse.loop import run
    from nuse.runtime import Runtime

    log.setup(config.log)

    async def life() -> None:
        runtime = Runtime(config)
        links = runtime.hostnet
        await runtime.serve(lambda: say(_greeting(config.name, [str(spec) for spec in links.links])))

    run(life())
    return 0


def _greeting(name: str, links: list[str]) -> str:
    shown = "; ".join(_short(link) for link in links)
    option = "" if name == DEFAULT_NAME else f"--name {name} "
    return f"stack {name} is up: {shown}; now: nuse run {option}-- CMD"


def _short(spec: str) -> str:
    name, *words = spec.split(",")
    stack = [word.partition("=")[2] for word in words if word.startswith("stack")]
    return f"{name} {' '.join(stack)}"


# --- down


def down(args: argparse.Namespace) -> int:
    """End a stack and remove what it left, whether it ended well or not."""
    from nuse.sweep import sweep

    state = StateDir(check_name(args.name or DEFAULT_NAME))
    pid = state.holder()
    if pid is None and not state.journal("up").steps:
        say(f"no stack named {state.name} is up")
    if pid and not end_process(pid, signal.SIGTERM, PATIENCE):
        say(f"stack {state.name} does not end; killing it")
        end_process(pid, signal.SIGKILL, PATIENCE)
    for failure in sweep(state):
        say(f"could not remove {failure}")
    return 0


# --- run


def run(args: argparse.Namespace) -> int:
    """Run a command on a stack that is up, or on one of its own."""
    if not args.command:
        raise Refused("nothing to run: nuse run [options] -- CMD…")
    if args.mptcp and args.mptcp not in MPTCP_MODES:
        words = " ".join([args.mptcp, *args.command[:1]])
        raise Refused(f"--mptcp {args.mptcp}: none of {', '.join(MPTCP_MODES)}; is it `--mptcp -- {words}…`?")
    check_choices(args.mptcp_scheduler or "", args.cc or "")
    check_rules(args.rule)
    _check_shim()
    here = stack_here()
    if here is not None:
        return run_here(args, here)
    try:
        return _run_in_foreground(args)
    except Interrupted as exc:
        return exc.status


def _run_in_foreground(args: argparse.Namespace) -> int:
    with Foreground() as foreground:
        state = _running(args)
        if state is not None:
            return _run_on(state, args, foreground)
        private = _start_private(args)
        try:
            for warning in private.warnings:
                say(warning)
            return _run_on(private.state, args, foreground)
        finally:
            private.stop()


def _check_shim() -> None:
    from nuse.shim.launch import ShimUnavailable, probe

    try:
        probe()
    except ShimUnavailable as exc:
        raise Refused(str(exc)) from None


def _running(args: argparse.Namespace) -> StateDir | None:
    """The stack to run on, or None if there shall be a private one."""
    if describes_stack(args):
        if args.name:
            raise Refused("--name means a stack that is up, which has its links and sysctls already; leave one out")
        return None
    state = StateDir(check_name(args.name or DEFAULT_NAME))
    if state.holder() is not None:
        return state
    if args.name:
        others = stack_names()
        hint = f"up are: {', '.join(others)}" if others else f"`nuse up --detach --name {args.name}` first"
        raise Refused(f"no stack named {args.name!r} is up; {hint}")
    return None


def _start_private(args: argparse.Namespace) -> "Background":
    from nuse.background import start_background

    config = config_from(args)
    config.name = f"run-{os.getpid()}"
    config.netns = config.netns and (args.netns or config.run_netns) != "host"
    return start_background(config, leashed=True)


def _run_on(state: StateDir, args: argparse.Namespace, foreground: Foreground) -> int:
    """Start the command, hand its listener to the stack, follow it to its end."""
    from nuse.shim.launch import ShimUnavailable, spawn

    control = ControlClient(state.control_sock)
    try:
        info = control.ask({"do": "info"})
        netns, resolv = _namespace(info, args.netns)
        foreground.check()
        try:
            child = spawn(args.command, netns=netns, resolv=resolv)
        except ShimUnavailable as exc:
            raise Refused(str(exc)) from None
        except OSError as exc:
            say(f"{args.command[0]}: {exc.strerror}")
            return NOT_FOUND if isinstance(exc, FileNotFoundError) else NOT_EXECUTABLE
        os.close(child.pidfd)
        policy = {
            "home": child.home,
            "mptcp": args.mptcp or info["mptcp"],
            "scheduler": args.mptcp_scheduler or "",
            "cc": args.cc or "",
            "rules": args.rule,
            "loopback": args.loopback,
        }
        try:
            control.ask({"do": "attach", "pid": child.pid, **policy}, [child.listener_fd])
        except Refused:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            raise
        finally:
            os.close(child.listener_fd)  # with a copy here, a program would hang when the stack dies
    finally:
        control.close()
    sys.stdout.flush()
    return foreground.wait(child.pid)


def _namespace(info: Message, wanted: str | None) -> tuple[str | None, str | None]:
    """Path of the namespace to enter and of its resolv.conf; None to stay here."""
    if (wanted or info["run_netns"]) == "host" or info["netns"] is None:
        return None, None
    path = info["netns"]
    here = os.stat("/proc/self/ns/net")
    if not Path(path).exists() or os.stat(path).st_dev != here.st_dev:
        path = f"/proc/{info['pid']}/root{path}"  # it was mounted where only the stack sees it, as in `ip netns exec`
    return path, info["resolv"]
