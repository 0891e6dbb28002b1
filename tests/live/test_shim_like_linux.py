"""The same programs on the kernel and on the stack must say the same, but for the deviations in docs/shim.md."""

import os
import subprocess
from pathlib import Path

import pytest

from .shim_lab import PYTHON, run_lab

SCRIPTS = Path(__file__).parent / "shim_scripts"
PROGRAMS = (
    "streams", "connects", "resets", "datagrams", "ancillary", "tcpoptions", "urgent", "processes", "calls", "crowd",
)  # fmt: skip
STREAMS = ("streams", "connects", "resets", "tcpoptions", "processes", "calls", "crowd")
DEVIATIONS = {
    "streams": {
        "fresh polls": ("OUT|HUP", "OUT"),  # an AF_UNIX socket with a peer has no HUP
    },
    "resets": {  # reads end well after the peer's FIN, and what shows ERR would make them fail
        "is answered with a reset": ("IN|OUT|ERR|HUP|RDHUP", "IN|OUT|HUP|RDHUP"),
    },
}

UPGRADED = {
    "resets": {  # a kernel's MPTCP socket says the same: nothing tells it that nobody reads any more
        "is answered with a reset": ("IN|OUT|ERR|HUP|RDHUP", "IN|OUT|RDHUP"),
        "second send": ("EPIPE", "1"),
    },
}


def deviates(script, kernel, stack, upgrade):
    label = kernel.partition(": ")[0]
    known = [table.get(script, {}).get(label) for table in (DEVIATIONS, *([UPGRADED] if upgrade == "on" else []))]
    return any((kernel, stack) == tuple(f"{label}: {each}" for each in pair) for pair in known if pair)


@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize(
    ("script", "upgrade"), [*((each, "auto") for each in PROGRAMS), *((each, "on") for each in STREAMS)]
)
def test_a_program_says_the_same_as_on_linux(script, family, upgrade):
    """Also if its TCP sockets become MPTCP's, without its knowledge."""
    env = os.environ | {"FAMILY": family, "PYTHONUNBUFFERED": "1"}
    path = SCRIPTS / f"{script}.py"
    done = subprocess.run([PYTHON, path], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kernel = done.stdout.splitlines()

    async def scenario(lab):
        stack = (await lab.check_output(PYTHON, path, env=env)).splitlines()
        different = [pair for pair in zip(kernel, stack, strict=False) if pair[0] != pair[1]]
        assert [pair for pair in different if not deviates(script, *pair, upgrade)] == []
        assert len(kernel) == len(stack)

    run_lab(scenario, upgrade=upgrade)
