"""docs/congestion-control.md says that its example is complete: run it."""

import re
from pathlib import Path

import pytest

from kit.link import Link
from kit.pair import Pair
from stack.tcp import cc
from stack.tcp.options import TcpOptions
from stack.units import MSEC

DOC = Path(__file__).parents[2] / "docs" / "congestion-control.md"


@pytest.fixture
def calm():
    """The example's source, run; the registry is put back afterwards."""
    source = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)[1]
    exec(source, {"__name__": "calm"})
    yield source
    cc.unregister(cc.CONGESTION_CONTROLS["calm"])


def test_the_example_is_short(calm):
    assert len([line for line in calm.splitlines() if line.strip()]) < 40


@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_the_example_fills_a_wire_and_keeps_the_queue_short(calm, loss):
    pair = Pair(Link(rate=20_000_000, delay=10 * MSEC, queue=100_000, loss=loss), Link(delay=10 * MSEC))
    report = pair.transfer(1_500_000, options=TcpOptions(congestion="calm"))
    assert report.intact
    assert report.info.congestion == "calm"
    if not loss:
        assert report.goodput > 14_000_000
        assert report.info.rtt < 25_000
        assert report.retrans_segs == 0
