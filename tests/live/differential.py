"""Our TCP against the kernel's: random scripts played at both, every answer compared, differences shrunk.

    python tests/live/differential.py --seed 1 --count 2000        random scripts
    python tests/live/differential.py --script FILE                one script (a line each), both records printed

Makes a network namespace of its own, so it needs root; leaves nothing behind. The exit status is 1 if there are
differences that tests/live/diff_allowed.py does not explain.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for place in (ROOT, ROOT / "tests", ROOT / "tests" / "live"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from diff_allowed import explain  # noqa: E402
from diff_script import random_script  # noqa: E402
from diff_sides import COMMON, PROFILES, Kernel, KernelSide, OurSide, Step, play_ours  # noqa: E402

BATCH = 250


@dataclass(slots=True, eq=False)
class Case:
    """One script with what both made of it."""

    seed: str
    lines: list[str]
    profile: int = 0
    v6: bool = False
    kernel: list[Step] = field(default_factory=list)
    ours: list[Step] = field(default_factory=list)

    @property
    def role(self) -> str:
        return "client" if "app connect" in self.lines else "server"

    def difference(self) -> tuple[int, str] | None:
        """The first step where they differ, and the reason if it is allowed to."""
        for number, (theirs, ours) in enumerate(zip(self.kernel, self.ours, strict=True)):
            if (theirs.result, theirs.out, theirs.state) != (ours.result, ours.out, ours.state):
                return number, explain(self.lines, number, theirs, ours)
        return None

    def differs(self) -> bool:
        found = self.difference()
        return found is not None and not found[1]

    def with_lines(self, lines: list[str]) -> "Case":
        return Case(self.seed, lines, self.profile, self.v6)

    def show(self) -> str:
        found = self.difference()
        at = found[0] if found else len(self.lines)
        words = " ".join(f"{name}={value}" for name, value in PROFILES[self.profile].items())
        text = [f"seed {self.seed} {'v6' if self.v6 else 'v4'} {self.role} {words}"]
        for number, line in enumerate(self.lines[: at + 1]):
            text.append(f"    {line}")
            for name, steps in (("kernel", self.kernel), ("ours", self.ours)):
                step = steps[number]
                if number < at and name == "ours":
                    continue
                parts = [part for part in (step.result, *step.out, step.state) if part]
                text.append(f"        {'both' if number < at else name}: {' | '.join(parts)}")
        return "\n".join(text)


def play(kernel: Kernel, cases: list[Case]) -> None:
    """Play cases of one profile at both sides."""
    profile = PROFILES[cases[0].profile]
    kernel.configure(profile)
    batch, ours = [], []
    for case in cases:
        local, peer = kernel.ports()
        side = KernelSide(v6=case.v6, local_port=local, peer_port=peer)
        batch.append((side, case.lines, case.role))
        case.kernel = side.steps
        own = OurSide(v6=case.v6, local_port=local, peer_port=peer, sysctl=COMMON | profile)
        case.ours = own.steps
        ours.append((own, case.lines, case.role))
    kernel.play(batch)
    for each in ours:
        play_ours(*each)


def shrink(kernel: Kernel, cases: list[Case], rounds: int = 40) -> list[Case]:
    """Leave out lines as long as the difference stays; all cases and all their candidates side by side.

    Also sorts out what was not a difference but an unlucky moment: it must show again.
    """
    done: list[Case] = []
    cases = [case.with_lines(case.lines) for case in cases]
    play_all(kernel, cases)
    cases = [case for case in cases if case.differs()]
    for _ in range(rounds):
        if not cases:
            break
        candidates = {id(case): _shorter(case) for case in cases}
        play_all(kernel, [each for found in candidates.values() for each in found])
        left = []
        for case in cases:
            better = [each for each in candidates[id(case)] if each.differs()]
            if better:
                left.append(min(better, key=lambda each: len(each.lines)))
            else:
                done.append(case)
        cases = left
    return done + cases


def _shorter(case: Case) -> list[Case]:
    found = case.difference()
    end = found[0] + 1 if found else len(case.lines)
    lines = case.lines[:end]
    cuts = [lines[:at] + lines[at + 1 :] for at in range(len(lines)) if lines[at] != "app connect"]
    if len(lines) > 6:
        cuts += [
            lines[:at] + lines[at + 3 :] for at in range(len(lines) - 3) if "app connect" not in lines[at : at + 3]
        ]
    if end < len(case.lines):
        cuts.append(lines)
    return [case.with_lines(cut) for cut in cuts if cut]


def play_all(kernel: Kernel, cases: list[Case]) -> None:
    """Batches by profile."""
    for profile in sorted({case.profile for case in cases}):
        same = [case for case in cases if case.profile == profile]
        for at in range(0, len(same), BATCH):
            play(kernel, same[at : at + BATCH])


def signature(case: Case) -> str:
    """The same kind of difference, roughly."""
    number, _ = case.difference() or (0, "")
    theirs, ours = case.kernel[number], case.ours[number]
    flags = [" ".join(line.split()[0] for line in step.out) for step in (theirs, ours)]
    kind = " ".join(case.lines[number].split()[:2])
    return f"{kind} {theirs.result} {flags[0]} {theirs.state} not {ours.result} {flags[1]} {ours.state}"


def hunt(kernel: Kernel, seed: str, count: int, most: int, batch: int, report: Path | None) -> int:
    """Play `count` scripts; print the shrunk differences. How many there are."""
    began = time.monotonic()
    excused: dict[str, int] = {}
    different: list[Case] = []
    for start in range(0, count, batch):
        profile = start // batch % len(PROFILES)
        cases = []
        for number in range(start, min(start + batch, count)):
            name = f"{seed}/{number}"
            cases.append(Case(name, random_script(name), profile, number % 3 == 2))
        play(kernel, cases)
        for case in cases:
            found = case.difference()
            if found and found[1]:
                excused[found[1]] = excused.get(found[1], 0) + 1
            elif case.differs():
                different.append(case)
    kinds: dict[str, list[Case]] = {}
    for case in different:
        kinds.setdefault(signature(case), []).append(case)
    chosen = [min(same, key=lambda case: len(case.lines)) for same in kinds.values()]
    shrunk = shrink(kernel, sorted(chosen, key=lambda case: len(case.lines))[:most]) if most else chosen
    unique = {"\n".join(case.lines): case for case in shrunk}
    for case in unique.values():
        print(case.show(), "\n")
    facts = {
        "scripts": count,
        "different": len(different),
        "kinds": len(kinds),
        "after shrinking": len(unique),
        "allowed": excused,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(facts))
    if report is not None:
        report.write_text(json.dumps(facts))
    return len(unique) if most else len(different)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--shrink", type=int, default=40, help="kinds of difference to shrink")
    parser.add_argument("--batch", type=int, default=BATCH, help="scripts played side by side, with one set of sysctls")
    parser.add_argument("--script", type=Path)
    parser.add_argument("--profile", type=int, default=0)
    parser.add_argument("--v6", action="store_true")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv, "--inside"])
    kernel = Kernel()
    if args.script is None:
        return 1 if hunt(kernel, args.seed, args.count, args.shrink, args.batch, args.report) else 0
    lines = [line.strip() for line in args.script.read_text().splitlines() if line.strip()]
    case = Case("script", lines, args.profile, args.v6)
    play(kernel, [case])
    print(case.show())
    return 1 if case.differs() else 0


if __name__ == "__main__":
    sys.exit(main())
