"""Sysctls and counters of Multipath TCP: Linux's names and defaults, next to the stack's own."""

import errno
import re
import subprocess
from pathlib import Path
from shutil import which

import pytest

from mptcp.config import MptcpSysctl
from mptcp.mib import MptcpMib
from mptcp.pm import PATH_MANAGERS
from mptcp.sched import SCHEDULERS
from stack.config import Sysctl
from stack.errors import UnknownSysctl
from stack.knobs import knob_fields, sysctl_get, sysctl_set, table_of
from stack.mib import mib_items

ROOT = Path(__file__).parent.parent.parent
PROC = Path("/proc/sys/net/mptcp")
OLD = {"net.mptcp.pm_type"}  # path_manager under its former name


def test_a_scheduler_is_set_by_name():
    knobs = MptcpSysctl()
    assert sysctl_set(knobs, "net.mptcp.scheduler", "blest") == "blest"
    assert knobs.scheduler == "blest"
    with pytest.raises(UnknownSysctl, match="none of minrtt") as caught:
        sysctl_set(knobs, "net.mptcp.scheduler", "best")
    assert caught.value.errno == errno.EINVAL


def test_what_there_is_follows_the_registry(monkeypatch):
    knobs = MptcpSysctl()
    monkeypatch.setitem(SCHEDULERS, "mine", SCHEDULERS["minrtt"])
    assert str(sysctl_get(knobs, "net.mptcp.available_schedulers")).endswith(" mine")
    assert sysctl_set(knobs, "net.mptcp.scheduler", "mine") == "mine"
    with pytest.raises(UnknownSysctl) as caught:
        sysctl_set(knobs, "net.mptcp.available_schedulers", "mine")
    assert caught.value.errno == errno.EACCES


def test_the_path_managers_are_those_that_there_are():
    assert sysctl_get(MptcpSysctl(), "net.mptcp.available_path_managers") == " ".join(PATH_MANAGERS)


def test_several_tables_answer_as_one():
    tables = [Sysctl(), MptcpSysctl()]
    assert table_of(tables, "net.ipv4.tcp_sack") is tables[0]
    assert table_of(tables, "net/mptcp/enabled") is tables[1]
    with pytest.raises(UnknownSysctl, match=r"did you mean 'net\.mptcp\.enabled'"):
        table_of(tables, "net.mptcp.enable")
    assert not knob_fields(Sysctl).keys() & knob_fields(MptcpSysctl).keys()


def test_no_counter_is_listed_that_nothing_counts():
    source = "".join(path.read_text() for path in (ROOT / "mptcp").rglob("*.py") if path.name != "mib.py")
    assert not [name for name, _ in mib_items(MptcpMib()) if not re.search(rf"\b{name}\b", source)]


@pytest.mark.skipif(not PROC.exists(), reason="a kernel without MPTCP")
def test_every_knob_is_the_kernels():
    kernel = {f"net.mptcp.{path.name}" for path in PROC.iterdir()}
    if "net.mptcp.path_manager" not in kernel:
        pytest.skip("a kernel older than 6.15 has fewer knobs")
    assert {name for name in knob_fields(MptcpSysctl) if name.startswith("net.")} == kernel - OLD


@pytest.mark.skipif(which("nstat") is None or not PROC.exists(), reason="no nstat, or a kernel without MPTCP")
def test_counters_are_the_kernels_in_its_order():
    lines = subprocess.run(
        ["nstat", "-asz", "--ignore"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    kernel = [line.split()[0] for line in lines if line.startswith("MPTcp")]
    ours = [name for name, value in mib_items(MptcpMib()) if value == 0]
    assert [name for name in kernel if name in ours] == [name for name in ours if name in kernel]
    if "MPTcpExtWinProbe" in kernel:  # 6.18 or later: nothing that it lacks
        assert not {name for name in ours if not name.startswith("Nuse")} - set(kernel)
