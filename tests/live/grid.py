"""The grid of transfers against the kernel: its cells and how one is run; for scripts/grid and test_grid.py."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests" / "live" / "grid_lab.py"

IMPAIRMENTS = {
    "clean": "",
    "loss 1%": "delay 5ms loss 1%",
    "loss 5%": "delay 5ms loss 5%",
    "loss 10%": "delay 5ms loss 10%",
    "burst loss": "delay 5ms loss gemodel 1% 30%",
    "reordering": "delay 5ms reorder 25% gap 3",
    "jitter": "delay 5ms 4ms",
    "duplication": "delay 5ms duplicate 10%",
    "corruption": "delay 5ms corrupt 3%",
    "all of it": "delay 5ms loss 2% duplicate 2% reorder 10% corrupt 1%",
}
MTUS = (576, 1280, 1500, 9000, 65535)
SIZE, TINY_SIZE = 400_000, 60_000
TIMEOUT = 180


def cells() -> Iterator[dict[str, Any]]:
    """Every cell: role × impairment × MTU × IP version × offload × window."""
    grid = itertools.product(("server", "client"), IMPAIRMENTS, MTUS, (4, 6), (True, False), (False, True))
    for number, (role, name, mtu, version, offload, tiny) in enumerate(grid):
        if version == 6 and mtu < 1280:
            continue
        yield {
            "role": role,
            "impairment": name,
            "words": IMPAIRMENTS[name],
            "mtu": mtu,
            "version": version,
            "offload": offload,
            "tiny": tiny,
            "size": TINY_SIZE if tiny else SIZE,
            "seed": number,
        }


def name_of(cell: dict[str, Any]) -> str:
    """One line that names a cell."""
    words = [cell["role"], cell["impairment"], f"mtu {cell['mtu']}", f"v{cell['version']}"]
    return ", ".join([*words, "offload" if cell["offload"] else "plain", *["tiny windows"] * cell["tiny"]])


def sample(count: int, seed: str) -> list[dict[str, Any]]:
    """So many cells, always the same ones for a seed, each impairment and MTU about as often."""
    everything = list(cells())
    Random(seed).shuffle(everything)
    chosen: list[dict[str, Any]] = []
    used: dict[Any, int] = {}
    while len(chosen) < count and everything:
        best = min(everything, key=lambda cell: sum(used.get(value, 0) for value in _traits(cell)))
        everything.remove(best)
        chosen.append(best)
        for value in _traits(best):
            used[value] = used.get(value, 0) + 1
    return chosen


def _traits(cell: dict[str, Any]) -> list[Any]:
    return [(key, cell[key]) for key in ("role", "impairment", "mtu", "version", "offload", "tiny")]


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Run one cell in a namespace of its own; its facts, or an error."""
    command = ["unshare", "--net", sys.executable, str(LAB), json.dumps(cell)]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=env, check=False)
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        facts = {"error": "timed out"}
    except (IndexError, ValueError):
        facts = {"error": done.stderr.strip()[-300:]}
    return facts


def passed(facts: dict[str, Any]) -> bool:
    """Both sums right and nothing thrown."""
    return bool(facts.get("up") and facts.get("down") and not facts.get("faults"))
