"""What a system call costs a program, natively and under `nuse run`: `scripts/bench calls`.

Between the two stands the barest supervisor (bare.py), which shows how much of the difference is the machine's.
Also counts how many calls stopped for the stack while a program did nothing but move data: none should.
"""

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import IO

from benchlib.arena import PORT, ROOT, Arena, BenchError
from benchlib.variants import CPU
from nuse.debugclient import DebugClient
from nuse.refusal import Refused
from nuse.statedir import state_root

SAMPLES = 2000
NATIVE, BARE, SHIM = "native", "bare", "shim"
ADDRS = {NATIVE: "127.0.0.1", BARE: "127.0.0.1", SHIM: "10.65.0.2"}
GOALS = {"foreign": 10.0, "getppid": 0.5}  # µs more than native, by the first word of a call's name
GOAL = 15.0
BEFORE_DATA = b'"data": '


class Costs:
    """Medians in nanoseconds by (call, who), one a round; and what stopped among calls on data."""

    def __init__(self) -> None:
        self.medians: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.data = self.stopped = 0

    def median(self, call: str, who: str) -> float:
        """µs."""
        return statistics.median(self.medians[call, who]) / 1000

    def calls(self) -> list[str]:
        """In the order of the program."""
        return list(dict.fromkeys(call for call, _who in self.medians))


def measure(costs: Costs, rounds: int) -> None:
    """Natively, under a bare supervisor and under the shim in turns, everything on one CPU. Raises BenchError."""
    with Arena() as arena:
        program = arena.directory / "calls"
        source = Path(__file__).with_name("calls.c")
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(program), str(source)], check=True)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for who in ADDRS:
                _round(costs, arena, program, who)


def _round(costs: Costs, arena: Arena, program: Path, who: str) -> None:
    words = [str(program), ADDRS[who], str(PORT), str(SAMPLES)]
    if who == SHIM:
        link = "benchtun1,stack=10.65.0.2/24,host=10.65.0.1/24"
        words = [sys.executable, "-m", "nuse", "run", "--link", link, "--", *words]
    elif who == BARE:
        words = [sys.executable, "-m", "benchlib.bare", *words]
    command = ["ip", "netns", "exec", arena.peer_ns, "taskset", "-c", str(CPU), *words]
    env = dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'scripts'}")
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        said = _until(running.stdout, BEFORE_DATA)
        before = _stopped(running.pid) if who == SHIM else 0
        _go_on(running.stdin)
        said += _until(running.stdout, b"}")
        after = _stopped(running.pid) if who == SHIM else 0
        _go_on(running.stdin)
    found = json.loads(said)
    data = found.pop("data")
    for call, nanoseconds in found.items():
        costs.medians[call, who].append(nanoseconds)
    if who == SHIM:
        costs.data += data
        costs.stopped += after - before


def _until(stream: IO[bytes], end: bytes) -> bytes:
    said = b""
    while not said.endswith(end):
        byte = stream.read(1)
        if not byte:
            raise BenchError(f"calls ended early: {said.decode(errors='replace')}")
        said += byte
    return said


def _go_on(stream: IO[bytes]) -> None:
    stream.write(b"\n")
    stream.flush()


def _stopped(pid: int) -> int:
    """How many calls have stopped for the stack of this `nuse run`."""
    try:
        rows = DebugClient(state_root() / f"run-{pid}" / "debug.sock").ask("programs")
    except Refused as exc:
        raise BenchError(str(exc)) from None
    return sum(int(row["calls"]) for row in rows)


def table(costs: Costs) -> str:
    """For people."""
    lines = [f"{'µs, median':26} {'native':>8} {'bare':>8} {'shim':>8} {'more':>8}  goal"]
    for call in costs.calls():
        native, bare, shim = (costs.median(call, who) for who in ADDRS)
        goal = GOALS.get(call.split()[0], GOAL)
        lines.append(f"{call:26} {native:8.2f} {bare:8.2f} {shim:8.2f} {shim - native:8.2f}  ≤ {goal:g}")
    lines.append(f"calls that moved data: {costs.data}; of them stopped for the stack: {costs.stopped}")
    return "\n".join(lines)


def write(file: Path, costs: Costs) -> None:
    """For machines: medians in µs by call, and the count of calls on data."""
    found = {call: {who: costs.median(call, who) for who in ADDRS} for call in costs.calls()}
    file.write_text(json.dumps({"calls": found, "data": costs.data, "stopped": costs.stopped}, indent=1) + "\n")
