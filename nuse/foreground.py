"""Being the parent of the program that `nuse run` started: signals, stops and exit status pass through.

The program stays in our process group, so the terminal talks to it directly: Ctrl-C and Ctrl-Z reach both, we do
nothing about them, and follow the program when it stops or ends. What is sent to us alone goes on to it.

Who sent SIGINT and SIGQUIT, siginfo tells: the kernel for a terminal, which the program hears itself, or a process by
kill, as supervisors and test harnesses do with the launcher's pid. sudo passes these on, too. If a process sends to the
whole group the program has the signal twice, which nothing can tell from once.
"""

import os
import signal
from types import FrameType
from typing import Any

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ENDING = (signal.SIGINT, signal.SIGQUIT)  # a terminal sends them to the program as well
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
        heard = {signal.SIGCHLD, *(number for number in ENDING if number in self._old)}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
        try:
            self._pid = pid
            if self._early:  # it came while the program was being started
                os.kill(pid, self._early)
            return self._follow(pid, heard)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _follow(self, pid: int, heard: set[signal.Signals]) -> int:
        """To its end; `heard` are blocked."""
        while True:
            # Only looked at, not reaped: until _pid is cleared the number stays the program's, whenever a signal comes.
            change = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT | os.WNOHANG)
            if change is None:
                news = signal.sigwaitinfo(heard)
                if news.si_signo != signal.SIGCHLD and news.si_code <= 0 and news.si_pid != pid:  # from a process
                    os.kill(pid, news.si_signo)
            elif change.si_code == os.CLD_STOPPED:
                if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None:
                    os.kill(os.getpid(), signal.SIGSTOP)  # the shell sees its job stop, and continues the whole group
                    os.kill(pid, signal.SIGCONT)
            else:
                self._pid = 0
                return _exit_status(os.waitpid(pid, 0)[1])


def _exit_status(status: int) -> int:
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
