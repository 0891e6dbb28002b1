"""A stack that is killed, at any moment: its programs hear of it, none sleeps for ever and none spins."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from .conftest import wait_until

POLLING_SERVER = """
import errno, selectors, socket
listener = socket.create_server(("127.0.0.1", 7000))
listener.setblocking(False)
poll = selectors.DefaultSelector()
poll.register(listener, selectors.EVENT_READ)
print("ready", flush=True)
passing = 0
while True:
    poll.select()
    try:
        listener.accept()
    except OSError as error:  # as libuv, nginx and others do
        if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.ENETDOWN, errno.ENOSYS, errno.EINTR):
            print(errno.errorcode[error.errno], passing, flush=True)
            break
        passing += 1
"""
HOLDER = """
import os, select, socket, sys
many = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 7000), backlog=64)
clients, servers = [], []
for _ in range(many):
    clients.append(socket.create_connection(("127.0.0.1", 7000)))
    servers.append(listener.accept()[0])
udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(10)]
for each in udp:
    each.bind(("127.0.0.1", 0))
clients[0].sendall(b"said before")
servers[0].recv(11, socket.MSG_PEEK)
child = os.fork()  # shares all of them
def after(sock):
    try:
        return sock.recv(100)
    except OSError as error:
        return type(error).__name__
if child:
    print("ready", flush=True)
    os.waitpid(child, 0)
    print(sorted({str(after(each)) for each in [*clients, *servers[1:], *udp]}), after(servers[0]), flush=True)
"""
BUSY = """
import os, socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 7000), backlog=64)
over = threading.Event()
def serve():
    while True:
        conn = listener.accept()[0]
        threading.Thread(target=echo, args=(conn,), daemon=True).start()
def echo(conn):
    while text := conn.recv(65536):
        conn.sendall(text)
def talk():
    while True:
        with socket.create_connection(("127.0.0.1", 7000)) as conn:
            for _ in range(5):
                conn.sendall(bytes(10000))
                conn.recv(10000, socket.MSG_WAITALL) or sys.exit()
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        while True:
            sock.sendto(b"to myself", sock.getsockname())
            sock.recvfrom(100)
def ask():
    sock = socket.socket()
    while True:
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
def wait():
    socket.create_server(("127.0.0.1", 0)).accept()
def watched(work):
    try:
        work()
    except OSError:
        pass
threads = [threading.Thread(target=watched, args=(work,)) for work in (serve, talk, talk, send, ask, wait)]
for each in threads:
    each.start()
print("ready", flush=True)
for each in threads:
    each.join()
print("over", flush=True)
os._exit(0)
"""


def start(stack, script, *args):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # stdin never ends while the test runs
    program = stack.start(sys.executable, "-c", textwrap.dedent(script), *args, **pipes, text=True)
    assert program.stdout.readline() == "ready\n"
    return program


def kill(stack):
    os.kill(stack.pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [kill, lambda stack: stack.ask("down")], ids=["killed", "down"])
def test_a_server_that_polls_its_listener_ends_and_does_not_spin(stack, end):
    server = start(stack, POLLING_SERVER)
    end(stack)
    error, passing = server.communicate(timeout=20)[0].split()
    assert (error, int(passing) <= 1) == ("EINVAL", True)
    wait_until(lambda: not stack.survivors())


def test_every_socket_of_many_processes_is_reset_and_what_came_is_still_read(stack):
    program = start(stack, HOLDER, 700)
    kill(stack)
    assert program.communicate(timeout=30)[0] == "['ConnectionResetError'] b'said before'\n"
    wait_until(lambda: not stack.survivors())


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment(stack, seed):
    program = start(stack, BUSY)
    time.sleep(random.Random(seed).uniform(0, 0.6))  # the moment is what varies
    kill(stack)
    assert program.communicate(timeout=30)[0] == "over\n"
    wait_until(lambda: not stack.survivors())


def test_a_new_stack_of_that_name_comes_up_while_old_programs_live(netns, stack):
    old = start(stack, "import socket, sys\nkept = socket.socket()\nprint('ready', flush=True)\nsys.stdin.read()")
    kill(stack)
    netns.nuse("up", "--detach", "--name", stack.name)
    assert len(stack.survivors()) == 2
    assert stack.run("ping", "-c1", "-W5", stack.peer).returncode == 0
    old.communicate(timeout=20)
    wait_until(lambda: len(stack.survivors()) == 1)
    stack.ask("down")
    assert stack.survivors() == []
    assert netns.traces() == []


def test_down_after_a_kill_leaves_only_what_programs_need(netns, stack):
    kill(stack)
    stack.ask("down")
    wait_until(lambda: not stack.survivors())
    assert netns.traces() == []
