"""TCP Fast Open, RFC 7413, against the kernel in both roles."""

import json
import sys
from pathlib import Path

import pytest

LAB = Path(__file__).with_name("fastopen_lab.py")


@pytest.mark.rfc("7413", "4.2")
@pytest.mark.parametrize("version", ["4", "6"])
def test_the_kernel_puts_text_into_its_syn(netns, version):
    facts = json.loads(netns.run(sys.executable, LAB, "serve", version).stdout)
    assert facts == {
        "rounds": [["answer", False], ["answer", True], ["answer", True]],
        "asked": 1,
        "fast": 2,
        "faults": 0,
    }


@pytest.mark.rfc("7413", "4.2")
@pytest.mark.parametrize("version", ["4", "6"])
def test_the_kernel_takes_text_from_ours(netns, version):
    facts = json.loads(netns.run(sys.executable, LAB, "connect", version).stdout)
    assert facts == {"rounds": [["question", "answer"]] * 3, "fast": 2, "failed": 0, "faults": 0}
