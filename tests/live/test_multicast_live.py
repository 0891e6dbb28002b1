"""IGMP and MLD beside the kernel: the same joins, leaves and queries make the same packets, byte for byte."""

import json
import sys
from pathlib import Path

import pytest

LAB = Path(__file__).parent / "multicast_lab.py"
SILENT = {"old query"}  # of no group is there anything to say


@pytest.mark.rfc("3376", "5")
@pytest.mark.rfc("3810", "6")
@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize("which", ["new", "old"])
def test_reports_are_the_kernels_own(netns, family, which):
    out = netns.run(sys.executable, LAB, family, which).stdout
    steps = [json.loads(line) for line in out.splitlines()]
    assert len(steps) == {"new": 18, "old": 4}[which]
    for step in steps:
        assert step["stack"] == step["kernel"], step["step"]
    assert {step["step"] for step in steps if not step["kernel"]} <= SILENT
