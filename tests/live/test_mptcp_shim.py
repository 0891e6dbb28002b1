"""Programs with MPTCP sockets on the stack, asked for or upgraded, against the kernel's MPTCP in both roles."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from .conftest import RunningStack, wait_until
from .shim_lab import run_lab

SIZE = 5_000_000
SERVE = """
import http.server, socket, socketserver, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def __init__(self, *args):
        socketserver.BaseServer.__init__(self, *args)
        self.socket = socket.socket(self.address_family, socket.SOCK_STREAM, int(sys.argv[3]))
        self.server_bind()
        self.server_activate()
class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
        super().__init__(*args, directory=sys.argv[2])
    def do_PUT(self):
        size = int(self.headers["Content-Length"])
        with open(sys.argv[2] + self.path, "wb") as file:
            while size:
                piece = self.rfile.read(min(size, 1 << 16))
                size -= len(piece)
                file.write(piece)
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()
with Server(("::", int(sys.argv[1])), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
FETCH = """
import ctypes, hashlib, json, socket, struct, sys
sys.path.insert(0, sys.argv[4])
from mptcp.info import MptcpInfo
def array(sock, option, size):
    raw = ctypes.create_string_buffer(struct.pack("=4I", 16, 0, 0, size), 16 + 8 * size)
    length = ctypes.c_uint32(len(raw))
    assert ctypes.CDLL(None).getsockopt(sock.fileno(), 284, option, raw, ctypes.byref(length)) == 0
    return [raw.raw[at : at + size] for at in range(16, length.value, size)]
def subflows(sock):
    names = [[socket.inet_ntoa(raw[at + 4 : at + 8]) for at in (0, 128)] for raw in array(sock, 3, 256)]
    received = [struct.unpack_from("=Q", raw, 128)[0] for raw in array(sock, 2, 280)]
    return sorted(zip(names, received))
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM, int(sys.argv[3]))
sock.connect((sys.argv[1], int(sys.argv[2])))
sock.sendall(b"GET /f HTTP/1.0\\r\\n\\r\\n")
file = sock.makefile("rb")
while file.readline().strip():
    pass
digest = hashlib.sha256(file.read()).hexdigest()
told = {"sha256": digest, "proto": sock.getsockopt(1, 38), "is_mptcp": sock.getsockopt(6, 43)}
try:
    info = MptcpInfo.unpack(sock.getsockopt(284, 1, 96))
    told |= {"received": info.bytes_received, "sent": info.bytes_sent, "flags": info.flags, "token": info.token}
    if family == socket.AF_INET and sys.argv[5:]:
        told["subflows"] = subflows(sock)
except OSError as error:
    told |= {"errno": error.errno}
print(json.dumps(told))
"""
IPPROTO_TCP, IPPROTO_MPTCP = 6, 262
EOPNOTSUPP, ENOPROTOOPT = 95, 92
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@pytest.fixture
def site(tmp_path):
    """A directory to serve, with one file `f`."""
    path = tmp_path / "site"
    path.mkdir()
    (path / "f").write_bytes(os.urandom(SIZE))
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def mib(netns):
    """The kernel's MPTCP counters in a namespace."""
    out = netns.run("nstat", "-asz").stdout
    return {word[0]: int(word[1]) for word in map(str.split, out.splitlines()) if word[0].startswith("MPTcpExt")}


@pytest.fixture
def launch():
    """Starts programs that say when they are ready, and ends them."""
    begun = []

    def start(how, *argv):
        process = how(sys.executable, "-c", *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in begun:
        process.terminate()
        process.communicate(timeout=30)


def serve(launch, how, site, proto, port=8000):
    """An HTTP server."""
    return launch(how, SERVE, port, site, proto)


def fetch(run, host, proto, *more, port=8000):
    """What a client says that fetched `f` on a socket of `proto`."""
    return json.loads(run(sys.executable, "-c", FETCH, host, port, proto, ROOT, *more).stdout)


@pytest.mark.parametrize("v6", [False, True])
def test_a_program_asks_for_mptcp_and_gets_it(stack, netns, launch, site, v6):
    serve(launch, netns.start, site, IPPROTO_MPTCP)
    told = fetch(stack.run, stack.peer6 if v6 else stack.peer, IPPROTO_MPTCP)
    assert told["sha256"] == sha256(site / "f")
    assert (told["proto"], told["is_mptcp"]) == (IPPROTO_MPTCP, 1)
    assert told["received"] > SIZE
    assert told["token"]
    kernel = mib(netns)
    assert kernel["MPTcpExtMPCapableSYNRX"] == kernel["MPTcpExtMPCapableACKRX"] == 1
    assert not any(value for name, value in kernel.items() if "Fallback" in name or "Err" in name)
    ours = json.loads(stack.ask("nstat", "-azj"))["kernel"]
    assert ours["MPTcpExtMPCapableSYNTX"] == ours["MPTcpExtMPCapableSYNACKRX"] == 1


def test_a_server_that_asks_for_mptcp_serves_kernels_with_and_without(stack, netns, launch, site):
    serve(launch, stack.start, site, IPPROTO_MPTCP)
    digest = sha256(site / "f")
    told = fetch(netns.run, stack.own, IPPROTO_MPTCP)
    assert (told["sha256"], told["proto"], told["is_mptcp"]) == (digest, IPPROTO_MPTCP, 1)
    assert told["token"]
    told = fetch(netns.run, stack.own, IPPROTO_TCP)
    assert (told["sha256"], told["is_mptcp"]) == (digest, 0)
    ours = json.loads(stack.ask("nstat", "-azj"))["kernel"]
    assert ours["MPTcpExtMPCapableSYNRX"] == ours["MPTcpExtMPCapableACKRX"] == 1


def test_a_peer_without_mptcp_gets_tcp_and_the_program_can_tell(stack, netns, launch, site):
    serve(launch, netns.start, site, IPPROTO_TCP)
    told = fetch(stack.run, stack.peer, IPPROTO_MPTCP)
    assert told["sha256"] == sha256(site / "f")
    assert (told["proto"], told["is_mptcp"], told["errno"]) == (IPPROTO_MPTCP, 0, EOPNOTSUPP)
    assert json.loads(stack.ask("nstat", "-azj"))["kernel"]["MPTcpExtMPCapableFallbackSYNACK"] == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="not installed: curl")
def test_curl_is_upgraded_and_does_not_notice(stack, netns, launch, site, tmp_path):
    serve(launch, netns.start, site, IPPROTO_MPTCP)

    def curl(*argv, upgrade=("--mptcp",)):
        netns.nuse("run", "--name", stack.name, *upgrade, "--", "curl", "-sS", *argv)

    url = f"http://{stack.peer}:8000"
    curl("-o", tmp_path / "got", f"{url}/f")
    assert sha256(tmp_path / "got") == sha256(site / "f")
    curl("-T", site / "f", f"{url}/up")
    assert sha256(site / "up") == sha256(site / "f")
    curl("-6", "-o", tmp_path / "got6", f"http://[{stack.peer6}]:8000/f")
    assert sha256(tmp_path / "got6") == sha256(site / "f")
    assert mib(netns)["MPTcpExtMPCapableSYNRX"] == 3
    curl("-o", tmp_path / "got", f"{url}/f", upgrade=())
    curl("-o", tmp_path / "got", f"{url}/f", upgrade=("--no-mptcp",))
    assert mib(netns)["MPTcpExtMPCapableSYNRX"] == 3
    stack.ask("sysctl", "nuse.mptcp_upgrade=1")
    curl("-o", tmp_path / "got", f"{url}/f", upgrade=())
    assert mib(netns)["MPTcpExtMPCapableSYNRX"] == 4
    curl("-o", tmp_path / "got", f"{url}/f", upgrade=("--no-mptcp",))
    assert mib(netns)["MPTcpExtMPCapableSYNRX"] == 4


def test_without_mptcp_a_program_is_told_at_once(stack, netns):
    ask = "import socket\ntry: socket.socket(2, 1, 262)\nexcept OSError as e: print(e.errno)\nelse: print(0)"
    command = [sys.executable, "-c", ask]
    assert int(stack.run(*command).stdout) == 0
    assert int(netns.nuse("run", "--name", stack.name, "--no-mptcp", "--", *command).stdout) == ENOPROTOOPT
    stack.ask("sysctl", "net.mptcp.enabled=0")
    assert int(stack.run(*command).stdout) == ENOPROTOOPT


HOLD = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("", 9000))
server.listen()
print("ready", flush=True)
conn, _ = server.accept()
while data := conn.recv(100):
    conn.sendall(data)
"""
TALK = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
sock.connect((sys.argv[1], 9000))
sock.sendall(b"hello")
assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
print("ready", flush=True)
sys.stdin.read()
"""


def test_ss_and_explain_show_a_connection_as_the_kernels_ss_does(stack, netns, launch):
    launch(netns.start, HOLD)
    launch(stack.start, TALK, stack.peer)

    theirs = wait_until(lambda: [line for line in netns.run("ss", "-HMni").stdout.splitlines() if "token" in line])[0]
    (first, ours) = stack.ask("ss", "-HMni").splitlines()
    assert re.match(rf"ESTAB +0 +0 +{stack.own}:\d+ +{stack.peer}:9000", first)
    assert ours.startswith("\t ")
    words, kernel = (dict(re.findall(r"(\w+):([0-9a-f]+)", line)) for line in (ours, theirs))
    assert words["write_seq"] == kernel["rcv_nxt"]
    assert words["rcv_nxt"] == kernel["write_seq"] == kernel["snd_una"]
    assert (words["bytes_sent"], words["bytes_received"], words["subflows_total"]) == ("5", "5", "1")
    assert "remote_key" in ours

    (theirs,) = re.findall(r"tcp-ulp-mptcp (flags:Mec.*)", netns.run("ss", "-Htni").stdout)
    (ours,) = re.findall(r"tcp-ulp-mptcp (flags:\w+ .*)", stack.ask("ss", "-Htni"))
    token = words["token"]
    assert re.match(rf"flags:Mmec token:0000\(id:0\)/{token}\(id:0\) seq:\w+ sfseq:1 ssnoff:\w+ maplen:5$", ours)
    assert re.sub(r"\w+\(id:0\) seq:\w+|ssnoff:\w+|flags:\w+", "", ours) == re.sub(
        r"\w+\(id:0\) seq:\w+|ssnoff:\w+|flags:\w+", "", theirs.strip()
    )

    port = first.split()[3].rpartition(":")[2]
    told = stack.ask("explain", f"{stack.own}:{port}")
    assert f"token {int(token, 16):08x}, 5 bytes sent, 5 bytes received" in told  # ss leaves leading zeroes out
    assert "scheduler minrtt, path manager kernel, checksums off" in told
    assert re.search(r"subflow 1: .* on tun0, ESTABLISHED: the first, rtt", told)
    (row,) = json.loads(stack.ask("debug", "mptcp"))
    assert row["owner"] == "StreamSocket"
    assert [each["initial"] for each in row["subflows"]] == [True]


def test_explain_says_why_a_connection_is_plain_tcp(stack, netns, launch):
    launch(netns.start, HOLD.replace("262", "6"))
    launch(stack.start, TALK, stack.peer)
    assert "plain TCP: the server's SYN-ACK had no usable MP_CAPABLE" in stack.ask("explain", f"{stack.peer}:9000")
    assert stack.ask("ss", "-HMn") == ""


@pytest.fixture
def two_links(netns, stack_name, request):
    """A stack with tun0 and tun1, each with the words of the test's parameter behind its name."""
    words = getattr(request, "param", ("", ""))
    links = [word for number, flags in enumerate(words) for word in ("--link", f"tun{number}{flags}")]
    netns.run("ip", "mptcp", "limits", "set", "subflows", "8", "add_addr_accepted", "8")
    netns.nuse("up", "--detach", "--name", stack_name, *links)
    yield RunningStack(netns, stack_name)
    netns.nuse("down", "--name", stack_name, check=False)


def test_a_program_runs_over_two_links(two_links, netns, launch, site):
    serve(launch, netns.start, site, IPPROTO_MPTCP)
    told = fetch(two_links.run, two_links.peer, IPPROTO_MPTCP, "subflows")
    assert told["sha256"] == sha256(site / "f")
    assert [names for names, _ in told["subflows"]] == [["10.64.0.2", "10.64.0.1"], ["10.64.1.2", "10.64.0.1"]]
    assert all(received for _names, received in told["subflows"])
    kernel = mib(netns)
    assert kernel["MPTcpExtMPJoinSynRx"] == kernel["MPTcpExtMPJoinAckRx"] == 1
    assert not any(kernel[f"MPTcpExt{name}"] for name in ("MPJoinAckHMacFailure", "DSSCorruptionReset", "DataCsumErr"))


@pytest.mark.parametrize("two_links", [("", ",backup")], indirect=True)
def test_the_words_of_a_link_make_its_addresses_endpoints(two_links, netns, launch):
    assert two_links.ask("mptcp", "endpoint", "show").splitlines() == [
        "10.64.0.2 id 1 subflow dev tun0",
        "fd64::2 id 2 subflow dev tun0",
        "10.64.1.2 id 3 subflow backup dev tun1",
        "fd64:1::2 id 4 subflow backup dev tun1",
    ]
    launch(netns.start, HOLD)
    launch(two_links.start, TALK, two_links.peer)
    wait_until(lambda: "backup (we ask)" in two_links.ask("explain", f"{two_links.peer}:9000"))
    assert re.search(r"tcp-ulp-mptcp flags:Jjbec token:\w{4,8}\(id:0\)/\w+\(id:3\)", two_links.ask("ss", "-Htni"))


SCRIPT = os.path.join(os.path.dirname(__file__), "shim_scripts", "mptcp.py")
REFUSED = {"ENOTSUP", "EOPNOTSUPP", "ENOPROTOOPT"}
FRESH = re.compile(r"option (0|6|41) \d+")  # options of IP and TCP, of which we take more on an MPTCP socket


def agrees(kernel, stack):
    """The same, but that an option of IP or TCP may be taken, or refused for another reason, where Linux refuses it."""
    if kernel == stack:
        return True
    label, _, said = kernel.partition(": ")
    ours = stack.partition(": ")[2].split()
    return bool(FRESH.fullmatch(label)) and all(k == s or k in REFUSED for k, s in zip(said.split(), ours, strict=True))


@pytest.mark.parametrize("family", ["4", "6"])
def test_an_mptcp_socket_answers_as_linux_does(family):
    env = os.environ | {"FAMILY": family, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kernel = done.stdout.splitlines()

    async def scenario(lab):
        stack = (await lab.check_output(sys.executable, SCRIPT, env=env)).splitlines()
        assert [pair for pair in zip(kernel, stack, strict=False) if not agrees(*pair)] == []
        assert len(kernel) == len(stack)

    run_lab(scenario)
