"""docs/path-managers.md says that its example is complete: run it."""

import re
from pathlib import Path

import pytest

from kit.mpmeta import LINK_A, LINK_B, SERVER, FakeHost, FakeMeta
from mptcp.pm import PATH_MANAGERS
from stack.knobs import sysctl_set

DOC = Path(__file__).parents[2] / "docs" / "path-managers.md"


@pytest.fixture
def host():
    """A host that uses the example; the registry is put back afterwards."""
    source = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)[1]
    assert len([line for line in source.splitlines() if line.strip()]) < 20
    exec(source, {"__name__": "standby"})
    made = FakeHost()
    sysctl_set(made.sysctl, "net.mptcp.path_manager", "standby")
    yield made
    del PATH_MANAGERS["standby"]


def test_the_example_keeps_one_path_in_reserve(host):
    meta = FakeMeta(host).established()
    assert meta.ways() == [(LINK_A, SERVER[0]), (LINK_B, SERVER[0])]
    assert [each.backup for each in meta.subflows] == [False, True]
    meta.end(meta.subflows[1], 0)
    meta.paths.on_timeout(meta.paths.deadline)
    assert len(meta.subflows) == 2


def test_every_path_manager_is_in_the_table(host):
    text = DOC.read_text()
    assert all(f"| `{name}` |" in text for name in PATH_MANAGERS if name != "standby")
