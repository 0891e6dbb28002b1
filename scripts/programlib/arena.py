"""Where the definitions run: a network namespace with a stack of its own for each, removed whatever happens.

kernel   client and server on the kernel            127.0.0.1
stack    client and server on the stack             127.0.0.1
server   client on the kernel, server on the stack  10.64.0.2, over tun0
client   client on the stack, server on the kernel  10.64.0.1, over tun0
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from programlib.lab import Lab, Program

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts" / "programs"
LOOPBACK, KERNEL, STACK = "127.0.0.1", "10.64.0.1", "10.64.0.2"
SECONDS = 180  # for one definition in one mode
QUIET = ("is up",)  # what a stack may say


@dataclass
class Outcome:
    """Of one definition in one mode."""

    works: bool
    seconds: float
    note: str


class Arena:
    """A namespace and a stack in it; use with `with`."""

    def __init__(self, label: str) -> None:
        self._name = f"nuse-prog-{os.getpid()}-{label}"[:40]
        self._stack = f"prog-{os.getpid()}"
        self._up: subprocess.Popen[bytes] | None = None
        self.dir = Path(tempfile.mkdtemp(prefix="nuse-prog-"))

    def __enter__(self) -> "Arena":
        self.dir.chmod(0o755)
        _ip("netns", "add", self._name)
        _ip("-n", self._name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_exc: object) -> None:
        self._down()
        subprocess.run(["ip", "netns", "del", self._name], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    @property
    def _inside(self) -> list[str]:
        return ["ip", "netns", "exec", self._name]

    def _nuse(self, *argv: str) -> list[str]:
        return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", "nuse", *argv]

    def _start_stack(self) -> None:
        self._down()
        with (self.dir / "stack.log").open("wb") as log:
            self._up = subprocess.Popen(
                [*self._inside, *self._nuse("up", "--name", self._stack)], stderr=log, stdin=subprocess.DEVNULL
            )
        while b"is up" not in (self.dir / "stack.log").read_bytes():
            if self._up.poll() is not None:
                raise RuntimeError((self.dir / "stack.log").read_text())

    def _down(self) -> None:
        if self._up is not None:
            self._up.terminate()
            self._up.wait()
            self._up = None

    def run(self, program: Program, mode: str) -> Outcome:
        """One definition in one mode."""
        child = [sys.executable, "-P", str(SCRIPT), "--child", program.name]
        prefix = [] if mode == "kernel" else [*self._nuse("run", "--name", self._stack), "--"]
        shim = json.dumps(prefix)
        if mode == "kernel":
            command = child
        elif mode == "stack":
            command = [*prefix, *child]
        elif mode == "server":
            command = [*child, "--host", STACK, "--server", shim]
        else:
            command = [*child, "--host", KERNEL, "--client", shim]
        if mode != "kernel":
            self._start_stack()
        place = self.dir / mode
        place.mkdir()
        place.chmod(0o777)
        with (self.dir / f"{mode}.out").open("wb+") as out:
            process = subprocess.Popen(
                [*self._inside, *command, "--dir", str(place)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()
                return Outcome(False, SECONDS, f"not done after {SECONDS} s")
            out.seek(0)
            lines = out.read().decode(errors="replace").splitlines()
        try:
            outcome = Outcome(**json.loads(lines[-1]))
        except (IndexError, ValueError, TypeError):
            return Outcome(False, 0.0, " / ".join(lines[-8:]) or f"ended with {process.returncode}, said nothing")
        if mode != "kernel" and (said := self._said()):
            return Outcome(False, outcome.seconds, f"{outcome.note}; the stack says: {said}")
        return outcome

    def _said(self) -> str:
        """Complaints of the stack."""
        lines = (self.dir / "stack.log").read_text(errors="replace").splitlines()
        return " / ".join(line for line in lines if not any(each in line for each in QUIET))[-1500:]


def run_here(program: Program, place: Path, host: str, server: list[str], client: list[str], *, brief: bool) -> Outcome:
    """The definition itself, in this process."""
    lab = Lab(place, host, server, client)
    lab.brief = brief
    try:
        note, works = program.run(lab), True
    except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the table
        note, works = str(error) or repr(error), False
    seconds = time.monotonic() - lab.began
    lab.close()
    return Outcome(works, seconds, note)


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True)
