"""docs/schedulers.md says that its example is complete: run it."""

import re
from pathlib import Path

import pytest

from kit.paths import SimPath, Transfer
from mptcp.sched import SCHEDULERS, make_scheduler
from stack.units import MSEC

DOC = Path(__file__).parents[2] / "docs" / "schedulers.md"
MBIT = 125_000


@pytest.fixture
def overflow():
    """The example's source, run; the registry is put back afterwards."""
    source = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)[1]
    exec(source, {"__name__": "overflow"})
    yield source
    del SCHEDULERS["overflow"]


def test_the_example_is_short(overflow):
    assert len([line for line in overflow.splitlines() if line.strip()]) < 30


@pytest.mark.parametrize(("write_rate", "helped"), [(4 * MBIT, False), (0, True)])
def test_the_example_uses_the_second_path_only_under_load(overflow, write_rate, helped):
    paths = [SimPath(1, 10 * MBIT, 20 * MSEC), SimPath(2, 10 * MBIT, 20 * MSEC, weight=9)]
    done = Transfer(paths, make_scheduler("overflow"), 2_000_000, write_rate=write_rate).run()
    assert done.snd_una == 2_000_000
    assert paths[1].carried > 0
    assert bool(paths[0].carried) is helped


def test_every_scheduler_is_in_the_table():
    named = set(re.findall(r"^\| `(\w+)` \|", DOC.read_text(), re.MULTILINE))
    assert set(SCHEDULERS) <= named
