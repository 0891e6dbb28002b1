"""Two players of random programs: one in a network namespace on the kernel's loopback, one on the stack's."""

import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path

from .shim_deviations import END, deviates
from .shim_lab import PATIENCE, PYTHON

PLAYER = Path(__file__).parent / "shim_scripts" / "steps.py"
FIRST_PORT, LAST_PORT = 1100, 32000  # below the ephemeral ones
PORTS = 4  # for each program its own, because of TIME-WAIT
SLOWLY = 0.02  # seconds after each step when a difference may be one of time


class Side:
    """One long-lived player, spoken to over two FIFOs."""

    def __init__(self, directory, label):
        self.paths = [os.path.join(directory, f"{label}.{each}") for each in ("requests", "answers")]
        for path in self.paths:
            os.mkfifo(path)
        self.command = [PYTHON, str(PLAYER), *self.paths]
        self._rest = b""

    def open(self):
        """Once the player runs: each open waits for its other end."""
        self._requests = open(self.paths[0], "wb", buffering=0)
        self._answers = open(self.paths[1], "rb", buffering=0)

    def ask(self, request):
        self._requests.write(json.dumps(request).encode() + b"\n")

    def answer(self):
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._rest:
            if not select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise AssertionError("a program hangs")
            part = self._answers.read(1 << 16)
            assert part, "the player has died"
            self._rest += part
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

    def close(self):
        self._requests.close()
        self._answers.close()


class Kernel(Side):
    """The player on the kernel, in a network namespace that ends with it."""

    def __init__(self, directory):
        super().__init__(directory, "kernel")
        script = 'ip link set lo up && exec "$@"'
        command = ["unshare", "--net", "sh", "-c", script, "sh", *self.command]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def close(self):
        super().close()
        self._process.wait(PATIENCE)


class Arena:
    """Plays a program at both and tells where they differ. Lives in a thread of its own beside the stack's loop."""

    def __init__(self, lab):
        self._directory = tempfile.TemporaryDirectory()
        self._kernel = Kernel(self._directory.name)
        self._stack = Side(self._directory.name, "stack")
        self.program = lab.start(*self._stack.command)
        self._port = FIRST_PORT
        self.played = 0
        self.again = 0  # played once more, slowly

    def open(self):
        self._kernel.open()
        self._stack.open()

    def play(self, steps, patience=0.0):
        """Both sides' lines: (step, result, polls)."""
        request = {"base": self._port, "patience": patience, "steps": steps}
        self._port = self._port + PORTS if self._port < LAST_PORT else FIRST_PORT
        self._kernel.ask(request)
        self._stack.ask(request)
        self.played += 1
        return self._kernel.answer(), self._stack.answer()

    def differences(self, steps, patience=0.0):
        """Lines that differ and may not; what comes after the first is of no interest."""
        kernel, stack = self.play(steps, patience)
        assert len(kernel) == len(stack) == len(steps)
        for number, (theirs, ours) in enumerate(zip(kernel, stack, strict=True)):
            if theirs != ours:
                verdict = deviates(steps[: number + 1], kernel[: number + 1], ours)
                if verdict == END:
                    return []
                if not verdict:
                    return [
                        *(f"  {each[0]}: {each[1]}   [{each[2]}]" for each in kernel[:number]),
                        f"K {theirs[0]}: {theirs[1]}   [{theirs[2]}]",
                        f"S {ours[0]}: {ours[1]}   [{ours[2]}]",
                    ]
        return []

    def check(self, steps):
        """Fails if the two differ, and still do with time for everything to settle."""
        if self.differences(steps):
            self.again += 1
            found = self.differences(steps, SLOWLY)
            assert not found, "\n".join(["the kernel and the stack differ:", *found])

    def close(self):
        self._stack.close()
        self._kernel.close()
        self._directory.cleanup()
