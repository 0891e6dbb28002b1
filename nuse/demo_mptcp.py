"""The demo's second half: the same curl, now over Multipath TCP on two links, of which one is cut in the middle.

Both links are slowed down by the stack's own impairment, or the download would be over before anybody could cut
anything. What is shown was seen through the debug socket while it ran.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nuse.background import Background
from nuse.debugclient import DebugClient
from nuse.linkspec import LinkSpec
from nuse.refusal import Refused
from nuse.show_ss import rate

SLOW = "rate 200mbit delay 5ms"
DEAD = "loss 100%"
LOOK_EVERY = 0.002  # seconds between looks at the live connection


@dataclass(slots=True, eq=False)
class Story:
    """What was seen of one download."""

    received: int = 0
    moved_at: float = 0.0  # when bytes were last seen to arrive
    cut_at: float = 0.0
    stall: float = 0.0  # the longest time without any, since the cut
    half: list[dict[str, Any]] = field(default_factory=list)  # the subflows when the link was cut …
    end: dict[int, dict[str, Any]] = field(default_factory=dict)  # … and each when it was last seen
    fallback: str = ""


def two_links(command: list[str], stack: Background, specs: list[LinkSpec], size: int) -> tuple[str, Story]:
    """Run curl; cut the first link half-way. Returns what curl said, and the story. Raises Refused."""
    story = Story()
    run = [sys.executable, "-m", "nuse", "run", "--name", stack.state.name, "--mptcp=on", "--", *command]
    with DebugClient(stack.state.debug_sock) as debug:
        for spec in specs:
            debug.ask("link", spec.name, "impair", *SLOW.split())
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
            for rows in _looks(debug, process):
                _look(story, rows)
                if not story.cut_at and story.received > size // 2:
                    story.half = list(story.end.values())
                    story.cut_at = story.moved_at = time.monotonic()
                    debug.ask("link", specs[0].name, "impair", *DEAD.split())
            assert process.stdout is not None
            said = process.stdout.read()
        for spec in specs:
            debug.ask("link", spec.name, "impair", "clear")
    if process.returncode:
        raise Refused(f"curl over two links failed with exit status {process.returncode}")
    return said, story


def _looks(debug: DebugClient, process: "subprocess.Popen[str]") -> Iterator[list[dict[str, Any]]]:
    while process.poll() is None:
        found = debug.ask("mptcp")
        received = {row["id"]: row["info"]["bytes_received"] for row in debug.ask("conns")} if found else {}
        yield [sub | {"received": received.get(sub["conn"], 0)} for row in found for sub in row["subflows"]]
        time.sleep(LOOK_EVERY)


def _look(story: Story, subflows: list[dict[str, Any]]) -> None:
    for sub in subflows:
        if sub["received"] or sub["id"] not in story.end:
            story.end[sub["id"]] = sub
    total = sum(sub["received"] for sub in story.end.values())
    now = time.monotonic()
    if story.cut_at and total <= story.received:
        story.stall = max(story.stall, now - story.moved_at)
    if total > story.received:
        story.received, story.moved_at = total, now


def table(subflows: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each subflow."""
    for sub in subflows:
        first = "the first" if sub["initial"] else "joined"
        yield (
            f"subflow {sub['id']}  {sub['local']} → {sub['remote']} on {sub['link']}, {first}: "
            f"{sub['received'] / 1e6:.1f} MB received, rtt {sub['srtt_ms']:.1f} ms"
        )


def picture(story: Story, specs: list[LinkSpec]) -> Iterator[str]:
    """The story in lines."""
    yield f"half-way, both links at {rate(200e6)}:"
    yield from (f"  {line}" for line in table(story.half))
    yield f"then {specs[0].name} loses everything, and says nothing. At the end:"
    yield from (f"  {line}" for line in table(list(story.end.values())))
    yield f"hand-over: {story.stall * 1000:.0f} ms were the longest without a byte (the kernel sends here, and waits"
    yield "  for a retransmission time-out; nuse as the sender goes on as soon as an acknowledgment is late)"


def worked(story: Story) -> bool:
    """Both links carried something, and after the cut the other went on."""
    return bool(story.cut_at) and len(story.half) > 1 and all(sub["received"] for sub in story.half)
