"""A program that floods the stack with calls does not starve another: who waits has its turn soon.

Counted and not timed: what is done for the flood while the other program is known to wait for its answer.
"""

import itertools
import subprocess
from pathlib import Path

import pytest

from nuse.loop import monotonic_ns
from nuse.shim import abi
from nuse.shim.session import CALLS, LONG_TURN

from .shim_lab import run_lab

SOURCE = Path(__file__).parent / "shim_scripts" / "flood.c"
THREADS = 4
COUNT = 300  # of the victim's calls
SOON = 2 * CALLS  # calls or pieces of long ones that may come first
GETSOCKNAME = abi.native().calls["getsockname"]


@pytest.fixture(scope="module")
def flood(tmp_path_factory):
    program = tmp_path_factory.mktemp("flood") / "flood"
    subprocess.run(["cc", "-O2", "-pthread", "-o", program, SOURCE], check=True)
    return program


class Watch:
    """Counts what is done for others while a program waits; `worst` is the most at a stretch."""

    def __init__(self, lab):
        self.victim = 0
        self.passed = self.worst = self.turns = 0
        handlers = lab.supervisor._handlers
        for number, handler in list(handlers.items()):
            handlers[number] = self._watched(handler)
        hub = lab.supervisor.hub
        put = hub.in_turn
        hub.in_turn = lambda work: put(lambda: (self._done_for_others(), work()))

    def _watched(self, handler):
        def handle(session, n):
            if n.tid == self.victim:
                self.turns += n.nr == GETSOCKNAME
                self.passed = 0
            else:
                self._done_for_others()
            return handler(session, n)

        return handle

    def _done_for_others(self):
        self.passed = self.passed + 1 if self._waits() else 0
        self.worst = max(self.worst, self.passed)

    def _waits(self):
        """The victim sleeps, which it does in calls that have stopped and nowhere else."""
        try:
            stat = Path(f"/proc/{self.victim}/stat").read_text()
        except OSError:
            return False
        return self.turns > 0 and stat.rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("kind", ["name", "bad", "send", "many"])
def test_who_waits_has_its_turn_soon(flood, kind):
    async def scenario(lab):
        watch = Watch(lab)
        flooding = lab.start(flood, kind, THREADS)
        await lab.until(lambda: flooding.session.calls > 2 * THREADS)
        victim = lab.start(flood, "name", 1, COUNT)
        watch.victim = victim.pid
        assert await victim.wait() == 0
        assert watch.turns == COUNT
        assert watch.worst <= SOON

    run_lab(scenario)


def test_a_long_sendmmsg_sends_all(flood):
    async def scenario(lab):
        assert await lab.start(flood, "many", 1, 3).wait() == 0
        assert lab.stack.mib.UdpOutDatagrams == 3 * 1024

    run_lab(scenario)


def test_after_a_long_turn_of_the_loop_several_calls_are_served(flood):
    """Else each turn that data make long lets one call through, and hundreds of new connections wait for seconds."""

    async def scenario(lab):
        flooding = lab.start(flood, "name", 4 * CALLS)
        await lab.until(lambda: flooding.session.calls > 4 * CALLS)
        seen = [flooding.session.calls]

        def work():
            begun = monotonic_ns()
            while monotonic_ns() - begun < 2 * LONG_TURN:
                pass
            seen.append(flooding.session.calls)
            if len(seen) < 100:
                lab.driver.loop.call_soon(work)

        work()
        await lab.until(lambda: len(seen) == 100)
        served = [after - before for before, after in itertools.pairwise(seen)]
        assert max(served) == CALLS

    run_lab(scenario)
