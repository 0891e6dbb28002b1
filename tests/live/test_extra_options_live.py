"""A program's own TCP option, on the wire as the kernel's side sees it (docs/extensions.md)."""

import subprocess
import sys
from pathlib import Path

import dpkt
import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "tcp_option.py"
SERVER = """
import socket
server = socket.create_server(("10.64.0.1", 8000))
print("up", flush=True)
conn, _ = server.accept()
conn.send(conn.recv(9))
"""


@pytest.mark.rfc("6994", "3")
def test_an_option_of_an_ordinary_socket_is_on_syn_and_text(stack):
    host = stack.host
    sniff = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)); s.bind(('tun0', 0))\n"
        "print('up', flush=True)\n"
        "while True:\n"
        "    p = s.recv(65535)\n"
        "    if p[9] == 6 and p[12:16] == bytes([10, 64, 0, 2]): print(p[:80].hex(), flush=True)\n"
    )
    sniffer = host.start(sys.executable, "-c", sniff, stdout=subprocess.PIPE, text=True)
    server = host.start(sys.executable, "-c", SERVER, stdout=subprocess.PIPE, text=True)
    assert sniffer.stdout.readline() == server.stdout.readline() == "up\n"
    done = host.nuse("run", "--name", stack.name, "--", sys.executable, EXAMPLE, "10.64.0.1", "8000")
    assert "the peer's options: none" in done.stdout
    seen = {"syn": 0, "text": 0, "bare": 0}
    while not (seen["syn"] and seen["text"] and seen["bare"]):
        ip = dpkt.ip.IP(bytes.fromhex(sniffer.stdout.readline().strip()))
        options = dpkt.tcp.parse_opts(ip.data.opts)
        kind = "syn" if ip.data.flags & dpkt.tcp.TH_SYN else "text" if ip.data.data else "bare"
        seen[kind] += 1
        assert ((253, b"\x4e\x55hello") in options) == (kind != "bare")


def test_a_kernel_socket_has_no_such_option(netns):
    done = netns.run(sys.executable, EXAMPLE, "10.64.0.1", "8000", check=False)
    assert done.returncode == 1
    assert "not on nuse" in done.stderr
