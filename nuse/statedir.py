"""/run/nuse/NAME: who runs the stack NAME, where it listens, and what was made for it in the host.

    pid            flock'd by the stack process for as long as it lives; a stale file means nothing
    debug.sock     control.sock
    up.journal     what `nuse up` made; setup.journal: what scripts/setup-tun.sh made and wants kept
    stack.log      messages of a detached stack

A journal line is written before the thing it names is made, so that after kill -9 the next `up` or `down` knows what to
take away. Taking away what is not there is harmless.
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nuse.refusal import Refused

Step = dict[str, Any]
LETTING_GO = 5.0  # seconds


def state_root() -> Path:
    """/run/nuse, or the user's own place without root. Raises Refused if there is none."""
    if os.geteuid() == 0:
        return Path("/run/nuse")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if not runtime:
        raise Refused("no place for the stack's sockets: run as root, or set XDG_RUNTIME_DIR")
    return Path(runtime) / "nuse"


def _make_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise Refused(f"cannot make {path}: {exc.strerror}") from None


@contextlib.contextmanager
def host_lock() -> Iterator[None]:
    """Only one process at a time looks for a free device and makes it."""
    root = state_root()
    while True:
        _make_dir(root)
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if root.exists() and os.fstat(fd).st_ino == root.stat().st_ino:
            break
        os.close(fd)  # the last stack removed it while we waited
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            root.rmdir()  # only if it is empty
        os.close(fd)


class Journal:
    """Steps made in the host, oldest first, on disk one JSON line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: list[Step] = []
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            with contextlib.suppress(ValueError):  # the last line, cut off by a crash while it was written
                self.steps.append(json.loads(line))

    def record(self, step: Step) -> bool:
        """Write down what is about to be made; False if it was written down before."""
        if step in self.steps:
            return False
        with self.path.open("a") as file:
            file.write(json.dumps(step) + "\n")
        self.steps.append(step)
        return True

    def find(self, kind: str) -> list[Step]:
        """The steps of one kind."""
        return [step for step in self.steps if step["kind"] == kind]

    def forget(self) -> None:
        """Everything in it has been taken away."""
        self.steps.clear()
        self.path.unlink(missing_ok=True)


def _written_pid(fd: int) -> int:
    """What a pid file says; 0 if nothing yet."""
    return int(os.pread(fd, 32, 0) or b"0")


def _is_dead(pid: int) -> bool:
    """No such process, or one that only waits for its parent's look."""
    try:
        pidfd = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        return True
    try:
        return bool(select.select([pidfd], [], [], 0)[0])
    finally:
        os.close(pidfd)


def _lock(fd: int, kind: int) -> None:
    """flock a pid file, or raise BlockingIOError. The survivor of a stack that was killed lets go in a moment."""
    deadline = time.monotonic() + LETTING_GO
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pid = _written_pid(fd)
            if not pid or not _is_dead(pid) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)  # no event tells that a lock is free, but a call that may wait for ever


class StateDir:
    """The directory of one stack."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = state_root() / name
        self.debug_sock = self.path / "debug.sock"
        self.control_sock = self.path / "control.sock"
        self.log = self.path / "stack.log"
        self._pid_file = self.path / "pid"
        self.lock_fd = -1

    @property
    def claimed(self) -> bool:
        """Whether `claim` succeeded, in this process or in the one that forked it."""
        return self.lock_fd >= 0

    def make(self) -> None:
        """Create it, for the owner only."""
        _make_dir(self.path)

    def journal(self, kind: str) -> Journal:
        """The journal `up` or `setup`."""
        return Journal(self.path / f"{kind}.journal")

    def claim(self) -> bool:
        """Become the process of this stack; False if another one is. Survives fork, ends with the last holder."""
        for _ in range(10):
            self.make()
            fd = os.open(self._pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _lock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_ino == os.stat(self._pid_file).st_ino:
                    self.lock_fd = fd
                    self.write_pid()
                    return True
            except BlockingIOError:
                os.close(fd)
                return False
            except FileNotFoundError:
                pass
            os.close(fd)  # it was removed between open and flock
        raise Refused(f"cannot claim {self.path}: it keeps disappearing")

    def write_pid(self) -> None:
        """Say which process holds the claim; again after a fork."""
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, f"{os.getpid()}\n".encode(), 0)

    def hand_over(self) -> None:
        """Leave the claim to the process that we forked."""
        os.close(self.lock_fd)
        self.lock_fd = -1

    def holder(self) -> int | None:
        """The pid of the live stack of this name, None if there is none."""
        try:
            fd = os.open(self._pid_file, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise Refused(f"no permission for {self.path}") from None
        try:
            _lock(fd, fcntl.LOCK_SH)
        except BlockingIOError:
            return _written_pid(fd)
        finally:
            os.close(fd)
        return None

    def release(self) -> None:
        """Give the claim up and remove the directory, but for what setup-tun.sh wants kept."""
        if self.journal("setup").steps:
            for entry in self.path.iterdir():
                if entry.name != "setup.journal":
                    entry.unlink(missing_ok=True)
        else:
            shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()  # only if nobody else is there
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


def stack_names() -> list[str]:
    """Names of the stacks that are up."""
    try:
        names = sorted(entry.name for entry in state_root().iterdir() if not entry.name.startswith("."))
    except (FileNotFoundError, PermissionError):
        return []
    return [name for name in names if StateDir(name).holder() is not None]


def end_process(pid: int, signal_number: int, patience: float) -> bool:
    """Signal a process that is not our child and wait for its end; False if it outlives `patience` seconds."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(pidfd, signal_number)
        deadline = time.monotonic() + patience
        while True:
            left = deadline - time.monotonic()
            if select.select([pidfd], [], [], max(left, 0))[0]:
                return True
            if left <= 0:
                return False
    except OSError as exc:
        if exc.errno == errno.ESRCH:
            return True
        raise
    finally:
        os.close(pidfd)
