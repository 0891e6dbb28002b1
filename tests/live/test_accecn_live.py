"""AccECN against the kernel, both ways: with it, or with classic ECN where the kernel does not know how to (RFC 9768).

Linux 6.18 has AccECN's parts, but refuses tcp_ecn above 2; then it is the fallback of table 2 that is seen here.
"""

import re
import subprocess
import sys

import pytest

SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 8000))
print("up", flush=True)
conn, _ = server.accept()
size = 0
while piece := conn.recv(1 << 20): size += len(piece)
conn.send(str(size).encode())
sys.stdin.readline()
"""
CLIENT = """
import socket, sys, subprocess
conn = socket.create_connection((sys.argv[1], 8000))
print("up", flush=True)
sys.stdin.readline()
for _ in range(40): conn.sendall(bytes(100_000))
conn.shutdown(1)
print(conn.recv(20).decode(), flush=True)
sys.stdin.readline()
"""
SIZE = "4000000"


def accurate_kernel(netns):
    return netns.run("sysctl", "-qw", "net.ipv4.tcp_ecn=3", check=False).returncode == 0


def kernel_words(netns):
    return netns.run("ss", "-tioHn").stdout


@pytest.mark.rfc("9768", "3.1.2")
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("mark", [False, True])
def test_both_ends_agree_and_a_marking_link_costs_no_text(netns, stack, role, mark):
    accurate = accurate_kernel(netns)
    if not accurate:
        netns.run("sysctl", "-qw", "net.ipv4.tcp_ecn=1")
    stack.ask("sysctl", "-w", "net.ipv4.tcp_ecn=3")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    if role == "client":
        server, client, address = netns.start, stack.start, stack.peer
    else:
        server, client, address = stack.start, netns.start, stack.own
    serving = server(sys.executable, "-c", SERVER, address, **pipes)
    assert serving.stdout.readline() == "up\n"
    asking = client(sys.executable, "-c", CLIENT, address, **pipes)
    assert asking.stdout.readline() == "up\n"
    if mark:  # no sooner: a SYN that was lost is sent again without ECN
        stack.ask("link", "set", "tun0", "impair", "delay", "1ms", "loss", "1%", "ecn", "seed", "3")
    asking.stdin.write("\n")
    asking.stdin.flush()
    assert asking.stdout.readline().strip() == SIZE
    words = stack.ask("ss", "-ti", "-j")
    assert ("accecn" in words) == accurate
    assert '"ecn"' in words
    assert "ecn" in kernel_words(netns)
    if mark and role == "server":
        assert int(re.search(r"delivered_ce:(\d+)", kernel_words(netns)).group(1)) > 0  # told of our path's marks
    if mark and role == "client":
        seen = netns.run("nstat", "-asz", "IpExtInCEPkts").stdout
        assert int(re.search(r"IpExtInCEPkts +(\d+)", seen).group(1)) > 0
    for child in (asking, serving):
        child.communicate("\n", timeout=20)
