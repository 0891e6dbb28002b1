"""A fixed selection of the differential test: whatever script, our stack answers as the kernel does.

`tests/live/differential.py --seed N --count 5000` hunts for more; what it finds becomes a trace in test_like_linux.py.
"""

import json
import subprocess
import sys
from pathlib import Path

DIFFERENTIAL = Path(__file__).with_name("differential.py")
SCRIPTS = 480  # 60 for each profile of sysctls


def test_our_answers_are_the_kernels(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, DIFFERENTIAL, "--seed", "ci", "--count", SCRIPTS, "--batch", "60", "--report", report]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(report.read_text())
    assert facts["scripts"] == SCRIPTS
    assert sum(facts["allowed"].values()) < SCRIPTS // 4, "the exceptions are becoming the rule"
