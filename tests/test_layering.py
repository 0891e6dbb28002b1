"""Who may import whom: `stack ← mptcp ← nuse`, and inside `stack` leaves ← wire ← ip, organs ← connection ← host.

Reads the source only; an import under `if TYPE_CHECKING` counts as one, except where a rule says otherwise.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

IMPURE = {"os", "io", "socket", "select", "selectors", "ssl", "signal", "subprocess", "time", "datetime", "threading"}
IMPURE |= {"multiprocessing", "concurrent", "asyncio", "logging", "random", "secrets", "tempfile", "pathlib", "fcntl"}

# A third-party package and the files where it may appear (a prefix each).
THIRD_PARTY = {
    "dpkt": ("stack/ip/icmp", "nuse/capture", "nuse/decode"),
    "pytun": ("nuse/tun",),
    "uvloop": ("nuse/loop",),
    "pyroute2": ("nuse/hostnet", "nuse/demo"),  # the demo makes its own far end
}

# Lower number: may not import a higher one. The first matching prefix counts.
LEVELS = [
    ("stack.units", 0),
    ("stack.seq", 0),
    ("stack.minmax", 0),
    ("stack.checksum", 0),
    ("stack.errors", 0),
    ("stack.events", 0),
    ("stack.errqueue", 0),
    ("stack.config", 0),
    ("stack.knobs", 0),
    ("stack.mib", 0),
    ("stack.entropy", 0),
    ("stack.wire", 1),
    ("stack.ip", 2),
    ("stack.tcp.sendq", 2),
    ("stack.tcp.recvq", 2),
    ("stack.tcp.scoreboard", 2),
    ("stack.tcp.rtt", 2),
    ("stack.tcp.pacing", 2),
    ("stack.tcp.timers", 2),
    ("stack.tcp.isn", 2),
    ("stack.tcp.cc", 2),
    ("stack.tcp", 3),
    ("stack.dgram", 3),
    ("stack.dgram_options", 3),
    ("stack.udp", 3),
    ("stack.udp_demux", 3),
    ("stack.raw", 3),
    ("stack.echo", 3),
    ("stack.host", 4),
]
ORGANS = ("sendq", "recvq", "scoreboard", "rtt", "pacing", "timers", "isn", "cc")
MPTCP_MAY_USE = ("stack.units", "stack.seq", "stack.checksum", "stack.errors", "stack.wire", "stack.tcp.extension")
MPTCP_MAY_USE += ("stack.tcp.cc", "stack.knobs", "stack.events", "stack.ip.addr")
# Organs that know no connection: the queues, the buffer and the options serve data as they serve segments.
MPTCP_MAY_USE += tuple(f"stack.tcp.{name}" for name in ("sendq", "recvq", "rcvbuf", "options", "state", "timers"))


class Import(NamedTuple):
    """One imported module, and the file and line that want it."""

    path: str
    line: int
    module: str
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def imports_of(path: Path) -> Iterator[Import]:
    """Every import statement of a file; `from a import b` gives `a.b` if that is a module of ours, else `a`."""
    tree = ast.parse(path.read_text(), str(path))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    where = str(path.relative_to(ROOT))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}:{node.lineno}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                file = ROOT / inner.replace(".", "/")
                is_module = file.is_dir() or file.with_suffix(".py").exists()
                names.append(inner if is_module else str(node.module))
        for name in names:
            yield Import(where, node.lineno, name, id(node) in guarded)


def all_imports(package: str) -> list[Import]:
    return [found for path in sorted((ROOT / package).rglob("*.py")) for found in imports_of(path)]


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def level(module: str) -> int:
    return next((n for prefix, n in LEVELS if within(module, prefix)), 5)


def refuse(bad: list[Import], why: str) -> None:
    assert not bad, f"{why}:\n  " + "\n  ".join(map(str, bad))


def test_stack_does_no_io_and_reads_no_clock():
    refuse([i for i in all_imports("stack") if i.module.split(".")[0] in IMPURE], "stack/ is sans-IO")


def test_mptcp_does_no_io_and_reads_no_clock():
    refuse([i for i in all_imports("mptcp") if i.module.split(".")[0] in IMPURE - {"secrets"}], "mptcp/ is sans-IO")


def test_packages_import_only_downwards():
    refuse(
        [i for i in all_imports("stack") if within(i.module, "mptcp") or within(i.module, "nuse")], "stack is lowest"
    )
    refuse([i for i in all_imports("mptcp") if within(i.module, "nuse")], "mptcp knows no runtime")


def test_mptcp_uses_the_extension_api_alone():
    bad = [
        i
        for i in all_imports("mptcp")
        if within(i.module, "stack") and i.module != "stack" and not i.typing_only
        if not any(within(i.module, ok) for ok in MPTCP_MAY_USE)
    ]
    refuse(bad, "mptcp/ stands on stack's public names")


@pytest.mark.parametrize("package", ["stack", "mptcp", "nuse"])
def test_third_party_packages_stay_where_they_belong(package):
    bad = []
    for found in all_imports(package):
        top = found.module.split(".")[0]
        if top in sys.stdlib_module_names or top in ("stack", "mptcp", "nuse"):
            continue
        if not found.path.startswith(THIRD_PARTY.get(top, ())):
            bad.append(found)
    refuse(bad, "a third-party import outside its place")


def test_stack_is_layered():
    bad = [
        i
        for i in all_imports("stack")
        if within(i.module, "stack") and not i.typing_only and level(i.module) > level(module_name(i.path))
    ]
    refuse(bad, "an import that points upwards")


def test_organs_know_neither_the_connection_nor_one_another():
    bad = []
    for found in all_imports("stack/tcp"):
        parts = module_name(found.path).split(".")
        me = parts[2] if len(parts) > 2 else ""
        if me in ORGANS and within(found.module, "stack.tcp") and not within(found.module, f"stack.tcp.{me}"):
            bad.append(found)
    refuse(bad, "an organ of tcp/ that knows its body")


def test_only_the_loop_and_the_driver_read_the_monotonic_clock():
    bad = []
    for path in sorted((ROOT / "nuse").rglob("*.py")):
        where = str(path.relative_to(ROOT))
        if where.startswith(("nuse/loop", "nuse/driver")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "monotonic_ns":
                bad.append(Import(where, node.lineno, "time.monotonic_ns", False))
    refuse(bad, "time is read once per wake-up, by the driver")
