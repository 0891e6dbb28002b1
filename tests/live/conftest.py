"""Namespaces and stacks for live tests. Each test gets its own, so that nothing collides, and nothing is left over.

A `Host` is a network namespace that plays the host: devices, addresses and nft tables made in it are its own, and the
kernel's TCP in it is the peer. We enter it with nsenter and not `ip netns exec`, whose private mounts would hide
the namespaces that nuse makes.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}
TIMEOUT = 60  # seconds for one command
_numbers = itertools.count(1)


def unique(prefix):
    """A name that no other test run on this machine uses; short enough for a device."""
    return f"{prefix}{os.getpid():x}x{next(_numbers)}"


class Host:
    """A network namespace as host of one or more stacks."""

    def __init__(self):
        self.name = unique("nt")
        self.path = f"/run/netns/{self.name}"
        self._processes = []

    def make(self):
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        for word in FORWARDING:  # a new namespace inherits what the machine's first one has
            self.run("sysctl", "-qw", f"{word}=0", check=False)
        # BBR, where it is the default, paces itself far below what a local link can do.
        self.run("sysctl", "-qw", "net.ipv4.tcp_congestion_control=cubic", check=False)

    def remove(self):
        for process in self._processes:
            process.kill()
            process.communicate()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def command(self, *argv):
        """`argv` as a command that runs in here."""
        return ["nsenter", f"--net={self.path}", *map(str, argv)]

    def run(self, *argv, check=True, **kwargs):
        """Run to the end, with the output as text."""
        kwargs = {"capture_output": True, "text": True, "timeout": TIMEOUT, "env": ENV} | kwargs
        done = subprocess.run(self.command(*argv), check=False, **kwargs)
        if check and done.returncode:
            pytest.fail(f"{' '.join(map(str, argv))} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *argv, **kwargs):
        """Start and return the process, which is killed with the namespace."""
        process = subprocess.Popen(self.command(*argv), **({"env": ENV} | kwargs))
        self._processes.append(process)
        return process

    def nuse(self, *argv, **kwargs):
        """A nuse command."""
        return self.run(sys.executable, "-m", "nuse", *argv, **kwargs)

    def start_nuse(self, *argv, **kwargs):
        """A nuse command that goes on."""
        return self.start(sys.executable, "-m", "nuse", *argv, **kwargs)

    def setup(self, *argv, **kwargs):
        """What scripts/setup-tun.sh runs."""
        return self.run(sys.executable, "-m", "nuse.hostnet", *argv, **kwargs)

    def traces(self):
        """What a stack could have left here: devices, tables, forwarding."""
        devices = self.run("ip", "-o", "link").stdout.splitlines()
        found = [line.split(": ")[1] for line in devices if not line.split(": ")[1].startswith(("lo", "eth", "ifb"))]
        found += self.run("nft", "list", "tables", check=False).stdout.splitlines()
        found += [f"{word} on" for word in FORWARDING if self.run("sysctl", "-n", word).stdout.strip() != "0"]
        return found


FORWARDING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")


class RunningStack:
    """A stack that was brought up with `nuse up --detach` in a `Host`."""

    def __init__(self, host, name):
        self.host = host
        self.name = name
        self.state = Path("/run/nuse") / name
        self.own, self.peer = "10.64.0.2", "10.64.0.1"
        self.own6, self.peer6 = "fd64::2", "fd64::1"

    @property
    def pid(self):
        return int((self.state / "pid").read_text())

    def run(self, *argv, **kwargs):
        """Run a program on the stack, in the stack's namespace."""
        return self.host.nuse("run", "--name", self.name, "--", *argv, **kwargs)

    def start(self, *argv, **kwargs):
        """Start a program on the stack."""
        return self.host.start_nuse("run", "--name", self.name, "--", *argv, **kwargs)

    def ask(self, verb, *argv, **kwargs):
        """`nuse VERB …` about this stack."""
        return self.host.nuse(verb, "--name", self.name, *argv, **kwargs).stdout

    def survivors(self):
        """Pids of processes that were left behind to see to programs of this stack, or will be."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_one = (process / "comm").read_text() == "nuse-survivor\n"
                if is_one and self.name.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found


def traces_of(name):
    """What a stack could have left outside its host's namespace."""
    places = [Path("/run/nuse") / name, Path("/run/netns") / name, Path("/etc/netns") / name]
    return [str(place) for place in places if place.exists()]


def wait_until(true, seconds=10.0):
    """Poll until `true()`; fails the test if it never is."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(0.02)
    return found


@pytest.fixture
def netns():
    """A namespace that plays the host."""
    host = Host()
    host.make()
    yield host
    host.remove()


@pytest.fixture
def stack_name():
    """A name for a stack; whatever the test leaves of it is removed, and makes no trace for the next one."""
    name = unique("st")
    yield name
    for module in ("nuse", "nuse.hostnet"):
        with contextlib.suppress(subprocess.SubprocessError):
            command = [sys.executable, "-m", module, "down", "--name", name]
            subprocess.run(command, env=ENV, capture_output=True, timeout=60, check=False)


@pytest.fixture
def stack(netns, stack_name):
    """A stack with the default link, tun0, up in a host of its own."""
    netns.nuse("up", "--detach", "--name", stack_name)
    yield RunningStack(netns, stack_name)
    netns.nuse("down", "--name", stack_name, check=False)
