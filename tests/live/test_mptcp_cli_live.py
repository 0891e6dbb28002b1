"""`nuse mptcp` of a running stack beside `ip mptcp` of the kernel: the same words, lines and refusals."""

import json
import signal
import subprocess
import sys

import pytest

from .conftest import RunningStack, wait_until

SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("", 7777))
server.listen()
print("ready", flush=True)
conn, _ = server.accept()
while data := conn.recv(65536):
    conn.sendall(data)
"""
CLIENT = """
import socket, sys
conn = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
conn.connect(("10.64.0.1", 7777))
while (line := sys.stdin.readline()) != "end\\n":
    conn.sendall(line.encode())
    print(conn.recv(65536).decode(), end="", flush=True)
"""

SAID = (
    "endpoint add 10.64.0.2 dev tun0 subflow backup",
    "endpoint add fd64:1::9 subflow fullmesh id 7",
    "endpoint add 10.9.9.3 signal subflow dev lo",
    "endpoint add 10.9.9.4",
    "endpoint change id 1 nobackup",
    "endpoint change 10.9.9.3 backup",
    "endpoint delete id 9",
    "limits set subflows 5 add_addr_accepted 1",
)
REFUSED = (
    "endpoint add",
    "endpoint add foo",
    "endpoint add 10.9.9.8 id 300",
    "endpoint add 10.9.9.8 dev nodev",
    "endpoint add 10.9.9.8 signal fullmesh",
    "endpoint add 10.9.9.8 subflow port 33",
    "endpoint add 10.9.9.8 subflow signal port 33",
    "endpoint delete id 99",
    "endpoint delete 10.9.9.1",
    "endpoint delete id 0",
    "endpoint change id 8 fullmesh",
    "endpoint change id 1 signal",
    "endpoint change backup",
    "endpoint show id 77",
    "limits set foo 2",
    "limits set subflows x",
)


@pytest.fixture
def pair(netns, stack_name):
    """A stack with two links, in a namespace whose kernel knows MPTCP."""
    netns.nuse("up", "--detach", "--name", stack_name, "--link", "tun0", "--link", "tun1")
    yield RunningStack(netns, stack_name)
    netns.nuse("down", "--name", stack_name, check=False)


def lines(text):
    return [line.rstrip() for line in text.splitlines()]


def test_what_was_said_is_shown_alike(netns, pair):
    for words in SAID:
        netns.run("ip", "mptcp", *words.split())
        pair.ask("mptcp", *words.split())
    for words in ("endpoint show", "endpoint", "endpoint show id 7", "limits show", "limits"):
        theirs = netns.run("ip", "mptcp", *words.split()).stdout
        assert lines(pair.ask("mptcp", *words.split())) == lines(theirs)
    theirs = json.loads(netns.run("ip", "-j", "mptcp", "endpoint").stdout)
    assert json.loads(pair.ask("mptcp", "-j", "endpoint")) == theirs
    pair.ask("mptcp", "endpoint", "flush")
    assert pair.ask("mptcp", "endpoint") == ""


def test_what_is_refused_is_refused_alike(netns, pair):
    for side in (("ip", "mptcp"), None):
        for words in ("endpoint add 10.64.0.2 subflow", "endpoint add 10.9.9.3 signal id 8"):
            if side:
                netns.run(*side, *words.split())
            else:
                pair.ask("mptcp", *words.split())
    for words in REFUSED:
        theirs = netns.run("ip", "mptcp", *words.split(), check=False)
        ours = netns.nuse("mptcp", "--name", pair.name, *words.split(), check=False)
        why = theirs.stderr.strip().removeprefix("Error: ").removesuffix(".")
        assert (theirs.returncode != 0, ours.returncode) == (True, 2), words
        assert ours.stderr.strip().removeprefix("nuse: ") == why, words


def test_a_word_too_many_gets_help(pair, netns):
    assert "FLAG-LIST" in pair.ask("mptcp")
    done = netns.nuse("mptcp", "--name", pair.name, "frobnicate", check=False)
    assert (done.returncode, "nuse mptcp help" in done.stderr) == (2, True)


def test_the_monitor_shows_a_connection_and_its_second_path(netns, pair):
    monitor = netns.start_nuse("mptcp", "--name", pair.name, "monitor", stdout=subprocess.PIPE, text=True)
    wait_until(lambda: json.loads(pair.ask("debug", "stack"))["subscribers"])
    server = netns.start(sys.executable, "-c", SERVER, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    client = pair.start(sys.executable, "-c", CLIENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seen = []
    client.stdin.write("hello\n")
    client.stdin.flush()
    assert client.stdout.readline() == "hello\n"
    for _ in range(3):
        seen.append(monitor.stdout.readline())
    pair.ask("mptcp", "endpoint", "add", "10.64.1.2", "subflow", "backup")
    pair.ask("mptcp", "endpoint", "delete", "id", seen[2].split("locid=")[1].split()[0])
    seen.append(monitor.stdout.readline())
    client.stdin.write("end\n")
    client.stdin.flush()
    assert client.wait(timeout=20) == 0
    seen.append(monitor.stdout.readline())
    kinds = [line[1:15].strip() for line in seen]
    assert kinds == ["CREATED", "ESTABLISHED", "SF_ESTABLISHED", "SF_CLOSED", "CLOSED"]
    token = seen[0].split("token=")[1].split()[0]
    assert all(f"token={token}" in line for line in seen)
    assert "saddr4=10.64.1.2 daddr4=10.64.0.1" in seen[2]
    monitor.send_signal(signal.SIGINT)
    assert monitor.wait(timeout=10) == 130
