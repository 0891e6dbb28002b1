"""What Multipath TCP promises, measured for the kernel and for this stack in turns: `scripts/bench mptcp`.

    one subflow      its throughput as a part of plain TCP's, same end, no shaping; also of TCP in packets that a
                     mapping covers, since BIG TCP's are seven times as long
    two links        throughput as a part of twice what plain TCP gets over one of them
    silent death     the longest time that a receiver got nothing while the path in use died without a word

The peer is the kernel in all of them; "kernel" and "nuse" is who serves, so who sends in `out` and in a silent death.
"""

import json
import platform
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchlib.arena import Arena, BenchError
from benchlib.paths import Paths
from benchlib.variants import MPTCP_VARIANTS

WAYS = {"in": "send", "out": "recv"}
WHO = {"kernel": "kernel", "embedded": "nuse"}
DEATHS = {"both regular": "subflow", "the other a backup": "subflow backup"}
STALL_GOAL = "< 100 ms"


class Figures:
    """Samples under (figure, who), and what could not be measured."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.failures: list[str] = []

    def take(self, figure: str, who: str, result: str, action: Callable[[], dict[str, Any]]) -> None:
        """One sample: what `action` found under `result`."""
        try:
            value = action()[result]
        except BenchError as exc:
            self.failures.append(f"{figure}, {who}: {exc}")
            return
        self.samples[figure, who].append(value)
        print(f"  {figure:34} {who:14} {value:8.3f}", file=sys.stderr)

    def median(self, figure: str, who: str) -> float | None:
        values = self.samples.get((figure, who))
        return statistics.median(values) if values else None

    def ratio(self, top: tuple[str, str], bottom: tuple[str, str], factor: float = 1) -> float | None:
        over, under = self.median(*top), self.median(*bottom)
        return None if over is None or not under else over / under / factor


def measure(figures: Figures, rounds: int, seconds: float, mbit: int) -> None:
    """Take all samples. Raises BenchError where a server or the network between cannot be set up."""
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        _one_subflow(figures, seconds)
        _paths(figures, seconds, mbit)


def _one_subflow(figures: Figures, seconds: float) -> None:
    with Arena() as arena:
        for name, variant in MPTCP_VARIANTS.items():
            with variant(arena, True, False) as addr:
                for way, verb in WAYS.items():
                    run = partial(arena.measure, verb, addr, seconds, mptcp="mptcp" in name)
                    figures.take(f"one subflow, {way}, Gbit/s", name, "gbit_s", run)


def _paths(figures: Figures, seconds: float, mbit: int) -> None:
    with Paths(mbit) as paths:
        serve: dict[str, Callable[[], AbstractContextManager[str]]] = {
            "kernel": paths.kernel,
            "embedded": paths.embedded,
        }
        for who, server in serve.items():
            with server() as addr:
                for way, verb in WAYS.items():
                    paths.second_path("")
                    alone = partial(paths.measure, verb, addr, seconds)
                    figures.take(f"one link, TCP, {way}, Gbit/s", who, "gbit_s", alone)
                    paths.second_path("subflow")
                    both = partial(paths.measure, verb, addr, seconds, mptcp=True)
                    figures.take(f"two links, {way}, Gbit/s", who, "gbit_s", both)
                for name, how in DEATHS.items():
                    paths.second_path(how)
                    figures.take(
                        f"silent death, {name}, ms", who, "gap_ms", partial(paths.measure_stall, addr, seconds)
                    )


def rows(figures: Figures) -> list[dict[str, object]]:
    """One a figure: what it is, the kernel's and ours, what is wanted."""
    found: list[dict[str, object]] = []
    for way in WAYS:
        name = f"one subflow, {way}, Gbit/s"
        found.append(
            {
                "figure": f"one subflow, {way}, × own TCP",
                "goal": "≥ 0.9",
                **{shown: figures.ratio((name, f"{who} mptcp"), (name, who)) for who, shown in WHO.items()},
            }
        )
        same = {"kernel": (name, "kernel"), "embedded": (name, "embedded 64 KB")}  # veth has no BIG TCP by itself
        found.append(
            {
                "figure": f"one subflow, {way}, × own TCP in 64 KB packets",
                "goal": "≥ 0.9",
                **{shown: figures.ratio((name, f"{who} mptcp"), same[who]) for who, shown in WHO.items()},
            }
        )
    for way in WAYS:
        top, bottom = f"two links, {way}, Gbit/s", f"one link, TCP, {way}, Gbit/s"
        found.append(
            {
                "figure": f"two links, {way}, × their sum",
                "goal": "≥ 0.95",
                **{shown: figures.ratio((top, who), (bottom, "kernel"), 2) for who, shown in WHO.items()},
            }
        )
    for death in DEATHS:
        name = f"silent death, {death}, ms"
        found.append(
            {
                "figure": f"{name}, median",
                "goal": STALL_GOAL,
                **{shown: figures.median(name, who) for who, shown in WHO.items()},
            }
        )
        found.append(
            {
                "figure": f"{name}, worst",
                "goal": STALL_GOAL,
                **{shown: max(figures.samples.get((name, who), [0.0])) for who, shown in WHO.items()},
            }
        )
    return found


def table(found: list[dict[str, object]], failures: list[str]) -> str:
    """For people."""
    lines = [f"{'':44} {'kernel':>8} {'nuse':>8}  goal"]
    for row in found:
        values = " ".join(f"{row[who]:8.2f}" if isinstance(row[who], float) else f"{'-':>8}" for who in WHO.values())
        lines.append(f"{row['figure']!s:44} {values}  {row['goal']}")
    return "\n".join(lines + [f"not measured: {why}" for why in failures])


def write(path: Path, figures: Figures, found: list[dict[str, object]], failures: list[str]) -> None:
    """For machines."""
    document = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rows": found,
        "samples": [{"figure": name, "who": who, "values": each} for (name, who), each in figures.samples.items()],
        "failures": failures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
