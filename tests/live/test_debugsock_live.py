"""The debug socket of a running stack: it answers while the stack is saturated, and tells what a peer did."""

import json
import socket
import subprocess
import sys
import time

import pytest

from live.conftest import wait_until

SINK = """
import socket
listener = socket.create_server(("10.64.0.2", 9000))
print("ready", flush=True)
while True:
    conn, _ = listener.accept()
    with conn:
        while conn.recv(1 << 18):
            pass
"""
FLOOD = """
import socket
sock = socket.create_connection(("10.64.0.2", 9000))
while True:
    sock.send(bytes(1 << 18))
"""


def ask(stack, line):
    """One request on a connection of its own; (answer, seconds)."""
    begun = time.monotonic()
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("r") as lines:
        sock.settimeout(30)
        sock.connect(str(stack.state / "debug.sock"))
        sock.sendall(line.encode() + b"\n")
        sock.shutdown(socket.SHUT_WR)
        answer = lines.read()
    return json.loads(answer), time.monotonic() - begun


@pytest.fixture
def sink(stack):
    child = stack.start(sys.executable, "-c", SINK, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


def test_it_answers_while_the_stack_is_saturated(netns, stack, sink):
    netns.start(sys.executable, "-c", FLOOD)

    def received():
        return sum(conn["info"]["bytes_received"] for conn in ask(stack, "conns")[0]["result"])

    wait_until(lambda: received() > 100_000_000, 30)
    times = []
    for line in ("conns", "counters", "links", "stack", "listeners") * 4:
        answer, seconds = ask(stack, line)
        assert answer["ok"]
        times.append(seconds)
    assert sorted(times)[len(times) // 2] < 0.1
    before = received()
    wait_until(lambda: received() > before, 5)


def test_it_shows_connections_listeners_and_events_of_programs(netns, stack, sink):
    (listener,) = ask(stack, "listeners")[0]["result"]
    assert listener["local"] == "10.64.0.2:9000"
    with socket.socket(socket.AF_UNIX) as stream, stream.makefile("r") as lines:
        stream.connect(str(stack.state / "debug.sock"))
        stream.settimeout(10)
        stream.sendall(b"subscribe events\n")
        assert json.loads(lines.readline())["ok"]
        netns.run(sys.executable, "-c", "import socket; socket.create_connection(('10.64.0.2', 9000)).send(b'x')")
        seen = [json.loads(lines.readline()) for _ in range(3)]
    assert [event["event"] for event in seen] == ["opened", "established", "closed"]
    assert all(event["local"] == "10.64.0.2:9000" for event in seen)
    assert seen[0]["remote"].startswith("10.64.0.1:")


def test_a_link_goes_down_and_up_again(netns, stack):
    def pings():
        return netns.run("ping", "-c", "1", "-W", "1", stack.own, check=False).returncode == 0

    assert pings()
    assert ask(stack, "link tun0 down")[0]["result"]["up"] is False
    assert not pings()
    assert ask(stack, "link tun0 up")[0]["result"]["up"] is True
    assert pings()
    assert [event["event"] for event in ask(stack, "events")[0]["result"]] == ["link-down", "link-up"]


def test_socat_is_a_pleasant_way_to_ask(stack):
    words = ["sh", "-c", f"echo version | socat - UNIX:{stack.state}/debug.sock"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=10)
    assert json.loads(done.stdout)["result"]["protocol"] == 1
