"""Where measuring happens: network namespaces of our own, removed whatever happens.

    kernel     PEER ── veth ── SERVER      both ends of TCP are the kernel's
    embedded   PEER ── tunN ── this stack in a process of its own
    shim       PEER ── tunN ── this stack under `nuse run`, peer.c unmodified on it

PEER runs cubic (a BBR sender is slow on a fast local link) and its TUN devices have a txqueuelen of 10000. Where the
machine's default is another, it must permit namespaces to choose cubic, which it does meanwhile.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
PREFIX = "nuse-bench-"
PORT = 7000
KNOBS = {
    "net.ipv4.tcp_congestion_control": "cubic",
    "net.ipv4.tcp_no_metrics_save": "1",
    "net.ipv4.ip_local_port_range": "10000 65000",
    "net.ipv4.tcp_tw_reuse": "1",
}
ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")  # the machine's; a namespace chooses among these
SIOCETHTOOL = 0x8946
ETHTOOL_SETS = {"rx": 0x15, "tx": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}


class BenchError(Exception):
    """Why it cannot be measured; one line."""


class Arena:
    """The namespaces and every process in them. Use with `with`."""

    def __init__(self) -> None:
        self.peer_ns = f"{PREFIX}{os.getpid()}-peer"
        self.server_ns = f"{PREFIX}{os.getpid()}-server"
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.peer = self.directory / "peer"
        self._children: list[subprocess.Popen[bytes]] = []
        self._allowed = ""  # congestion controls that namespaces could choose before

    def __enter__(self) -> "Arena":
        try:
            _check_needs()
            _remove_leftovers()
            command = [os.environ.get("CC", "cc"), "-O2", "-o", str(self.peer), str(HERE / "peer.c")]
            subprocess.run(command, check=True)
            self._permit_cubic()
            for name in (self.peer_ns, self.server_ns):
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
                settings = [f"{knob}={value}" for knob, value in KNOBS.items()]
                self.run(name, ["sysctl", "-qw", *settings])
            _ip(
                "-n",
                self.peer_ns,
                "link",
                "add",
                "veth0",
                "type",
                "veth",
                "peer",
                "name",
                "veth1",
                "netns",
                self.server_ns,
            )
            for name, device, addr in ((self.peer_ns, "veth0", 1), (self.server_ns, "veth1", 2)):
                _ip("-n", name, "addr", "add", f"10.99.0.{addr}/24", "dev", device)
                _ip("-n", name, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            _stop(child)
        for name in (self.peer_ns, self.server_ns):
            remove_namespace(name)
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._allowed:
            ALLOWED.write_text(self._allowed)

    def _permit_cubic(self) -> None:
        allowed = ALLOWED.read_text()
        if "cubic" not in allowed.split():
            ALLOWED.write_text(f"{allowed.strip()} cubic")
            self._allowed = allowed

    def run(self, namespace: str, command: list[str], timeout: float = 60) -> str:
        """Output of a command in a namespace."""
        words = ["ip", "netns", "exec", namespace, *command]
        try:
            done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{' '.join(command)}: no end after {timeout:.0f} s") from None
        if done.returncode:
            raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def start(self, namespace: str, command: list[str]) -> subprocess.Popen[bytes]:
        """A process in a namespace, ended with the arena at the latest."""
        env = dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'scripts'}")
        log = (self.directory / f"log{len(self._children)}").open("wb")
        child = subprocess.Popen(["ip", "netns", "exec", namespace, *command], env=env, stdout=log, stderr=log)
        self._children.append(child)
        return child

    def stop(self, child: subprocess.Popen[bytes]) -> str:
        """End a process; what it said on stderr and stdout."""
        _stop(child)
        return (self.directory / f"log{self._children.index(child)}").read_text(errors="replace")

    def measure(
        self, verb: str, addr: str, seconds: float, cpu: int | None = None, *, mptcp: bool = False
    ) -> dict[str, Any]:
        """One run of peer.c's client."""
        pin = [] if cpu is None else ["taskset", "-c", str(cpu)]
        words = [*pin, str(self.peer), verb, addr, str(PORT), str(seconds), *(["mptcp"] if mptcp else [])]
        result: dict[str, Any] = json.loads(self.run(self.peer_ns, words, timeout=seconds * 4 + 30))
        return result

    def set_veth_offload(self, wanted: bool) -> None:
        """Segmentation and checksum offload of both veth ends."""
        for namespace, device in ((self.peer_ns, "veth0"), (self.server_ns, "veth1")):
            code = f"from benchlib.arena import set_offload; set_offload({device!r}, {wanted})"
            env = f"PYTHONPATH={ROOT / 'scripts'}"
            self.run(namespace, ["env", env, sys.executable, "-c", code])


def set_offload(device: str, wanted: bool) -> None:
    """What `ethtool -K DEVICE rx,tx,tso,gso,gro on|off` does, here and now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in ETHTOOL_SETS.values():
            value = bytearray(struct.pack("II", command, int(wanted)))
            address = _address_of(value)
            with contextlib.suppress(OSError):
                fcntl.ioctl(sock, SIOCETHTOOL, struct.pack("16sP16x", device.encode(), address))


def _address_of(buffer: bytearray) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _check_needs() -> None:
    if os.geteuid() != 0:
        raise BenchError("needs root, for network namespaces and TUN devices")
    if not Path("/dev/net/tun").exists():
        raise BenchError("no /dev/net/tun: modprobe tun")
    for tool in ("ip", os.environ.get("CC", "cc"), "taskset", "sysctl"):
        if shutil.which(tool) is None:
            raise BenchError(f"needs {tool!r} (Debian: apt install iproute2 gcc util-linux procps)")


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def remove_namespace(name: str) -> None:
    pids = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True).stdout.split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    deadline = time.monotonic() + 2
    while pids and time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _remove_leftovers() -> None:
    """What a bench that was killed hard left behind."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        name = line.split()[0] if line.split() else ""
        if name.startswith(PREFIX) and not _is_bench(name.removeprefix(PREFIX).split("-")[0]):
            remove_namespace(name)
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        if not _is_bench(directory.name.removeprefix(PREFIX).split("-")[0]):
            shutil.rmtree(directory, ignore_errors=True)


def _is_bench(pid: str) -> bool:
    """Is that process a bench that runs? A zombie has no command line."""
    try:
        return b"bench" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
