"""Being the parent of the program that `nuse run` started: signals, stops and exit status pass through.

The program stays in our process group, so the terminal talks to it directly: Ctrl-C and Ctrl-Z reach both, we do
nothing about them, and follow the program when it stops or ends. What is sent to us alone goes on to it.
"""

import os
import signal
from types import FrameType
from typing import Any

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
FROM_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def _leave_it(number: int, frame: FrameType | None) -> None:
    """The program got this signal too and decides."""


class Foreground:
    """Signal handling for the length of a with block; the program's pid is told once there is one."""

    def __init__(self) -> None:
        self.pid = 0
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Foreground":
        for number in FORWARDED + FROM_THE_TERMINAL:
            old = signal.getsignal(number)
            if old is signal.SIG_IGN:  # nohup, or a background job of a simple shell: the program inherits that
                continue
            self._old[number] = old
            signal.signal(number, self._forward if number in FORWARDED else _leave_it)
        return self

    def __exit__(self, *_: object) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def wait(self, pid: int) -> int:
        """Follow the program to its end; its exit status, or 128+n if signal n ended it."""
        self.pid = pid
        while True:
            _, status = os.waitpid(pid, os.WUNTRACED)
            if os.WIFSTOPPED(status):
                os.kill(os.getpid(), signal.SIGSTOP)  # the shell sees its job stop, and continues the whole group
                os.kill(pid, signal.SIGCONT)
                continue
            self.pid = 0
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
