"""Which sockets are whose: by destination, port, program, per run and per stack; TCP or MPTCP; loopback."""

import contextlib
import socket
import subprocess
import sys

import pytest

from .conftest import wait_until
from .shim_lab import PYTHON, run_lab
from .test_shim_programs import NAME_SERVER, needs

HELLO = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(sys.argv[1])))
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
    def log_message(self, *_):
        pass
with http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""
FETCH = ("curl", "-sS", "-m", "20")


@contextlib.contextmanager
def on_the_kernel(script, *args):
    """A program that tells its port, run as it is."""
    argv = [sys.executable, "-u", "-c", script, *map(str, args)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


async def on_the_stack(lab, port=8000, **kwargs):
    lab.python(HELLO, "stack", port, **kwargs)
    await lab.listening(port)


@needs("curl")
def test_by_destination_and_port():
    async def scenario(lab):
        await on_the_stack(lab)
        with on_the_kernel(HELLO, "kernel", 0) as port:
            urls = [f"http://127.0.0.1:{each}/" for each in (port, 8000, port)]
            rules = [f"kernel to 127.0.0.0/8 port {port}"]
            assert await lab.check_output(*FETCH, *urls, rules=rules) == "kernelstackkernel"
            assert await lab.check_output(*FETCH, urls[1], rules=["kernel to 127.0.0.2"]) == "stack"

    run_lab(scenario)


@needs("curl", "wget")
def test_by_program():
    async def scenario(lab):
        with on_the_kernel(HELLO, "kernel", 8000 + 37) as port:
            await on_the_stack(lab, port)
            url = f"http://127.0.0.1:{port}/"
            rules = ["kernel program curl"]
            assert await lab.check_output(*FETCH, url, rules=rules) == "kernel"
            assert await lab.check_output("sh", "-c", f"wget -qO- {url}; {' '.join(FETCH)} {url}", rules=rules) == (
                "stackkernel"
            )

    run_lab(scenario)


def test_by_program_of_a_script():
    """What `ps` calls it counts, too: a script is named after its file, or as it names itself."""
    script = (
        "import socket\n"
        "open('/proc/self/comm', 'w').write('lister')\n"
        "sock = socket.socket()\n"
        "try:\n    print(sock.getsockopt(6, 20003, 64).decode())\n"
        "except OSError:\n    print('kernel')"
    )

    async def scenario(lab):
        for rules, says in ((["kernel program list*"], "kernel\n"), (["kernel program other"], "lab\n")):
            assert await lab.check_output(PYTHON, "-c", script, rules=rules) == says

    run_lab(scenario)


@needs("dig")
def test_datagrams_by_port():
    async def scenario(lab):
        server = NAME_SERVER.replace(
            '("127.0.0.1", int(sys.argv[1])))', '("127.0.0.1", 0))\nprint(server.getsockname()[1])'
        )
        with on_the_kernel(server) as port:
            ask = ("dig", "+short", "+time=3", "+tries=1", "-p", port, "@127.0.0.1", "a.example", "A")
            assert (await lab.check_output(*ask, rules=[f"kernel udp port {port}"])).strip() == "10.1.2.3"
            assert await lab.start(*ask, rules=[f"kernel tcp port {port}"]).wait() != 0

    run_lab(scenario)


@needs("curl")
def test_a_listener_by_port():
    async def scenario(lab):
        program = lab.python(HELLO, "kernel", 0, rules=["kernel listen 127.0.0.1"])
        port = int(await lab.until(lambda: program.output.strip()))
        assert await lab.check_output(*FETCH, f"http://127.0.0.1:{port}/", rules=["kernel"]) == "kernel"
        assert not list(lab.stack.tcp.listeners())
        await on_the_stack(lab, rules=[f"kernel listen port {port}"])

    run_lab(scenario)


CHOICES = 64
CHOSEN_PORTS = """
import socket, sys
for _ in range(int(sys.argv[1])):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        print(sock.getsockname()[1], flush=True)
"""


def test_a_port_that_was_chosen_is_free_where_the_listener_goes():
    async def scenario(lab):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            lab.stack.sysctl.ip_local_port_range = (port - 4, port + 4)
            ports = await lab.check_output(PYTHON, "-c", CHOSEN_PORTS, CHOICES, rules=["kernel listen 127.0.0.1"])
            assert len(ports.split()) == CHOICES
            assert str(port) not in ports.split()

    run_lab(scenario)


MULTIPATH = """
import socket
server = socket.create_server(("127.0.0.1", 7000))
client = socket.create_connection(server.getsockname())
served, _ = server.accept()
client.sendall(b"text")
assert served.recv(9) == b"text"
print(client.getsockopt(6, 43), served.getsockopt(6, 43), client.getsockopt(1, 38))
"""


@pytest.mark.parametrize(
    ("upgrade", "rules", "says"),
    [
        ("auto", ["mptcp port 7000", "mptcp listen port 7000"], "1 1 6\n"),
        ("auto", ["mptcp to 10.0.0.0/8", "mptcp listen port 7001"], "0 0 6\n"),
        ("auto", ["mptcp program python*"], "1 1 6\n"),
        ("on", ["tcp port 7000"], "0 0 6\n"),  # the listener falls back
        ("on", ["tcp listen port 7000"], "0 0 6\n"),
        ("on", [], "1 1 6\n"),
        ("off", ["mptcp"], "0 0 6\n"),
    ],
)
def test_tcp_becomes_mptcp_by_rule(upgrade, rules, says):
    async def scenario(lab):
        assert await lab.check_output(PYTHON, "-c", MULTIPATH, rules=rules) == says

    run_lab(scenario, upgrade=upgrade)


def test_what_was_set_before_is_set_after():
    """Options, source port, O_NONBLOCK and close-on-exec of a socket that the kernel gets at connect."""
    script = """
    import fcntl, os, socket, struct, sys
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 30000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 7))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 2, 500000))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x10)
    sock.bind(("127.0.0.1", 0))
    name = sock.getsockname()
    os.set_inheritable(sock.fileno(), True)
    sock.setblocking(False)
    print(sock.connect_ex(("127.0.0.1", int(sys.argv[1]))) in (0, 115))
    flags = fcntl.fcntl(sock, fcntl.F_GETFL)
    print(sock.getsockname() == name, flags & os.O_NONBLOCK != 0, os.get_inheritable(sock.fileno()))
    options = [(1, 9, 4), (1, 8, 4), (1, 13, 8), (1, 20, 16), (6, 1, 4), (0, 1, 4)]
    print([sock.getsockopt(*each).hex() for each in options])
    try:
        sock.getsockopt(6, 20003, 64)
    except OSError:
        print("kernel")
    """
    script = "\n".join(line[4:] for line in script.splitlines())

    async def scenario(lab):
        with on_the_kernel(HELLO, "kernel", 0) as port:
            said = await lab.check_output(PYTHON, "-c", script, port, rules=[f"kernel port {port}"])
        values = ["01000000", "60ea0000", "0100000007000000", "0200000000000000" + "20a1070000000000"]
        values += ["01000000", "10000000"]
        assert said.splitlines() == ["True", "True True True", str(values), "kernel"]

    run_lab(scenario)


def test_who_waits_goes_on_waiting():
    """A thread in recvfrom while another sends the first datagram, which settles that the kernel has the socket."""
    script = """
import socket, sys, threading, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
thread = threading.Thread(target=lambda: print(sock.recvfrom(99)[0]))
thread.start()
time.sleep(0.3)
sock.sendto(b"text", sock.getsockname())
thread.join()
"""

    async def scenario(lab):
        assert await lab.check_output(PYTHON, "-c", script, rules=["kernel udp to 127.0.0.1"]) == "b'text'\n"
        assert not list(lab.stack.udp.endpoints())

    run_lab(scenario)


@needs("curl")
def test_loopback_of_the_kernel():
    async def scenario(lab):
        lab.stack.add_link("out", [(b"\x0a\x09\x00\x02", 24)])
        script = HELLO.replace("127.0.0.1", "10.9.0.2")
        lab.python(script, "stack", 8000, loopback="kernel")
        await lab.listening(8000)
        with on_the_kernel(HELLO, "kernel", 0) as port:
            for host, at, says in (("127.0.0.1", port, "kernel"), ("10.9.0.2", 8000, "stack")):
                assert await lab.check_output(*FETCH, f"http://{host}:{at}/", loopback="kernel") == says

    run_lab(scenario)


# ---------------------------------------------------------------------- the command line and the file

WHO = """
import socket
server = socket.create_server(("10.64.0.1", 9000))
server.listen()
print("ready", flush=True)
while True:
    sock, (host, _) = server.accept()
    sock.sendall(host.encode())
    sock.close()
"""
ASK = """
import socket
sock = socket.create_connection(("10.64.0.1", 9000), 10)
print(sock.recv(100).decode())
"""


@pytest.fixture
def mirror(netns, stack):
    """A server on the host's kernel that tells who came."""
    server = netns.start(sys.executable, "-c", WHO, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"


def test_per_run_in_another_namespace(netns, stack, mirror):
    """The kernel is the one that the stack runs on, not that of the namespace which leads nowhere."""
    asked = {
        (): "10.64.0.2",
        ("--rule", "kernel"): "10.64.0.1",
        ("--rule", "kernel to 10.64.0.0/24"): "10.64.0.1",
        ("--rule", "stack port 9000", "--rule", "kernel"): "10.64.0.2",
    }
    for options, says in asked.items():
        done = netns.nuse("run", "--name", stack.name, *options, "--", sys.executable, "-c", ASK)
        assert done.stdout == says + "\n"
    refused = netns.nuse("run", "--name", stack.name, "--rule", "kernel at once", "--", "true", check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("nuse: rule 'kernel at once': 'at' is none of")


def test_for_the_whole_stack_in_the_file(netns, stack_name, tmp_path):
    file = tmp_path / "nuse.toml"
    file.write_text(
        f"[stack]\nname = '{stack_name}'\n[shim]\nloopback = 'kernel'\n"
        "rules = ['kernel to 10.64.0.1 port 9000', 'mptcp to 10.64.0.0/24']\n"
    )
    netns.nuse("up", "--detach", "-c", file)
    server = netns.start(sys.executable, "-c", WHO, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    local = netns.start(sys.executable, "-u", "-c", HELLO, "host", 8000, stdout=subprocess.PIPE)
    assert local.stdout.readline() == b"8000\n"
    run = ("run", "--name", stack_name)
    assert netns.nuse(*run, "--", sys.executable, "-c", ASK).stdout == "10.64.0.1\n"
    assert netns.nuse(*run, "--rule", "stack", "--", sys.executable, "-c", ASK).stdout == "10.64.0.2\n"
    fetch = [PYTHON, "-c", "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/').read())"]
    assert netns.nuse(*run, "--", *fetch).stdout == "b'host'\n"
    assert "refused" in netns.nuse(*run, "--loopback", "stack", "--", *fetch, check=False).stderr


def test_nothing_of_the_kernels_socket_stays_with_the_stack(netns, stack, mirror):
    script = ASK + "import os; os.kill(os.getpid(), 9)"
    netns.nuse("run", "--name", stack.name, "--rule", "kernel", "--", sys.executable, "-c", script, check=False)

    def sockets():
        return [line for line in netns.run("ss", "-tnH").stdout.splitlines() if "ESTAB" in line]

    wait_until(lambda: not sockets())


@needs("ping")
@pytest.mark.parametrize("rule", ["kernel", "kernel ping", "kernel to 10.64.0.0/24", "stack"])
def test_ping(netns, stack, rule):
    """Also where the kernel has no ping sockets for it, so that it needs a raw one."""
    ping = ("ping", "-c1", "-W5", "10.64.0.1")
    assert "1 received" in netns.nuse("run", "--name", stack.name, "--rule", rule, "--", *ping).stdout
    assert ("IcmpOutEchos" in stack.ask("nstat")) == (rule == "stack")
