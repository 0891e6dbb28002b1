"""The asyncio API on a real TUN device, the kernel's TCP and UDP as its peer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LAB = Path(__file__).with_name("embedded_lab.py")
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def lab(netns, *words):
    """Facts of one scene; the namespace must be as empty afterwards as before."""
    before = netns.traces()
    done = netns.run(sys.executable, LAB, *words, timeout=240)
    assert netns.traces() == before
    return json.loads(done.stdout)


@pytest.mark.parametrize("offload", ["on", "off"])
@pytest.mark.parametrize("version", ["4", "6"])
def test_megabytes_arrive_both_ways(netns, version, offload):
    facts = lab(netns, "transfer", offload, 20_000_000, version)
    assert (facts["up"], facts["down"], facts["faults"]) == (True, True, 0)
    assert facts["TcpInErrs"] == 0


@pytest.mark.parametrize("version", ["4", "6"])
def test_our_client_and_the_kernels_server_agree(netns, version):
    facts = lab(netns, "client", "on", version)
    assert facts == {
        "question": "question",
        "answer": "answer",
        "end": "",
        "names": [True, True],
        "reset": "reset",
        "refused": "refused",
        "faults": 0,
    }


@pytest.mark.parametrize("version", ["4", "6"])
def test_datagrams_fragments_and_port_unreachable(netns, version):
    facts = lab(netns, "datagrams", "on", version)
    assert facts == {"sizes": [1, 1400, 9000], "error": "ConnectionRefusedError", "faults": 0}


def test_the_fetch_example_fetches(netns):
    netns.start(
        sys.executable, "-m", "http.server", "8123", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=EXAMPLES
    )
    netns.run("sh", "-c", "for i in $(seq 50); do nc -z 127.0.0.1 8123 && exit; sleep 0.1; done; exit 1")
    done = netns.run(sys.executable, EXAMPLES / "fetch.py", "8123")
    assert "bytes from 10.64.0.1, rtt" in done.stdout


def test_the_example_of_two_stacks_needs_no_device(netns):
    done = netns.run(sys.executable, EXAMPLES / "two_stacks.py")
    assert done.stdout.startswith("4000000 bytes in")
