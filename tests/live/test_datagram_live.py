"""UDP and raw endpoints against the kernel: super-datagrams, fragments, errors, groups, with and without offload."""

import json
import sys
from pathlib import Path

import pytest

LAB = Path(__file__).parent / "datagram_lab.py"
PIECES = [1000] * 10 + [500]


@pytest.mark.parametrize("offload", ["on", "off"])
@pytest.mark.parametrize("family", ["4", "6"])
def test_the_kernel_and_the_stack_exchange_datagrams_of_every_kind(netns, family, offload):
    facts = json.loads(netns.run(sys.executable, LAB, family, offload).stdout)
    assert facts["segments_out"] == {"sizes": PIECES, "same": True}
    assert facts["segments_in"] == {"sizes": PIECES, "segment": [0] * 11, "same": True}
    whole = {"sizes": [10_500], "segment": [1000], "same": True}  # the kernel hands it over as one
    assert facts["super_in"] == (whole if offload == "on" else facts["segments_in"])
    refused = {"errno": "ECONNREFUSED", "icmp": [3, 3] if family == "4" else [1, 4], "offender": True}
    assert facts["errors"] == {**refused, "payload": "nobody there", "raw": 1}
    assert facts["fragments"] == {"out": True, "in": True}
    both = ["from the kernel", "from the stack"]
    assert facts["group"] == {"kernel": both, "stack": both}
