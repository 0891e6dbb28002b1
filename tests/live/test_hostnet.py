"""Devices, addresses, masquerading, the namespace: made, kept, adopted, removed without a trace."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .conftest import ROOT, traces_of, wait_until

HOLD_TUN = """
import sys, time
from nuse.tun import Tun
tun = Tun(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""

AS_NOBODY = """
import importlib, os, pkgutil, sys
import email.parser, encodings.idna, importlib.metadata, pyroute2, nuse, stack
for package in (nuse, stack):  # afterwards the checkout, and the Python in use, may be closed to us
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from nuse.cli.main import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""

# Most systems have /dev/net/tun open to all, since the device decides; some have not.
OPEN_TO_ALL = [
    "unshare", "-m", "sh", "-c",
    'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && chmod 755 /dev/net && exec "$@"', "sh",
]  # fmt: skip


def addresses(netns, device, namespace=None):
    where = ["ip", "-n", namespace] if namespace else ["ip"]
    out = netns.run(*where, "-o", "addr", "show", "dev", device).stdout
    return {line.split()[3] for line in out.splitlines() if " fe80:" not in line}


def device(netns, name):
    return netns.run("ip", "-d", "-o", "link", "show", "dev", name, check=False).stdout


def test_setup_makes_it_twice_and_removes_it_twice(netns, stack_name):
    for _ in range(2):
        out = netns.setup("up", "--name", stack_name).stdout
        assert "tun0: mtu 1500, host 10.64.0.1/24, fd64::1/64" in out
    assert "qlen 10000" in device(netns, "tun0")
    assert "persist on" in device(netns, "tun0")
    assert addresses(netns, "tun0") == {"10.64.0.1/24", "fd64::1/64"}
    assert addresses(netns, "nuse0", stack_name) == {"10.64.0.2/24", "fd64::2/64"}
    assert "default dev nuse0" in netns.run("ip", "-n", stack_name, "route").stdout
    assert "default dev nuse0" in netns.run("ip", "-n", stack_name, "-6", "route").stdout
    assert "LOWER_UP" in netns.run("ip", "-n", stack_name, "link", "show", "lo").stdout
    assert "nameserver" in Path(f"/etc/netns/{stack_name}/resolv.conf").read_text()
    rules = netns.run("nft", "list", "ruleset").stdout
    assert 'ip saddr 10.64.0.0/24 oifname != "tun0" masquerade' in rules
    assert 'ip6 saddr fd64::/64 oifname != "tun0" masquerade' in rules
    assert netns.run("sysctl", "-n", "net.ipv4.ip_forward").stdout == "1\n"
    for _ in range(2):
        assert netns.setup("down", "--name", stack_name).returncode == 0
        assert netns.traces() == []
        assert traces_of(stack_name) == []


def test_setup_repairs_what_somebody_removed(netns, stack_name):
    netns.setup("up", "--name", stack_name)
    netns.run("ip", "link", "del", "tun0")
    netns.run("ip", "netns", "del", stack_name)
    assert netns.setup("status", "--name", stack_name).stdout.startswith("tun0: missing")
    netns.setup("up", "--name", stack_name)
    assert addresses(netns, "tun0") == {"10.64.0.1/24", "fd64::1/64"}
    assert addresses(netns, "nuse0", stack_name) == {"10.64.0.2/24", "fd64::2/64"}


def test_setup_with_other_links_starts_afresh(netns, stack_name):
    netns.setup("up", "--name", stack_name)
    netns.setup("up", "--name", stack_name, "--link", "tun4", "--link", "tun5,mtu=9000")
    assert device(netns, "tun0") == ""
    assert addresses(netns, "tun4") == {"10.64.4.1/24", "fd64:4::1/64"}
    assert "mtu 9000" in device(netns, "tun5")
    netns.setup("down", "--name", stack_name)
    assert netns.traces() == []


def test_a_link_without_host_address_is_only_brought_up(netns, stack_name):
    netns.setup("up", "--name", stack_name, "--link", "tun0,stack=10.9.9.2/24,stack=10.9.8.2/24")
    assert addresses(netns, "tun0") == set()
    assert "UP" in device(netns, "tun0")
    assert netns.run("nft", "list", "tables").stdout == ""
    assert addresses(netns, "nuse0", stack_name) == {"10.9.9.2/24", "10.9.8.2/24"}


def test_up_adopts_what_setup_made_and_down_leaves_it(netns, stack_name):
    netns.setup("up", "--name", stack_name, "--link", "tun3")
    before = netns.traces()
    netns.nuse("up", "--detach", "--name", stack_name)
    assert netns.run("ping", "-c1", "-W5", "10.64.3.2").returncode == 0
    done = netns.setup("down", "--name", stack_name, check=False)
    assert done.returncode == 2
    assert "is running" in done.stderr
    netns.nuse("down", "--name", stack_name)
    assert netns.traces() == before
    assert "tun3: mtu 1500" in netns.setup("status", "--name", stack_name).stdout
    netns.nuse("up", "--detach", "--name", stack_name)
    netns.nuse("down", "--name", stack_name)
    netns.setup("down", "--name", stack_name)
    assert netns.traces() == []
    assert traces_of(stack_name) == []


def test_up_adopts_a_device_of_the_users_and_leaves_it(netns, stack_name):
    netns.run("ip", "tuntap", "add", "dev", "tun0", "mode", "tun")
    netns.nuse("up", "--detach", "--name", stack_name, "--link", "tun0")
    assert addresses(netns, "tun0") == {"10.64.0.1/24", "fd64::1/64"}
    netns.nuse("down", "--name", stack_name)
    assert "persist on" in device(netns, "tun0")
    assert addresses(netns, "tun0") == set()


def test_up_after_kill_9_cleans_up_and_works(netns, stack_name):
    netns.nuse("up", "--detach", "--name", stack_name)
    pid = int(Path(f"/run/nuse/{stack_name}/pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())
    netns.nuse("up", "--detach", "--name", stack_name)
    assert netns.run("ping", "-c1", "-W5", "10.64.0.2").returncode == 0
    netns.nuse("down", "--name", stack_name)
    assert netns.traces() == []
    assert traces_of(stack_name) == []


def test_down_after_kill_9_removes_every_trace(netns, stack_name):
    netns.nuse("up", "--detach", "--name", stack_name)
    os.kill(int(Path(f"/run/nuse/{stack_name}/pid").read_text()), signal.SIGKILL)
    netns.nuse("down", "--name", stack_name)
    assert netns.traces() == []
    assert traces_of(stack_name) == []


def test_forwarding_stays_until_the_last_stack_leaves(netns, stack_name):
    other = f"{stack_name}b"
    netns.nuse("up", "--detach", "--name", stack_name)
    netns.nuse("up", "--detach", "--name", other)  # takes the next free link by itself
    assert addresses(netns, "tun1") == {"10.64.1.1/24", "fd64:1::1/64"}
    netns.nuse("down", "--name", stack_name)
    assert netns.run("sysctl", "-n", "net.ipv4.ip_forward").stdout == "1\n"
    netns.nuse("down", "--name", other)
    assert netns.traces() == []


def test_forwarding_that_was_on_stays_on(netns, stack_name):
    netns.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    netns.nuse("up", "--detach", "--name", stack_name)
    netns.nuse("down", "--name", stack_name)
    assert netns.traces() == ["net.ipv4.ip_forward on"]


def test_a_down_in_another_namespace_does_not_touch_its_devices(netns, stack_name):
    netns.nuse("up", "--detach", "--name", stack_name)
    os.kill(int(Path(f"/run/nuse/{stack_name}/pid").read_text()), signal.SIGKILL)
    name = f"{stack_name}o"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        elsewhere = ["nsenter", f"--net=/run/netns/{name}"]
        subprocess.run([*elsewhere, "ip", "tuntap", "add", "dev", "tun0", "mode", "tun"], check=True)
        down = [*elsewhere, sys.executable, "-m", "nuse", "down", "--name", stack_name]
        subprocess.run(down, check=True, cwd=ROOT)
        assert "tun0" in subprocess.run(["ip", "-n", name, "link"], capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


# --- refusals


def refused(netns, name, words, *argv):
    done = netns.nuse("up", "--detach", "--name", name, *argv, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("nuse: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert traces_of(name) == []


def test_a_name_in_use_is_refused(netns, stack):
    done = netns.nuse("up", "--detach", "--name", stack.name, check=False)
    assert done.returncode == 2
    assert "is running already" in done.stderr
    assert stack.run("true").returncode == 0


def test_a_device_held_by_a_process_is_refused(netns, stack_name):
    holder = netns.start(sys.executable, "-c", HOLD_TUN, "tun0", stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"open\n"
    netns.run("ip", "link", "set", "tun0", "up")
    refused(netns, stack_name, "device tun0 is in use by another process", "--link", "tun0")


def test_a_device_that_is_no_tun_is_refused(netns, stack_name):
    netns.run("ip", "link", "add", "tun0", "type", "veth", "peer", "name", "eth8")
    refused(netns, stack_name, "it exists and is veth", "--link", "tun0")
    assert "veth" in device(netns, "tun0")


def test_an_address_in_use_is_refused(netns, stack_name):
    netns.run("ip", "link", "add", "eth9", "type", "veth", "peer", "name", "eth8")
    netns.run("ip", "addr", "add", "10.64.0.1/32", "dev", "eth9")
    refused(netns, stack_name, "address 10.64.0.1 is in use on eth9", "--link", "tun0")
    assert netns.traces() == []


def test_a_namespace_of_somebody_else_is_refused(netns, stack_name):
    subprocess.run(["ip", "netns", "add", stack_name], check=True)
    try:
        done = netns.nuse("up", "--detach", "--name", stack_name, check=False)
        assert done.returncode == 2
        assert "exists and is not ours" in done.stderr
        assert netns.traces() == []
        assert Path(f"/run/netns/{stack_name}").exists()
    finally:
        subprocess.run(["ip", "netns", "del", stack_name], check=True)


def test_no_dev_net_tun_is_refused(netns, stack_name):
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh"]
    for argv in (["up", "--name", stack_name], ["run", "--", "true"]):
        done = netns.run(*hidden, sys.executable, "-m", "nuse", *argv, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("nuse: no /dev/net/tun: ")
        assert done.stderr.count("\n") == 1
    assert traces_of(stack_name) == []


def test_no_capability_is_refused(netns, stack_name):
    weak = ["setpriv", "--bounding-set=-net_admin,-sys_admin"]
    for argv in (["nuse", "up", "--name", stack_name], ["nuse", "run", "--", "true"], ["nuse.hostnet", "up"]):
        done = netns.run(*weak, sys.executable, "-m", *argv, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("nuse: no privilege")
        assert done.stderr.count("\n") == 1
    assert traces_of(stack_name) == []


@pytest.fixture
def nobodys_dir():
    """A directory of nobody's, as XDG_RUNTIME_DIR; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="nuse-test-"))
    os.chown(path, 65534, 65534)
    yield path
    shutil.rmtree(path)


def test_a_user_without_root_is_refused(netns, stack_name, nobodys_dir):
    for argv in (["up", "--name", stack_name], ["run", "--", "true"], ["demo"]):
        env = ["env", f"XDG_RUNTIME_DIR={nobodys_dir}"]
        done = netns.run(*env, sys.executable, "-c", AS_NOBODY, *argv, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("nuse: no privilege")
        assert done.stderr.count("\n") == 1
        assert list(nobodys_dir.iterdir()) == []


def test_a_user_runs_a_stack_on_a_device_that_root_prepared(netns, stack_name, nobodys_dir):
    netns.setup("up", "--name", stack_name, "--user", "65534")
    env = ["env", f"XDG_RUNTIME_DIR={nobodys_dir}"]
    stack = netns.start(
        *OPEN_TO_ALL,
        *env,
        sys.executable,
        "-c",
        AS_NOBODY,
        "up",
        "--name",
        stack_name,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "is up: tun0 10.64.0.2/24" in stack.stderr.readline()
    assert netns.run("ping", "-c1", "-W5", "10.64.0.2").returncode == 0
    assert (nobodys_dir / "nuse" / stack_name / "debug.sock").exists()
    stack.send_signal(signal.SIGTERM)
    assert stack.wait(timeout=20) == 0
    assert list(nobodys_dir.iterdir()) == []
    assert "persist on" in device(netns, "tun0")


def test_without_nft_and_iptables_there_is_a_warning_and_a_stack(netns, stack_name, tmp_path):
    (tmp_path / "ip").symlink_to("/usr/bin/env")
    code = "import nuse.hostnet_nat as n; n._SBIN = '/nonexistent'; from nuse.cli.main import main; main()"
    argv = [sys.executable, "-c", code, "up", "--detach", "--name", stack_name]
    done = netns.run("env", f"PATH={tmp_path}", *argv)
    assert "no nft and no iptables" in done.stderr
    assert netns.run("ping", "-c1", "-W5", "10.64.0.2").returncode == 0
    netns.nuse("down", "--name", stack_name)
