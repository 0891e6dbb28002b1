"""The quick ones of scripts/programs: real servers and clients on one stack, with what they transfer checked."""

import json
import sys
from pathlib import Path

import pytest

from .shim_lab import PYTHON, run_lab

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def quick_programs():
    sys.path.insert(0, str(SCRIPTS))
    try:
        from programlib.table import PROGRAMS
    finally:
        sys.path.remove(str(SCRIPTS))
    return [each for each in PROGRAMS.values() if each.quick]


@pytest.mark.parametrize("program", quick_programs(), ids=lambda program: program.name)
def test_a_real_program(program, tmp_path):
    if program.missing:
        pytest.skip(f"not installed: {', '.join(program.missing)}")

    async def scenario(lab):
        said = await lab.check_output(
            PYTHON, "-P", SCRIPTS / "programs", "--child", program.name, "--brief", "--dir", tmp_path
        )
        outcome = json.loads(said.splitlines()[-1])
        assert outcome["works"], outcome["note"]

    run_lab(scenario)
