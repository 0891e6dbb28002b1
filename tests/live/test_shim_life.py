"""What happens around programs: leaks, deaths on either side, kernels' other calls, accept that loses nobody."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nuse.shim import abi, launch, stream

from .shim_lab import PATIENCE, PYTHON, run_lab

ECHO = """
import socket, threading
def serve(sock):
    while data := sock.recv(65536):
        sock.sendall(data)
listening = socket.create_server(("", 7000), backlog=4096)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""
STACK_PROCESS = """
import asyncio, os, sys
from live.shim_lab import Lab
from nuse.loop import run
async def main():
    lab = Lab()
    lab.supervisor.ensure()
    program = lab.start(*sys.argv[1:])
    await lab.until(lambda: "ready" in program.output)
    os.write(1, program.output.encode())
    os.set_blocking(0, True)
    print("pid", program.pid, flush=True)
    if sys.stdin.readline() == "close\\n":
        lab.supervisor.close()
        print("closed", flush=True)
        sys.stdin.readline()
run(main())
"""
VICTIM = """
import errno, os, socket, sys, threading, time
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
def say(*words):
    os.write(out, (" ".join(map(str, words)) + "\\n").encode())
def attempt(function, *args):
    try:
        return function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
listening = socket.create_server(("127.0.0.1", 7000))
idle = socket.create_connection(("127.0.0.1", 7000))
peer, _ = listening.accept()
def block(name, function, *args):
    say(name, attempt(function, *args))
calls = [
    ("accept", listening.accept), ("recv", idle.recv, 1),
    ("recvfrom", socket.socket(socket.AF_INET, socket.SOCK_DGRAM).recvfrom, 1),
]
threads = [threading.Thread(target=block, args=each) for each in calls]
for each in threads:
    each.start()
time.sleep(0.5)
print("ready", flush=True)
for each in threads:
    each.join()
say("send", attempt(peer.send, b"x"))
say("send", attempt(peer.send, b"x"))
say("accept again", attempt(listening.accept))
say("socket", attempt(socket.socket))
say("unix", type(attempt(socket.socketpair)).__name__)
say("end")
"""


def test_a_thousand_leaked_sockets_are_freed_when_the_program_dies():
    script = """
    import os, resource, socket
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    kept = [socket.create_connection(("127.0.0.1", 7000)) for _ in range(300)]
    kept += [socket.socket() for _ in range(400)]
    for i in range(150):
        kept.append(socket.create_server(("", 10000 + i)))
        dgram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        dgram.bind(("", 10000 + i))
        kept.append(dgram)
    os.kill(os.getpid(), 9)
    """

    async def scenario(lab):
        lab.python(ECHO)
        await lab.listening(7000)
        program = lab.python(textwrap.dedent(script))
        assert await program.wait() == -9, program.output
        await lab.until(lambda: len(lab.live_sockets()) == 1)
        assert [each.local[1] for each in lab.stack.tcp.listeners()] == [7000]

    run_lab(scenario)


def test_full_descriptor_table_is_emfile_and_loses_no_connection():
    script = """
    import errno, os, resource, socket
    listening = socket.create_server(("127.0.0.1", 7001))
    ours = socket.create_connection(("127.0.0.1", 7001))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, 4096))
    filler = []
    try:
        while True:
            filler.append(open("/dev/null"))
    except OSError:
        pass
    for function in (socket.socket, listening.accept):
        try:
            function()
        except OSError as error:
            print(errno.errorcode[error.errno])
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
    listening.settimeout(5)
    ours.send(b"still there")
    print(listening.accept()[0].recv(100).decode())
    """

    async def scenario(lab):
        output = await lab.check_output(PYTHON, "-c", textwrap.dedent(script))
        assert output.splitlines() == ["EMFILE", "EMFILE", "still there"]

    run_lab(scenario)


def test_a_blocked_accept_that_is_killed_leaves_the_connection_to_the_next():
    script = """
    import os, signal, socket, time
    listening = socket.create_server(("127.0.0.1", 7002))
    victims = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            listening.accept()
            time.sleep(100)
        victims.append(pid)
    time.sleep(0.3)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ours = socket.create_connection(("127.0.0.1", 7002))
    ours.send(b"for the living")
    print(listening.accept()[0].recv(100).decode())
    """

    async def scenario(lab):
        assert (await lab.check_output(PYTHON, "-c", textwrap.dedent(script))).strip() == "for the living"

    run_lab(scenario)


def test_ports_are_free_again_when_the_socket_is_closed_in_whatever_state():
    script = """
    import socket
    for _ in range(50):
        socket.create_server(("127.0.0.1", 7003)).close()
        sock = socket.socket(); sock.bind(("127.0.0.1", 7003)); sock.close()
        dgram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); dgram.bind(("127.0.0.1", 7003)); dgram.close()
    try:
        socket.create_connection(("127.0.0.1", 7003))
    except ConnectionRefusedError:
        print("refused")
    """

    async def scenario(lab):
        assert (await lab.check_output(PYTHON, "-c", textwrap.dedent(script))).strip() == "refused"

    run_lab(scenario)


def test_close_during_connect_takes_the_syn_back():
    script = """
    import socket, sys
    sock = socket.socket(); sock.setblocking(False)
    print(sock.connect_ex((sys.argv[1], 9)))
    sock.close()
    """

    async def scenario(lab):
        lab.stack.add_link("hole", [(b"\x0a\x09\x00\x02", 24)])
        output = await lab.check_output(PYTHON, "-c", textwrap.dedent(script), "10.9.0.1")
        assert int(output) == errno.EINPROGRESS
        await lab.until(lambda: not list(lab.stack.tcp.conns()))

    run_lab(scenario)


def test_a_blocking_connect_can_time_out_and_be_interrupted():
    script = """
    import errno, signal, socket, struct, sys, time
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("qq", 0, 200000))
    print(errno.errorcode[sock.connect_ex((sys.argv[1], 9))], errno.errorcode[sock.connect_ex((sys.argv[1], 9))])
    class Alarm(Exception): pass
    def ring(*_): raise Alarm
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(1)
    try:
        socket.socket().connect((sys.argv[1], 9))
    except Alarm:
        print("interrupted")
    """

    async def scenario(lab):
        lab.stack.add_link("hole", [(b"\x0a\x09\x00\x02", 24)])
        output = await lab.check_output(PYTHON, "-c", textwrap.dedent(script), "10.9.0.1")
        assert output.split() == ["EINPROGRESS", "EALREADY", "interrupted"]

    run_lab(scenario)


def test_connect_times_out_and_is_unreachable_with_the_right_errno():
    script = """
    import errno, socket, sys
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
    print(errno.errorcode[sock.connect_ex(("10.9.0.1", 9))], errno.errorcode[sock.connect_ex(("8.8.8.8", 9))])
    """

    async def scenario(lab):
        link = lab.stack.add_link("hole", [(b"\x0a\x09\x00\x02", 24)])
        lab.stack.sysctl.tcp_syn_retries = 1
        program = lab.start(PYTHON, "-c", textwrap.dedent(script))
        await lab.until(lambda: list(lab.stack.tcp.conns()))
        lab.stack.remove_link(link)
        assert await program.wait() == 0, program.output
        assert program.output.split() == ["ETIMEDOUT", "ENETUNREACH"]

    run_lab(scenario)


@pytest.mark.parametrize("end", ["kill", "close"])
def test_when_the_stack_ends_programs_see_it_and_do_not_hang(tmp_path, end):
    seen = tmp_path / "seen"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    stack = subprocess.Popen(
        [PYTHON, "-c", STACK_PROCESS, PYTHON, "-c", VICTIM, seen],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        assert stack.stdout.readline() == "ready\n"
        pid = int(stack.stdout.readline().split()[1])
        if end == "kill":
            stack.kill()
        else:
            stack.stdin.write("close\n")
            stack.stdin.flush()

        async def said():
            for _ in range(PATIENCE * 20):
                if "end" in seen.read_text():
                    return
                await asyncio.sleep(0.05)
            os.kill(pid, signal.SIGKILL)

        asyncio.run(said())
        result = sorted(seen.read_text().splitlines())
    finally:
        stack.kill()
        stack.communicate()
    ended = ["recv ECONNRESET", "send EPIPE", "accept ENETDOWN", "recvfrom ENETDOWN"]
    assert result == sorted([*ended, "send EPIPE", "accept again EINVAL", "socket ENETDOWN", "unix tuple", "end"])


def test_io_uring_is_not_there():
    script = f"""
    import ctypes, errno, os
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall({abi.native().calls["io_uring_setup"]}, 8, ctypes.create_string_buffer(120)) == -1
    print(errno.errorcode[ctypes.get_errno()])
    """

    async def scenario(lab):
        assert (await lab.check_output(PYTHON, "-c", textwrap.dedent(script))).strip() == "ENOSYS"

    run_lab(scenario)


def test_sockets_of_other_families_are_the_kernels():
    script = """
    import os, socket
    left, right = socket.socketpair()
    left.sendmsg([b"unix"]); print(right.recvmsg(10)[0])
    server = socket.socket(socket.AF_UNIX); server.bind("\\0nuse-test-%d" % os.getpid()); server.listen()
    client = socket.socket(socket.AF_UNIX); client.connect(server.getsockname()); peer, _ = server.accept()
    client.sendall(b"abstract"); print(peer.recv(10))
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); netlink.bind((0, 0))
    print(netlink.getsockname()[0] > 0)
    print(socket.if_nametoindex("lo"), socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM) != [])
    """

    async def scenario(lab):
        output = await lab.check_output(PYTHON, "-c", textwrap.dedent(script))
        assert output.splitlines() == ["b'unix'", "b'abstract'", "True", "1 True"]

    run_lab(scenario)


def test_a_resolv_conf_of_its_own(tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 10.64.0.1\n")

    def read(*command, **kwargs):
        out = tmp_path / "out"
        with open(out, "wb") as file:
            child = launch.spawn(command, setup=lambda: os.dup2(file.fileno(), 1), **kwargs)
        os.waitpid(child.pid, 0)
        os.close(child.listener_fd)
        os.close(child.pidfd)
        return out.read_text()

    ours = Path("/etc/resolv.conf")
    before = ours.read_text() if ours.exists() else None
    assert read("cat", ours, resolv=str(tmp_path / "resolv.conf")) == "nameserver 10.64.0.1\n"
    assert (ours.read_text() if ours.exists() else None) == before


def test_a_namespace_that_does_not_exist_is_a_clear_error():
    with pytest.raises(launch.ShimUnavailable, match="namespace /run/netns/nosuch"):
        launch.spawn(["true"], netns="/run/netns/nosuch")


REUSED = """
import os, socket
for number in range(300):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    if number % 3:
        sock.listen()
    else:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", 1 + number % 2))
    descriptor = sock.fileno()
    sock.close()
    assert os.open("/dev/null", os.O_RDONLY) == descriptor
    socket.create_server(("127.0.0.1", 0)).close()  # bind looks for closes first
    os.close(descriptor)
"""


def test_a_descriptor_that_is_another_file_when_its_close_is_seen():
    async def scenario(lab):
        programs = [lab.python(REUSED) for _ in range(2)]
        for each in programs:
            assert await each.wait() == 0, each.output

    run_lab(scenario)


MOVES_DATA = """
import select, signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
with socket.create_server(("127.0.0.1", 7000)) as server:
    one = socket.create_connection(server.getsockname())
    two, _ = server.accept()
print("ready", flush=True)
signal.sigwait({signal.SIGUSR1})
poll = select.poll()
poll.register(two, select.POLLIN)
for _ in range(500):
    one.send(b"x" * 100)
    poll.poll()
    two.send(two.recv(100))
    assert one.recv(100) == b"x" * 100
print("done", flush=True)
signal.sigwait({signal.SIGUSR1})
"""


def test_calls_that_move_data_do_not_stop_for_the_stack():
    async def scenario(lab):
        program = lab.python(MOVES_DATA)
        await lab.until(lambda: "ready" in program.output)
        (row,) = lab.supervisor.rows()
        assert (row["pid"], row["command"], row["waiting"]) == (program.pid, Path(PYTHON).name, 0)
        assert row["calls"] > 5
        program.kill(signal.SIGUSR1)
        await lab.until(lambda: "done" in program.output)
        assert lab.supervisor.rows() == [row]
        program.kill(signal.SIGUSR1)
        assert await program.wait() == 0

    run_lab(scenario)


FULL = """
import errno, os, select, socket, sys, threading, time
listening = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listening.getsockname())
served, _ = listening.accept()
quiet = 0
for each in (client, served):
    each.setblocking(False)
while quiet < 20:  # both directions full, whatever lies where
    sent = 0
    for each in (client, served):
        try:
            while True:
                sent += each.send(bytes(65536))
        except BlockingIOError:
            pass
    quiet = 0 if sent else quiet + 1
    select.select([], [client, served], [], 0.02)
served.setblocking(True)
def write():
    try:
        while True:
            served.send(bytes(65536))
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
writer = threading.Thread(target=write)
writer.start()
polled = select.epoll()
polled.register(served, select.EPOLLOUT)
time.sleep(0.2)
client.close()
writer.join()
print("polls", polled.poll(10) != [], flush=True)
if len(sys.argv) > 1:
    os._exit(0)  # with text that was not delivered
try:
    while served.recv(1 << 20):
        pass
    print("end", flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
"""


@pytest.mark.parametrize("leaves", [(), ("at once",)])
def test_who_waits_for_room_hears_of_a_reset(leaves):
    """Both sides have filled each other's buffers when one closes: that is a reset, and no end to wait for."""

    async def scenario(lab):
        said = await lab.check_output(PYTHON, "-c", FULL, *leaves)
        assert said.splitlines() == ["EPIPE", "polls True", *(() if leaves else ("ECONNRESET",))]

    run_lab(scenario)


def test_a_connection_that_was_shut_does_not_end_the_next_one(monkeypatch):
    """The stack gives up a connection some time after SHUT_RDWR; by then the socket may have another."""
    monkeypatch.setattr(stream, "AFTER_SHUTDOWN", 0.2)
    script = """
    import ctypes, socket, time
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname())
    first, _ = listening.accept()
    client.shutdown(socket.SHUT_RDWR)
    ctypes.CDLL(None).connect(client.fileno(), bytes(16), 16)  # AF_UNSPEC
    client.connect(listening.getsockname())
    second, _ = listening.accept()
    time.sleep(0.5)
    client.sendall(b"text")
    print(second.recv(99))
    """

    async def scenario(lab):
        assert await lab.check_output(PYTHON, "-c", textwrap.dedent(script)) == "b'text'\n"

    run_lab(scenario)
