"""Scheduler and congestion control of a program under `nuse run`: by option, by socket option, and from outside."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from .conftest import RunningStack, wait_until

SIZE = 16_000_000
QUARTER = SIZE // 4
# It reads a quarter each time it is told to, through a small window, so that the sender is in the middle meanwhile.
SERVER = f"""
import hashlib, socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
server.bind(("", 7778))
server.listen()
print("ready", flush=True)
conn, _ = server.accept()
digest = hashlib.sha256()
for quarter in range(4):
    sys.stdin.readline()
    left = {QUARTER}
    while left:
        data = conn.recv(min(left, 65536))
        assert data
        digest.update(data)
        left -= len(data)
    print("quarter", flush=True)
assert conn.recv(1) == b""
print(digest.hexdigest(), flush=True)
"""
CLIENT = (
    f"QUARTER = {QUARTER}"
    + """
import errno, json, socket, sys
SOL_MPTCP, SCHEDULER = 284, 20001
def choice(conn):
    return [conn.getsockopt(*each, 16).rstrip(b"\\0").decode() for each in ((SOL_MPTCP, SCHEDULER), (6, 13))]
def refusal(conn, *option):
    try:
        conn.setsockopt(*option)
    except OSError as error:
        return errno.errorcode[error.errno]
conn = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
told = {"fresh": choice(conn), "refused": [refusal(conn, SOL_MPTCP, SCHEDULER, b"fastest"), refusal(conn, 6, 13, b"x")]}
other = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
other.setsockopt(SOL_MPTCP, SCHEDULER, b"blest")
other.setsockopt(6, 13, b"olia")
told["set"] = choice(other)
conn.connect(("10.64.0.1", 7778))
told["connected"] = choice(conn)
print("ready", flush=True)
with open(sys.argv[1], "rb") as file:
    conn.sendfile(file, count=QUARTER * 3)
    sys.stdin.readline()
    told["changed"] = choice(conn)
    conn.setsockopt(SOL_MPTCP, SCHEDULER, b"minrtt")
    conn.setsockopt(6, 13, b"cubic")
    told["by itself"] = choice(conn)
    conn.sendfile(file, QUARTER * 3)
print(json.dumps(told), flush=True)
"""
)


@pytest.fixture
def pair(netns, stack_name):
    """A stack with two links, in a namespace whose kernel lets subflows join."""
    netns.run("ip", "mptcp", "limits", "set", "subflows", "8", "add_addr_accepted", "8")
    netns.nuse("up", "--detach", "--name", stack_name, "--link", "tun0", "--link", "tun1")
    yield RunningStack(netns, stack_name)
    netns.nuse("down", "--name", stack_name, check=False)


def test_both_are_exchanged_in_the_middle_of_a_transfer(netns, pair, tmp_path):
    file = tmp_path / "text"
    file.write_bytes(os.urandom(SIZE))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = netns.start(sys.executable, "-c", SERVER, **pipes)
    assert server.stdout.readline() == "ready\n"
    choices = ("--mptcp", "--mptcp-scheduler", "roundrobin", "--cc", "reno")
    command = ("run", "--name", pair.name, *choices, "--", sys.executable, "-c", CLIENT, file)
    client = netns.start_nuse(*command, **pipes)
    assert client.stdout.readline() == "ready\n"

    def rows():
        return json.loads(pair.ask("debug", "mptcp"))

    def controls():
        return {row["info"]["congestion"] for row in json.loads(pair.ask("debug", "conns"))}

    def read_a_quarter():
        server.stdin.write("go\n")
        server.stdin.flush()
        assert server.stdout.readline() == "quarter\n"

    read_a_quarter()
    wait_until(lambda: [each["joined"] for each in rows()[0]["subflows"]] == [True, True])
    (row,) = rows()
    ident = str(row["id"])
    assert (row["scheduler"], controls()) == ("roundrobin", {"reno"})
    assert pair.ask("mptcp", "scheduler", ident) == "roundrobin\n"
    assert pair.ask("mptcp", "cc", "10.64.0.1:7778") == "reno\n"

    assert pair.ask("mptcp", "scheduler", ident, "redundant") == ""
    pair.ask("mptcp", "cc", ident, "lia")
    read_a_quarter()
    assert (rows()[0]["scheduler"], controls()) == ("redundant", {"lia"})

    call = json.loads(pair.ask("debug", "mptcp", "scheduler", ident, "weighted"))
    assert call == {"id": int(ident), "scheduler": "weighted"}
    pair.ask("debug", "mptcp", "cc", ident, "balia")
    pair.ask("mptcp", "weight", ident, "2", "3")
    assert pair.ask("mptcp", "weight", ident) == "subflow 1 weight 1\nsubflow 2 weight 3\n"
    read_a_quarter()
    assert (rows()[0]["scheduler"], controls()) == ("weighted", {"balia"})
    assert "scheduler is redundant" in pair.ask("explain", ident)
    refused = netns.nuse("mptcp", "--name", pair.name, "scheduler", ident, "fastest", check=False)
    assert (refused.returncode, refused.stderr) == (2, "nuse: no scheduler 'fastest'\n")
    assert json.loads(pair.ask("mptcp", "-j", "cc", ident)) == {"id": int(ident), "cc": "balia"}

    client.stdin.write("go\n")
    client.stdin.flush()
    read_a_quarter()
    told = json.loads(client.stdout.readline())
    assert told == {
        "fresh": ["roundrobin", "reno"],
        "refused": ["ENOENT", "ENOENT"],
        "set": ["blest", "olia"],
        "connected": ["roundrobin", "reno"],
        "changed": ["weighted", "balia"],
        "by itself": ["minrtt", "cubic"],
    }
    assert client.wait(timeout=20) == 0
    assert server.stdout.readline().strip() == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("option", ["--mptcp-scheduler", "--cc"])
def test_a_name_that_is_none_starts_nothing(netns, pair, tmp_path, option):
    touched, before = tmp_path / "touched", netns.traces()
    for where in (["--name", pair.name], ["--link", "tun7"]):
        done = netns.nuse("run", *where, option, "fastest", "--", "touch", touched, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith("nuse: net.")
        assert "'fastest' is none of" in done.stderr
    assert not touched.exists()
    assert netns.traces() == before


def test_plain_tcp_takes_the_programs_congestion_control(netns, pair):
    ask = "import socket; print(socket.socket().getsockopt(6, 13, 16).rstrip(b'\\0').decode())"
    for options, expected in ((["--cc", "bbr"], "bbr\n"), (["--mptcp-scheduler", "ecf"], "cubic\n")):
        done = netns.nuse("run", "--name", pair.name, *options, "--", sys.executable, "-c", ask)
        assert done.stdout == expected
