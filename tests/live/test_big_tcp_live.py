"""BIG TCP towards the kernel: super-segments far beyond 64 KB arrive whole, here and behind a router that cuts them."""

import hashlib
import json
import subprocess

import pytest

from live.conftest import Host

SIZE = 200_000_000
SERVE = """
import hashlib, socket, sys
with socket.create_server((sys.argv[1], 7100), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as s:
    print("ready", flush=True)
    conn = s.accept()[0]
digest = hashlib.sha256()
while data := conn.recv(1 << 20):
    digest.update(data)
print(digest.hexdigest())
"""
SEND = """
import hashlib, socket, sys
piece = hashlib.shake_256(b"nuse").digest(1_000_000)
with socket.create_connection((sys.argv[1], 7100)) as s:
    for _ in range({}):
        s.sendall(piece)
"""


def upload(host, addr, stack):
    """Digest that the kernel at `addr` in `host` made of an upload; compares equal to what was sent."""
    server = host.start("python3", "-c", SERVE, addr, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "ready\n"
    stack.run("python3", "-c", SEND.format(SIZE // 1_000_000), addr)
    got = server.communicate(timeout=60)[0].strip()
    assert got == hashlib.sha256(hashlib.shake_256(b"nuse").digest(1_000_000) * (SIZE // 1_000_000)).hexdigest()


@pytest.mark.parametrize("version", ["4", "6"])
def test_the_kernel_takes_packets_beyond_the_length_field(netns, stack, version):
    upload(netns, stack.peer if version == "4" else stack.peer6, stack)
    stats = next(link for link in json.loads(stack.ask("link", "-s", "-j")) if link["ifname"] == "tun0")["stats64"][
        "tx"
    ]
    assert stats["bytes"] > SIZE
    assert stats["bytes"] / stats["packets"] > 65_535
    assert stats["dropped"] == 0


def test_a_router_cuts_them_for_the_next_link(netns, stack):
    far = Host()
    far.make()
    try:
        netns.run("ip", "link", "add", "vb0", "type", "veth", "peer", "name", "vb1", "netns", far.name)
        for host, device, own, other in ((netns, "vb0", "10.9.0.1", ""), (far, "vb1", "10.9.0.2", "10.9.0.1")):
            host.run("ip", "addr", "add", f"{own}/24", "dev", device)
            host.run("ip", "link", "set", device, "up")
            if other:
                host.run("ip", "route", "add", "default", "via", other)
        netns.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        netns.run("nft", "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }")
        netns.run("nft", "add rule ip t c oifname vb0 masquerade")
        upload(far, "10.9.0.2", stack)
    finally:
        netns.run("nft", "delete table ip t", check=False)
        netns.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        netns.run("ip", "link", "del", "vb0", check=False)
        far.remove()
