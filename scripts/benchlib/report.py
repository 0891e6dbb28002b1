"""From samples to a table and JSON: medians over the rounds, ratios to the kernel in the same run."""

import json
import platform
import statistics
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# (work, what, unit, field of peer's JSON, larger is better)
WORKS = {
    "rx": ("bulk, peer → stack", "Gbit/s", "gbit_s", True),
    "tx": ("bulk, stack → peer", "Gbit/s", "gbit_s", True),
    "ping": ("1-byte ping-pong, pinned", "µs", "median_us", False),
    "crr": ("connect, 1-byte echo, close", "1/s", "per_s", True),
}
# DESIGN §8, as ratio to the kernel or in the unit itself
GOALS = {
    ("rx", "embedded", True): "≥ 0.8 ×",
    ("tx", "embedded", True): "≥ 0.7 ×",
    ("rx", "shim", True): "≥ 0.4 ×",
    ("tx", "shim", True): "≥ 0.4 ×",
    ("rx", "embedded", False): "≥ 1",
    ("tx", "embedded", False): "≥ 1",
    ("ping", "embedded", True): "≤ 30",
    ("ping", "shim", True): "≤ 60",
    ("crr", "embedded", True): "≥ 7000",
    ("crr", "shim", True): "≥ 4000",
}


class Report:
    """Collects samples under (work, variant, offload)."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str, bool], list[float]] = defaultdict(list)
        self.failures: dict[str, str] = {}

    def add(self, work: str, variant: str, offload: bool, result: dict[str, Any]) -> None:
        self.samples[work, variant, offload].append(result[WORKS[work][2]])

    def rows(self) -> list[dict[str, Any]]:
        """One row a figure, those of one work together, the kernel's with offload first."""
        order = {name: at for at, name in enumerate(WORKS)}
        rows = []
        for (work, variant, offload), values in sorted(
            self.samples.items(),
            key=lambda item: (order[item[0][0]], not item[0][2], item[0][1] != "kernel", item[0][1]),
        ):
            kernel = self.samples.get((work, "kernel", True))
            value = statistics.median(values)
            rows.append(
                {
                    "work": work,
                    "variant": variant,
                    "offload": offload,
                    "unit": WORKS[work][1],
                    "median": value,
                    "low": min(values),
                    "high": max(values),
                    "samples": values,
                    "to_kernel": value / statistics.median(kernel) if kernel else None,
                    "goal": GOALS.get((work, variant, offload)),
                }
            )
        return rows

    def table(self) -> str:
        """For people."""
        lines = [f"{'':30} {'':8} {'offload':8} {'median':>9} {'low':>9} {'high':>9}  {'unit':7} {'× kernel':>8}  goal"]
        last = ""
        for row in self.rows():
            what = WORKS[row["work"]][0]
            ratio = "" if row["to_kernel"] is None else f"{row['to_kernel']:.2f}"
            figures = " ".join(f"{row[name]:9.{_digits(row[name])}f}" for name in ("median", "low", "high"))
            lines.append(
                f"{what if what != last else '':30} {row['variant']:8} {'on' if row['offload'] else 'off':8} "
                f"{figures}  {row['unit']:7} {ratio:>8}  {row['goal'] or ''}"
            )
            last = what
        lines += [f"not measured: {name}: {why}" for name, why in self.failures.items()]
        return "\n".join(lines)

    def write(self, path: Path, arguments: dict[str, Any]) -> None:
        """For machines."""
        document = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cpus": _cpus(),
            "arguments": arguments,
            "rows": self.rows(),
            "failures": self.failures,
        }
        path.write_text(json.dumps(document, indent=1) + "\n")


def _digits(value: float) -> int:
    return 0 if value >= 1000 else 1 if value >= 100 else 2


def _cpus() -> str:
    text = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{len(models)} × {models[0]}" if models else platform.machine()
