"""What the definition of a program has at hand: a directory, servers, clients, and the table that it enters.

A definition is a function with a Lab. It starts servers and runs clients, compares what came with what had to come,
and returns one line worth noting, a rate say. It raises Failure, or lets a client's, if something is not as it must be.
"""

import contextlib
import hashlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 120.0  # seconds for anything


class Failure(Exception):
    """What is not as it must be."""


class Lab:
    """Where one definition runs. Servers listen at `host`, clients are told that address; the prefixes put each of
    them on the kernel or on the stack, or are empty, where the whole definition is on one of them."""

    def __init__(
        self, directory: Path, host: str = "127.0.0.1", server: Sequence[str] = (), client: Sequence[str] = ()
    ) -> None:
        self.dir = directory
        self.brief = False  # no measuring: only see that it works
        self.python = sys.executable
        self.began = time.monotonic()
        self.host = host
        self.mixed = bool(server or client)  # clients and servers are not on the same stack
        self._server, self._client = list(server), list(client)
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []

    # ------------------------------------------------------------------ files

    def file(self, name: str, size: int) -> tuple[Path, str]:
        """A file of `size` random bytes, the same each time, and its sha256."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(name).randbytes(size))
        return path, sha256(path)

    def text(self, name: str, content: str) -> Path:
        """A file with this content."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    # ------------------------------------------------------------------ processes

    def serve(
        self,
        *argv: object,
        port: int = 0,
        says: str = "",
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a server in the foreground, and wait until `port` takes connections or it `says` something."""
        process = self._start([*self._server, *_as(user), *map(str, argv)], env)
        log = self._running[-1][1]
        if says:
            self.until(lambda: says.encode() in log.read_bytes(), f"{argv[0]} does not get ready", process)
        if port:
            self.until(lambda: self._connects(port), f"{argv[0]} does not listen", process)
        return process

    def start(self, *argv: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a client; `wait` has its output."""
        return self._start([*self._client, *map(str, argv)], env)

    def wait(self, process: subprocess.Popen[bytes], status: int = 0) -> str:
        """What it said, once it has ended with this status."""
        try:
            ended = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{process.args!r} hangs; it said: {self.said(process)[-1500:]}") from None
        if ended != status:
            raise Failure(f"{_name(process)} ended with {ended}: {self.said(process)[-1500:]}")
        return self.said(process)

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """Its output so far."""
        return next(log for each, log in self._running if each is process).read_text(errors="replace")

    def run(self, *argv: object, env: Mapping[str, str] | None = None, status: int = 0) -> str:
        """Run a client to its end; its output, of stderr too."""
        return self.wait(self.start(*argv, env=env), status)

    def prepare(self, *argv: object, env: Mapping[str, str] | None = None, user: str | None = None) -> None:
        """Run a command that has nothing to do with sockets."""
        self.wait(self._start([*_as(user), *map(str, argv)], env))

    def begin(self) -> None:
        """What was done so far is not measured."""
        self.began = time.monotonic()

    def stop(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        """End a server."""
        process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{_name(process)} does not end") from None

    def _start(self, argv: list[str], env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        log = self.dir / f"log{len(self._running)}"
        whole = os.environ | {"PATH": os.environ.get("PATH", "") + ":" + SYSTEM_PATH, "HOME": str(self.dir)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.dir,
                env=whole | dict(env or {}),
                start_new_session=True,
            )
        self._running.append((process, log))
        return process

    def close(self) -> None:
        """End everything that still runs, with all that it started."""
        for process, _ in reversed(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM if process.poll() is None else signal.SIGKILL)
        for process, _ in reversed(self._running):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    # ------------------------------------------------------------------ waiting and comparing

    def _connects(self, port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, port), 1):
            return True
        return False

    def until(self, fact: Callable[[], object], what: str, process: subprocess.Popen[bytes] | None = None) -> None:
        """Wait for a fact. Raises Failure with `what`, when it does not come or `process` ends meanwhile."""
        deadline = time.monotonic() + 30
        while not fact():
            if (process is not None and process.poll() not in (None, 0)) or time.monotonic() > deadline:
                log = next((log for each, log in self._running if each is process), None)
                raise Failure(f"{what}: {_tail(log) if log else ''}")
            time.sleep(0.02)

    @staticmethod
    def same(got: object, wanted: object, what: str) -> None:
        """Raises Failure unless both are equal."""
        if got != wanted:
            raise Failure(f"{what}: {str(got)[-300:]!r} instead of {str(wanted)[-300:]!r}")


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _as(user: str | None) -> list[str]:
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if user else []


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]


def _name(process: subprocess.Popen[bytes]) -> str:
    return shlex.join(process.args)[-200:] if isinstance(process.args, list) else str(process.args)


# ---------------------------------------------------------------------- the table

ALL_MODES = ("kernel", "stack", "server", "client")


@dataclass(frozen=True)
class Program:
    """One definition. `needs` maps each command to its Debian package; `modes` says where it makes sense."""

    name: str
    run: Callable[[Lab], str]
    needs: Mapping[str, str]
    modules: Mapping[str, str]  # of Python, and the names they have on PyPI
    modes: Sequence[str]
    quick: bool  # takes less than three seconds when brief, and its packages are small: part of the live tests
    known: Mapping[str, str]  # what is known to fail: mode, and why

    @property
    def missing(self) -> list[str]:
        """What has to be installed first."""
        path = os.environ.get("PATH", "") + ":" + SYSTEM_PATH
        packages = [package for command, package in self.needs.items() if shutil.which(command, path=path) is None]
        return packages + [f"pip:{name}" for module, name in self.modules.items() if find_spec(module) is None]


PROGRAMS: dict[str, Program] = {}


def program(
    *,
    needs: Mapping[str, str],
    modules: Mapping[str, str] | None = None,
    modes: Sequence[str] = ALL_MODES,
    quick: bool = False,
    known: Mapping[str, str] | None = None,
) -> Callable[[Callable[[Lab], str]], Callable[[Lab], str]]:
    """Enter a definition into the table, under the name of its function."""

    def enter(function: Callable[[Lab], str]) -> Callable[[Lab], str]:
        name = function.__name__.replace("_", "-")
        PROGRAMS[name] = Program(name, function, needs, modules or {}, modes, quick, known or {})
        return function

    return enter
