"""`nuse demo`: an unmodified curl downloads from a kernel web server through our stack, then through the kernel's.

Then once more, over Multipath TCP on two links, one of which is cut half-way (nuse/demo_mptcp.py).

Everything in it belongs to this process: the stack is on a leash, the server ends with its stdin, the veth pair of the
comparison lives in a nameless namespace that ends with its curl. So nothing survives it, not even a kill -9.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, netns

from nuse.background import Background, start_background
from nuse.config import Config
from nuse.debugclient import DebugClient
from nuse.demo_kernel import kernel_curl
from nuse.demo_mptcp import picture, two_links, worked
from nuse.hostnet import free_numbers, privileged
from nuse.hostnet_nat import nft_path, table_name
from nuse.hostnet_netns import resolv_path
from nuse.linkspec import LinkSpec, default_link, parse_link_spec
from nuse.refusal import Refused
from nuse.show_ss import SsOptions, rate, ss_lines

MB = 1_000_000
SIZES = range(1, 4097)
LOOK_EVERY = 0.05  # seconds between looks at the live connection
MEMORY = Path("/dev/shm")
FORMAT = "%{http_code} %{size_download} %{time_total}"


@dataclass(slots=True)
class Download:
    """What curl said about one download."""

    size: int
    seconds: float

    @property
    def bits(self) -> float:
        """Throughput in bit/s."""
        return self.size * 8 / self.seconds

    def __str__(self) -> str:
        return f"{self.size / MB:.0f} MB in {self.seconds:.2f} s, {rate(self.bits)}"


def demo(args: argparse.Namespace) -> int:
    """The whole show; exit status 0 if all of it worked and nothing is left."""
    if args.size not in SIZES:
        raise Refused(f"--size {args.size}: between {SIZES[0]} and {SIZES[-1]} MB")
    curl = shutil.which("curl")
    if curl is None:
        raise Refused("curl is not installed: apt-get install curl")
    if not privileged():
        raise Refused("no privilege to make a network device: run as root (sudo nuse demo)")
    version = subprocess.run([curl, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    _say(f"nuse demo: curl {version}, unmodified, on a TCP/IP stack in pure Python\n")
    with IPRoute() as ip:
        links = [default_link(number) for number in free_numbers(ip, 2)]
    stack = start_background(Config(f"demo-{os.getpid()}", links, offload=not args.no_offload), leashed=True)
    specs = [parse_link_spec(text) for text in stack.links]
    try:
        for warning in stack.warnings:
            _say(f"  note      {warning}")
        with _workplace(args.size * MB) as place, _server(place) as port:
            good = _show(args, curl, stack, specs[0], place, port)
            good &= _show_two_links(curl, stack, specs, place, port)
    finally:
        stack.stop()
    return 0 if _nothing_left(stack, specs) and good else 1


def _show(args: argparse.Namespace, curl: str, stack: Background, spec: LinkSpec, place: Path, port: int) -> bool:
    host, own = spec.host[0].ip, spec.stack[0].ip
    offload = "one packet at a time" if args.no_offload else "64 KB super-segments"
    _say(f"  stack     {own} on {spec.name}, {offload}; the host is {host}")
    _say(f"  server    python3 -m http.server on the host's kernel, {host}:{port}")
    url = f"http://{host}:{port}/file"
    _say(f"\n  $ nuse run -- curl -o copy {url}\n")
    ours, picture = _watched_curl(curl, stack, url, place / "copy")
    if picture is None:
        _say("  (over before the debug socket could look)")
    else:
        *table, info = ss_lines([picture], SsOptions(tcp=True, numeric=True, info=True))
        _say("".join(f"    {line}\n" for line in table) + _wrapped(info.strip(), 108, " " * 6))
    _say("")
    sent, received = _sha256(place / "file"), _sha256(place / "copy")
    (place / "copy").unlink()
    kernels = _parse(kernel_curl(curl, port, place / "copy", ["-w", FORMAT]))
    same = sent == received == _sha256(place / "copy")
    _say(f"  sha256    {sent[:16]}… sent, {received[:16]}… received: {'equal' if same else 'NOT EQUAL'}")
    _say(f"  nuse      {ours}")
    _say(f"  kernel    {kernels} (the same curl and server over a veth pair)")
    _say(f"  ratio     {ours.bits / kernels.bits:.2f}\n")
    return same


def _show_two_links(curl: str, stack: Background, specs: list[LinkSpec], place: Path, port: int) -> bool:
    url = f"http://{specs[0].host[0].ip}:{port}/file"
    _say(f"  $ nuse run --mptcp -- curl -o copy {url}      # Multipath TCP, the kernel's MPTCP at the other end\n")
    copy, file = place / "copy", place / "file"
    command = [curl, "-sS", "-o", str(copy), "-w", FORMAT, url]
    said, story = two_links(command, stack, specs, file.stat().st_size)
    if not story.end:
        _say("  this kernel's server does not speak Multipath TCP (net.mptcp.enabled?): it was plain TCP on one link\n")
        return True
    for line in picture(story, specs):
        _say(f"    {line}")
    same = _sha256(file) == _sha256(copy)
    _say(f"\n  sha256    {'equal' if same else 'NOT EQUAL'}; {_parse(said)}\n")
    return same and worked(story)


def _watched_curl(curl: str, stack: Background, url: str, copy: Path) -> tuple[Download, dict[str, Any] | None]:
    """Run curl under the shim, looking at its connection all the while; the picture is from nearest to half-way."""
    command = [sys.executable, "-m", "nuse", "run", "--name", stack.state.name, "--no-mptcp", "--"]
    command += [curl, "-sS", "-o", str(copy), "-w", FORMAT, url]
    best: dict[str, Any] | None = None
    with (
        DebugClient(stack.state.debug_sock) as debug,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        half = copy.with_name("file").stat().st_size / 2
        while process.poll() is None:
            for row in debug.ask("conns"):
                if row["state"] == "ESTABLISHED" and row["info"]["bytes_received"] and _nearer(row, best, half):
                    best = row
            time.sleep(LOOK_EVERY)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise Refused(f"curl under the shim failed with exit status {process.returncode}")
    return _parse(said), best


def _nearer(row: dict[str, Any], best: dict[str, Any] | None, half: float) -> bool:
    if best is None:
        return True
    return bool(abs(row["info"]["bytes_received"] - half) < abs(best["info"]["bytes_received"] - half))


def _parse(said: str) -> Download:
    code, size, seconds = said.split()
    if code != "200":
        raise Refused(f"the server answered {code}")
    return Download(int(size), float(seconds))


@contextlib.contextmanager
def _workplace(size: int) -> Iterator[Path]:
    """A directory with `file` in it, in memory if there is room for it twice."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 3 * size
    with tempfile.TemporaryDirectory(prefix="nuse-demo-", dir=MEMORY if roomy else None) as name:
        place = Path(name)
        place.chmod(0o755)
        with (place / "file").open("wb") as file:
            for start in range(0, size, MB):
                file.write(os.urandom(min(MB, size - start)))
        yield place


@contextlib.contextmanager
def _server(place: Path) -> Iterator[int]:
    """The web server in a process of its own; yields its port."""
    command = [sys.executable, "-m", "nuse.demo_server", str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        line = process.stdout.readline()
        if not line:
            raise Refused("the demo's web server did not start")
        try:
            yield int(line)
        finally:
            process.stdin.close()
            process.wait()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nothing_left(stack: Background, specs: list[LinkSpec]) -> bool:
    """Look for traces, and say so."""
    name = stack.state.name
    left = []
    with IPRoute() as ip:
        left += [f"device {spec.name}" for spec in specs if ip.link_lookup(ifname=spec.name)]
    if name in netns.listnetns():
        left.append(f"namespace {name}")
    if stack.state.path.exists():
        left.append(str(stack.state.path))
    if resolv_path(name).parent.exists():
        left.append(str(resolv_path(name).parent))
    nft = nft_path()
    if nft:
        tables = subprocess.run([nft, "list", "tables"], capture_output=True, text=True, check=False).stdout
        left += [f"nft table {table}" for spec in specs if (table := table_name(name, spec.name)) in tables]
    names = ", ".join(spec.name for spec in specs)
    _say(f"  left      {', '.join(left) if left else f'nothing: {names}, namespace, nft tables, sockets are gone'}")
    return not left


def _wrapped(text: str, width: int, indent: str) -> str:
    """Words broken into indented lines."""
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
