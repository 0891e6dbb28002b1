"""A stack in a process of its own: `nuse up --detach`, the private stack of `nuse run`, the demo's.

The parent claims the name, forks, and waits until the child says over a pipe that the stack is ready, or why it is not.
A private stack is on a leash: a pipe whose end only the launcher holds. However the launcher ends, the pipe closes and
the stack removes every trace. It has a session of its own: Ctrl-C and Ctrl-Z reach the program, not the stack.
"""

import contextlib
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from nuse import log
from nuse.config import Config, ConfigError
from nuse.refusal import EXIT_REFUSED, Refused
from nuse.statedir import StateDir
from nuse.sweep import sweep


@dataclass(slots=True)
class Background:
    """A stack that we started as its parent."""

    state: StateDir
    pid: int
    links: list[str]
    warnings: list[str]
    leash: int = -1

    def stop(self) -> None:
        """End it, and wait until every trace is removed."""
        if self.leash >= 0:
            os.close(self.leash)
            self.leash = -1
        else:
            os.kill(self.pid, signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start_background(config: Config, *, leashed: bool = False) -> Background:
    """Start a stack and return once it is ready. Raises Refused with what its process says."""
    state = StateDir(config.name)
    if not state.claim():
        raise Refused(f"a stack named {config.name!r} is running already; `nuse down`, or take another --name")
    ready_r, ready_w = os.pipe()
    leash_r, leash_w = os.pipe() if leashed else (-1, -1)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become_stack(config, state, ready_w, leash_r)
    os.close(ready_w)
    if leashed:
        os.close(leash_r)
    state.hand_over()
    started = Background(state, pid, [], [], leash_w)
    try:
        with os.fdopen(ready_r, "rb") as pipe:
            message = pipe.read()
        answer: dict[str, Any] = (
            json.loads(message) if message else {"error": "the stack's process died while it started"}
        )
        if "error" in answer:
            raise Refused(answer["error"])
    except BaseException:
        started.stop()
        sweep(state)
        raise
    started.links, started.warnings = answer["links"], answer["warnings"]
    return started


def _become_stack(config: Config, state: StateDir, ready: int, leash: int) -> NoReturn:
    """The child's life."""
    status = 1
    try:
        os.setsid()
        _let_go({ready, leash, state.lock_fd}, keep_stderr=leash >= 0)
        state.write_pid()
        log.setup(config.log, None if leash >= 0 else state.log)
        status = _run(config, state, ready, leash)
    finally:
        os._exit(status)


def _let_go(keep: set[int], *, keep_stderr: bool) -> None:
    """Hold nothing of the parent's: a pipe's reader waits until the last writer is gone."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1) if keep_stderr else (0, 1, 2):
        os.dup2(null, fd)
    os.chdir("/")
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def _run(config: Config, state: StateDir, ready: int, leash: int) -> int:
    """Assemble the stack and serve; tell the parent how the start went."""
    from nuse.loop import run
    from nuse.runtime import Runtime

    def tell(answer: dict[str, object]) -> None:
        with contextlib.suppress(OSError):
            os.write(ready, json.dumps(answer).encode())
        os.close(ready)

    async def life() -> None:
        runtime = Runtime(config, state)
        if leash >= 0:
            runtime.follow(leash)
        net = runtime.hostnet
        await runtime.serve(lambda: tell({"links": [str(spec) for spec in net.links], "warnings": net.warnings}))

    try:
        run(life())
    except (Refused, ConfigError) as exc:
        tell({"error": str(exc)})
        return EXIT_REFUSED
    except Exception as exc:
        logging.getLogger("nuse").exception("the stack failed")
        with contextlib.suppress(OSError):
            tell({"error": f"the stack failed to start: {exc!r}"})
        return 1
    return 0
