"""Being the parent of the program that `nuse run` started: signals, stops and exit status pass through.

The program stays in our process group, so the terminal talks to it directly: Ctrl-C and Ctrl-Z reach both, we do
nothing about them, and follow the program when it stops or ends. What is sent to us alone goes on to it.
"""

import os
import signal
from types import FrameType
from typing import Any

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ENDING = (signal.SIGINT, signal.SIGQUIT)  # from the terminal, which sends them to the program as well
STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class Interrupted(Exception):
    """A signal came before there was a program to decide about it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.status = 128 + number


class Foreground:
    """Signal handling for the length of a with block; the program's pid is told once there is one."""

    def __init__(self) -> None:
        self._pid = 0
        self._early = 0  # a signal that came before the program was there
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Foreground":
        for number in FORWARDED + ENDING + STOPPING:
            old = signal.getsignal(number)
            if old is signal.SIG_IGN:  # nohup, or a background job of a simple shell: the program inherits that
                continue
            self._old[number] = old
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._pid:
            if number in FORWARDED:
                os.kill(self._pid, number)
        elif number not in STOPPING:
            self._early = number

    def check(self) -> None:
        """Raise Interrupted if a signal came already. An exception from the handler could come at any line."""
        if self._early:
            raise Interrupted(self._early)

    def wait(self, pid: int) -> int:
        """Follow the program to its end; its exit status, or 128+n if signal n ended it."""
        self._pid = pid
        if self._early:  # it came while the program was being started
            os.kill(pid, self._early)
        while True:
            # Only looked at, not reaped: until _pid is cleared the number stays the program's, whenever a signal comes.
            change = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            if change is not None and change.si_code == os.CLD_STOPPED:
                if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None:
                    os.kill(os.getpid(), signal.SIGSTOP)  # the shell sees its job stop, and continues the whole group
                    os.kill(pid, signal.SIGCONT)
                continue
            self._pid = 0
            return _exit_status(os.waitpid(pid, 0)[1])


def _exit_status(status: int) -> int:
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
