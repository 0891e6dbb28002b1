"""TCP Fast Open under Multipath TCP between the kernel and unmodified programs on the stack, both roles and families.

What a SYN brings is counted by the kernel (nstat) and by us; all that was sent is compared by digest.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from .conftest import RunningStack

MB = 1_000_000
PORT = 7779
SERVER = """
import hashlib, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.socket(family, socket.SOCK_STREAM, int(sys.argv[4]))
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(6, 23, 16)  # TCP_FASTOPEN
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen()
print("listening", flush=True)
for _ in range(int(sys.argv[3])):
    conn, _ = server.accept()
    digest = hashlib.sha256()
    while data := conn.recv(1 << 16):
        digest.update(data)
    conn.sendall(digest.hexdigest().encode())
    conn.close()
"""
CLIENT = """
import hashlib, socket, sys
host, port, proto, way, sizes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
for number, size in enumerate(sizes):
    early, rest = b"%d early " % number * 40, hashlib.sha256(b"%d" % number).digest() * (int(size) // 32)
    conn = socket.socket(family, socket.SOCK_STREAM, proto)
    if way == "MSG_FASTOPEN":
        assert conn.sendto(early, socket.MSG_FASTOPEN, (host, port)) == len(early)
    else:
        conn.setsockopt(6, 30, 1)  # TCP_FASTOPEN_CONNECT
        conn.connect((host, port))
        conn.sendall(early)
    conn.sendall(rest)
    conn.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: conn.recv(1000), b"")).decode()
    assert answer == hashlib.sha256(early + rest).hexdigest(), (number, answer)
    conn.close()
print("good")
"""
SIZES = [0, 0, 5 * MB, 64]  # behind the text of the SYN; the first connection asks for a cookie


@pytest.fixture
def opened(netns, stack_name):
    """A stack with two links whose kernel peer and itself allow Fast Open, and let subflows join."""
    netns.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3")
    netns.run("ip", "mptcp", "limits", "set", "subflows", "8", "add_addr_accepted", "8")
    links = ("--link", "tun0", "--link", "tun1")
    netns.nuse("up", "--detach", "--name", stack_name, *links, "--sysctl", "net.ipv4.tcp_fastopen=3")
    yield RunningStack(netns, stack_name)
    netns.nuse("down", "--name", stack_name, check=False)


def counters(opened):
    """The kernel's, and ours."""
    kernel = json.loads(opened.host.run("nstat", "-asj").stdout)["kernel"]
    ours = {row.split()[0]: int(row.split()[1]) for row in opened.ask("nstat", "-az").splitlines() if row[:1] != "#"}
    return kernel, ours


def converse(opened, ours, v6, ways, proto=262):
    """A server for so many clients, one for each way; how many connections that makes."""
    netns = opened.host
    if ours == "client":
        where = opened.peer6 if v6 else opened.peer
        start, run = netns.start, opened.run
    else:
        where = opened.own6 if v6 else opened.own
        start, run = opened.start, netns.run
    count = len(SIZES) * len(ways)
    server = start(sys.executable, "-c", SERVER, where, PORT, count, proto, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "listening\n"
    for way in ways:
        assert run(sys.executable, "-c", CLIENT, where, PORT, proto, way, *SIZES).stdout == "good\n"
    assert server.wait(timeout=20) == 0
    return count


def play(opened, ours, v6, ways, proto=262):
    """The same; the counters of both sides then."""
    count = converse(opened, ours, v6, ways, proto)
    kernel, stack = counters(opened)
    active, passive = (stack, kernel) if ours == "client" else (kernel, stack)
    assert active["TcpExtTCPFastOpenActive"] == passive["TcpExtTCPFastOpenPassive"] == count - 1
    assert passive["TcpExtTCPFastOpenCookieReqd"] == 1
    return passive, (kernel, stack)


@pytest.mark.rfc("8684", "B")
@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("ours", ["client", "server"])
def test_all_arrives_and_the_syns_text_is_taken(opened, ours, v6):
    passive, both = play(opened, ours, v6, ["MSG_FASTOPEN", "TCP_FASTOPEN_CONNECT"])
    # Linux's client leaves out its key where its program shuts down before it saw the SYN-ACK.
    assert passive["MPTcpExtMPCapableACKRX"] + passive.get("NuseMPCapableNoKey", 0) == 2 * len(SIZES)
    for mib in both:
        for name, value in mib.items():
            bad = any(word in name for word in ("Fallback", "DSSCorruption", "DataCsumErr", "DSSNotMatching", "MPFail"))
            assert not (name.startswith("MPTcpExt") and bad and value), (name, value)


def test_plain_tcp_ends_well_too_when_it_says_all_at_once(opened):
    passive, _both = play(opened, "client", False, ["TCP_FASTOPEN_CONNECT"], proto=6)
    assert not passive.get("MPTcpExtMPCapableSYNRX")


@contextlib.contextmanager
def stalls(pid, seed):
    """A process that is stopped again and again, at times for longer than a SYN waits."""
    over, dice = threading.Event(), random.Random(seed)

    def stall():
        while not over.wait(dice.random() / 2):
            os.kill(pid, signal.SIGSTOP)
            try:
                over.wait(dice.choice([0.05, 0.3, 1.2, 2.5]))
            finally:
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stall)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("ours", ["client", "server"])
def test_nothing_is_lost_where_the_stack_stalls(opened, ours):
    with stalls(opened.pid, seed=ours):
        converse(opened, ours, False, ["MSG_FASTOPEN", "TCP_FASTOPEN_CONNECT"] * 2)
