"""Impairment at the device boundary, against the kernel: what it says happens, and the stream survives it."""

import re
import subprocess
import sys

import pytest

from live.test_aio_live import lab

HUNDRED_MB = 100_000_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["4", "6"])
def test_a_hundred_megabytes_survive_loss_and_reordering(netns, version):
    facts = lab(netns, "transfer", "on", HUNDRED_MB, version, "delay 200us loss 1% reorder 2% seed 7")
    assert (facts["up"], facts["down"], facts["faults"]) == (True, True, 0)
    for direction in ("egress", "ingress"):
        stats = facts["impair"][direction]
        assert stats["packets"] > 70_000
        assert 0.008 < stats["lost"] / stats["packets"] < 0.012
        assert stats["reordered"] > 1000
    assert facts["TcpRetransSegs"] > 500


@pytest.mark.parametrize("offload", ["on", "off"])
def test_corruption_is_caught_by_checksums_on_both_sides(netns, offload):
    words = "delay 100us corrupt 1% duplicate 1% seed 3"
    facts = lab(netns, "transfer", offload, 5_000_000, "4", words)
    assert (facts["up"], facts["down"], facts["faults"]) == (True, True, 0)
    assert facts["TcpInCsumErrors"] > 10
    assert facts["impair"]["egress"]["corrupted"] > 10


def test_ping_sees_the_delay(netns, stack):
    def rtt():
        out = netns.run("ping", "-c", "5", "-i", "0.05", "-q", stack.own).stdout
        return float(re.search(r"= [\d.]+/([\d.]+)/", out).group(1))

    assert rtt() < 10
    stack.ask("link", "set", "tun0", "impair", "delay", "20ms")
    assert 40 <= rtt() < 60
    stack.ask("link", "set", "tun0", "impair", "delay", "30ms", "egress")
    assert 50 <= rtt() < 70
    assert "30ms" in stack.ask("link", "-s", "-j")
    stack.ask("link", "set", "tun0", "impair", "clear")
    assert rtt() < 10


def test_ping_sees_the_losses(netns, stack):
    stack.ask("link", "set", "tun0", "impair", "loss", "pattern", "0001", "ingress")
    out = netns.run("ping", "-c", "40", "-i", "0.01", "-W", "1", "-q", stack.own, check=False).stdout
    # A quarter, but for the router solicitations that the kernel sends as well.
    assert 20 <= float(re.search(r"([\d.]+)% packet loss", out).group(1)) <= 30


def test_a_rate_limits_the_kernel(netns, stack):
    stack.ask("link", "set", "tun0", "impair", "rate", "20mbit", "limit", "200")
    program = (
        "import socket, time; s = socket.create_connection(('10.64.0.2', 9000)); t = time.monotonic(); n = 0\n"
        "while n < 4_000_000: n += len(s.recv(65536))\n"
        "print(n * 8 / (time.monotonic() - t) / 1e6)"
    )
    server = (
        "import socket; l = socket.create_server(('10.64.0.2', 9000)); print('ready', flush=True)\n"
        "c, _ = l.accept(); c.sendall(bytes(4_000_000)); c.shutdown(1); c.recv(1)"
    )
    child = stack.start(sys.executable, "-c", server, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    mbit = float(netns.run(sys.executable, "-c", program).stdout)
    assert 15 < mbit < 20.5
