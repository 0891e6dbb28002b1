"""The command line against running stacks: up, down, run and everything that looks inside."""

import errno
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import traces_of, wait_until

SERVER = """
import http.server, socketserver, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = 10
with Server(("::", 8000), http.server.SimpleHTTPRequestHandler) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
HOLD = """
import socket, sys, time
conn = socket.create_connection((sys.argv[1], int(sys.argv[2])))
conn.sendall(b"hello")
print(conn.recv(100), flush=True)
try:
    conn.recv(100)
    print("end", flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"""
GREETER = """
import socket, time
server = socket.create_server(("", 9000))
print("ready", flush=True)
conn, _ = server.accept()
conn.sendall(conn.recv(100))
time.sleep(60)
"""
WAITER = """
import socket, sys
server = socket.create_server(("", 7001), backlog=9)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 7002))
print("ready", flush=True)
sys.stdin.read()
"""

ON_A_TERMINAL = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)  # not a shell's `sleep`: dash loses a signal that comes while it forks
if os.isatty(0):
    print("tty", flush=True)
    time.sleep(60)
"""
CONNECT = "import socket; socket.create_connection(('192.0.2.1', 9), 5)"
WHO = """
import socket
server = socket.create_server(("192.0.2.1", 9))
print("ready", flush=True)
conn, (host, _) = server.accept()
print(host, flush=True)
"""


@pytest.fixture
def web(netns, tmp_path):
    """An ordinary web server on the host's kernel, with a small and a large file."""
    (tmp_path / "small").write_text("small\n")
    (tmp_path / "large").write_bytes(os.urandom(4_000_000))
    process = netns.start(sys.executable, "-c", SERVER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path)
    assert process.stdout.readline() == b"ready\n"
    return tmp_path


@pytest.fixture
def held(netns, stack):
    """A connection from a program on the stack to the kernel, which stays."""
    greeter = netns.start(sys.executable, "-c", GREETER, stdout=subprocess.PIPE)
    assert greeter.stdout.readline() == b"ready\n"
    program = stack.start(sys.executable, "-c", HOLD, stack.peer, 9000, stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "b'hello'\n"
    return program


# --- up and down


def test_up_in_the_foreground_ends_with_ctrl_c(netns, stack_name):
    up = netns.start_nuse("up", "--name", stack_name, stderr=subprocess.PIPE, text=True)
    assert "is up: tun0 10.64.0.2/24 fd64::2/64" in up.stderr.readline()
    assert netns.run("ping", "-c1", "-W5", "10.64.0.2").returncode == 0
    assert netns.run("ping", "-c1", "-W5", "fd64::2").returncode == 0
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=20) == 0
    assert netns.traces() == []
    assert traces_of(stack_name) == []


def test_detached_up_holds_nothing_of_its_callers(netns, stack_name):
    """The pipe of `nuse up --detach | cat` must close, or scripts hang."""
    started = time.monotonic()
    done = netns.run("sh", "-c", f"{sys.executable} -m nuse up --detach --name {stack_name} 2>&1 | cat")
    assert "is up" in done.stdout
    assert time.monotonic() - started < 20
    pid = int(Path(f"/run/nuse/{stack_name}/pid").read_text())
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


def test_up_from_a_file(netns, stack_name, tmp_path):
    (tmp_path / "nuse.toml").write_text(
        f"[stack]\nname = '{stack_name}'\n[[link]]\nname = 'tun2'\nmtu = 1400\nimpair = 'delay 5ms seed 1'\n"
        "[sysctl]\nnet.ipv4.tcp_sack = 0\n"
    )
    netns.nuse("up", "--detach", "-c", tmp_path / "nuse.toml")
    assert "net.ipv4.tcp_sack = 0\n" in netns.nuse("sysctl", "--name", stack_name, "net.ipv4.tcp_sack").stdout
    link = json.loads(netns.nuse("link", "--name", stack_name, "-j", "show", "tun2").stdout)[0]
    assert link["mtu"] == 1400
    assert link["impair"]["egress"]["spec"].startswith("delay 5ms")


def test_two_links_and_both_answer(netns, stack_name):
    netns.nuse("up", "--detach", "--name", stack_name, "--link", "tun0", "--link", "tun1,mtu=9000")
    for address in ("10.64.0.2", "10.64.1.2", "fd64::2", "fd64:1::2"):
        assert netns.run("ping", "-c1", "-W5", address).returncode == 0


# --- run


def test_curl_over_both_ip_versions(stack, web):
    assert stack.run("curl", "-sS", "-m20", f"http://{stack.peer}:8000/small").stdout == "small\n"
    assert stack.run("curl", "-sS", "-m20", f"http://[{stack.peer6}]:8000/small").stdout == "small\n"


def test_a_program_sees_a_sane_host(stack):
    out = stack.run("ip", "-br", "addr").stdout
    assert "10.64.0.2/24" in out
    assert "tun0" not in out
    assert "default dev nuse0" in stack.run("ip", "route").stdout
    assert "nameserver" in stack.run("cat", "/etc/resolv.conf").stdout


def test_netns_host_stays_outside(stack, netns):
    out = netns.nuse("run", "--name", stack.name, "--netns", "host", "--", "ip", "-br", "addr").stdout
    assert "tun0" in out
    assert "nuse0" not in out


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
def test_exit_status_is_the_commands(stack, script, status):
    assert stack.run("sh", "-c", script, check=False).returncode == status


def test_a_command_that_is_not_there(stack):
    done = stack.run("no-such-command", check=False)
    assert done.returncode == 127
    assert done.stderr == "nuse: no-such-command: No such file or directory\n"
    assert stack.run("/etc/hostname", check=False).returncode == 126


def test_arguments_environment_and_stdin_pass_through(stack):
    out = stack.run("sh", "-c", 'cat; echo "$1|$WORD|$PWD"', "sh", "a b", input="in", cwd="/usr")
    assert out.stdout == "ina b||/usr\n"


def test_the_terminal_passes_through(netns, stack):
    """A program under nuse has the terminal, and Ctrl-C on it ends the program by SIGINT."""
    master, slave = pty.openpty()
    program = [sys.executable, "-c", ON_A_TERMINAL]
    command = netns.command(sys.executable, "-m", "nuse", "run", "--name", stack.name, "--", *program)
    pid = os.fork()
    if pid == 0:
        os.close(master)
        os.login_tty(slave) if hasattr(os, "login_tty") else _login_tty(slave)
        os.execvpe(command[0], command, os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    os.close(slave)
    seen = b""
    while b"tty" not in seen:
        seen += os.read(master, 1000)
    os.write(master, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 130


def _login_tty(fd):
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(fd, number)


def test_several_programs_share_one_stack(stack, web):
    curl = ["curl", "-sS", "-m30", f"http://{stack.peer}:8000/large", "-o", "/dev/null", "-w", "%{size_download}"]
    programs = [stack.start(*curl, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [program.communicate(timeout=60)[0] for program in programs] == ["4000000"] * 3


def test_a_killed_stack_resets_programs_and_hangs_none(stack, held):
    os.kill(stack.pid, signal.SIGKILL)
    assert held.stdout.readline() == "reset\n"
    assert held.wait(timeout=20) == 0
    wait_until(lambda: not stack.survivors())


def test_a_stack_that_ends_resets_programs(stack, held):
    stack.ask("down")
    assert held.stdout.readline() == "reset\n"


# --- private stacks


def test_a_private_stack_leaves_no_trace(netns, web):
    done = netns.nuse("run", "--", "curl", "-sS", "-m20", "http://10.64.0.1:8000/small")
    assert done.stdout == "small\n"
    assert netns.traces() == []


def test_a_private_stack_with_options_and_exit_status(netns):
    options = ["--link", "tun7,mtu=1400", "--sysctl", "net.ipv4.tcp_sack=0", "--cc", "reno", "--no-offload"]
    done = netns.nuse(
        "run", *options, "--impair", "delay 1ms", "--", "sh", "-c", "ip -br a show nuse0; exit 5", check=False
    )
    assert done.returncode == 5
    assert "10.64.7.2/24" in done.stdout
    assert netns.traces() == []


def test_two_private_stacks_at_once(netns):
    runs = [
        netns.start_nuse("run", "--", "sh", "-c", "ip -br a show nuse0; sleep 1", stdout=-1, text=True)
        for _ in range(2)
    ]
    outs = sorted(run.communicate(timeout=60)[0].split()[2] for run in runs)
    assert outs == ["10.64.0.2/24", "10.64.1.2/24"]
    assert netns.traces() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_private_run_leaves_no_trace(netns, number):
    run = netns.start_nuse("run", "--", "sh", "-c", "echo go; exec sleep 60", stdout=-1, start_new_session=True)
    assert run.stdout.readline() == b"go\n"
    os.killpg(run.pid, number)
    assert run.wait(timeout=20) == 128 + number
    assert netns.traces() == []


def test_a_killed_private_run_leaves_no_trace(netns):
    run = netns.start_nuse("run", "--", "sh", "-c", "echo go; exec sleep 5", stdout=-1)
    assert run.stdout.readline() == b"go\n"
    run.kill()
    wait_until(lambda: netns.traces() == [])
    wait_until(lambda: not Path(f"/run/nuse/run-{run.pid}").exists())


# --- looking inside


def test_ss_shows_a_live_connection(stack, held):
    lines = stack.ask("ss", "-tni").splitlines()
    assert lines[0].split() == ["State", "Recv-Q", "Send-Q", "Local", "Address:Port", "Peer", "Address:Port", "Process"]
    assert lines[1].split()[:3] == ["ESTAB", "0", "0"]
    assert lines[1].split()[4] == "10.64.0.1:9000"
    assert " cubic wscale:" in lines[2]
    assert " bytes_acked:" in lines[2]
    rows = json.loads(stack.ask("ss", "-tj"))
    assert rows[0]["info"]["bytes_received"] == 5
    assert stack.ask("ss", "-tnH", "dport", "=", ":9001") == ""


def test_ss_shows_listeners_and_udp(stack):
    program = stack.start(sys.executable, "-c", WAITER, stdin=-1, stdout=-1)
    program.stdout.readline()
    lines = stack.ask("ss", "-tulnH").splitlines()
    program.communicate(b"")
    assert ["tcp", "LISTEN", "0", "9", "0.0.0.0:7001", "0.0.0.0:*"] in [line.split() for line in lines]
    assert ["udp", "UNCONN", "0", "0", "0.0.0.0:7002", "0.0.0.0:*"] in [line.split() for line in lines]


def test_nstat_counts_what_grew(stack, netns):
    netns.run("ping", "-c2", "-i0.1", "10.64.0.2")
    assert json.loads(stack.ask("nstat", "-j"))["kernel"]["IcmpInEchos"] == 2
    assert "IcmpInEchos" not in json.loads(stack.ask("nstat", "-j"))["kernel"]
    assert json.loads(stack.ask("nstat", "-azj"))["kernel"]["IcmpInEchos"] == 2
    assert stack.ask("nstat", "-a", "IcmpInE*").splitlines() == [
        "#kernel",
        "IcmpInEchos                     2                  0.0",
    ]


def test_sysctl_reads_and_writes(stack, netns):
    assert stack.ask("sysctl", "net.ipv4.tcp_sack") == "net.ipv4.tcp_sack = 1\n"
    assert stack.ask("sysctl", "-w", "net.ipv4.tcp_sack=0") == "net.ipv4.tcp_sack = 0\n"
    assert stack.ask("sysctl", "-n", "net.ipv4.tcp_sack") == "0\n"
    assert stack.ask("sysctl", "net.ipv4.tcp_rmem=4096 100000 200000").split() == [
        "net.ipv4.tcp_rmem", "=", "4096", "100000", "200000",
    ]  # fmt: skip
    assert len(stack.ask("sysctl", "-a").splitlines()) > 20
    done = netns.nuse("sysctl", "--name", stack.name, "net.ipv4.tcp_sakc", check=False)
    assert done.returncode == 2
    assert done.stderr == "nuse: no sysctl 'net.ipv4.tcp_sakc'; did you mean 'net.ipv4.tcp_sack'?\n"


def test_link_set_goes_down_up_and_bad(stack, netns):
    stack.ask("link", "set", "tun0", "down")
    assert netns.run("ping", "-c1", "-W1", "10.64.0.2", check=False).returncode == 1
    stack.ask("link", "set", "tun0", "up")
    assert netns.run("ping", "-c1", "-W5", "10.64.0.2").returncode == 0
    stack.ask("link", "set", "tun0", "impair", "delay", "30ms")
    assert "delay 30ms" in stack.ask("link")
    out = netns.run("ping", "-c1", "-W5", "10.64.0.2").stdout
    assert float(out.split("time=")[1].split()[0]) > 59
    stack.ask("link", "set", "tun0", "impair", "clear")
    assert "impair" not in stack.ask("link", "show", "tun0")


def test_route_shows_the_way_out(stack):
    lines = stack.ask("route").splitlines()
    assert any(line.startswith("default via 10.64.0.1 dev tun0") for line in lines)
    assert any(line.startswith("default via fd64::1 dev tun0") for line in lines)
    assert {"dst", "dev", "metric", "family"} <= set(json.loads(stack.ask("route", "-j"))[0])


def test_routes_and_links_change_in_ips_words(stack, netns):
    netns.run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
    run = ("run", "--name", stack.name, "--", sys.executable, "-c", CONNECT)
    for kind, error in (("blackhole", errno.EINVAL), ("unreachable", errno.EHOSTUNREACH), ("prohibit", errno.EACCES)):
        stack.ask("route", "add", kind, "192.0.2.0/24", "metric", "7")
        assert f"{kind} 192.0.2.0/24 dev lo metric 7" in stack.ask("route").splitlines()
        assert f"[Errno {error}]" in netns.nuse(*run, check=False).stderr
        stack.ask("route", "del", "192.0.2.0/24")
    stack.ask("link", "set", "tun0", "addr", "add", "10.64.0.77/24")
    stack.ask("route", "replace", "192.0.2.1", "via", "10.64.0.1", "src", "10.64.0.77", "mtu", "1400")
    server = netns.start(sys.executable, "-c", WHO, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    netns.nuse(*run)
    assert server.stdout.readline() == b"10.64.0.77\n"
    stack.ask("link", "set", "tun0", "addr", "del", "10.64.0.77/24")
    assert "192.0.2.1" not in stack.ask("route")
    stack.ask("link", "set", "tun0", "mtu", "1300")
    assert "mtu 1300" in stack.ask("link", "show", "tun0")
    wrong = ("add default via 203.0.113.1", "del 198.51.100.0/24", "add 10.9.9.9/24 dev lo", "add nonsense dev lo")
    for words in wrong:
        done = netns.nuse("route", "--name", stack.name, *words.split(), check=False)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_debug_speaks_to_the_socket(stack, netns):
    assert "conn ID" in stack.ask("debug")
    assert json.loads(stack.ask("debug", "stack"))["name"] == stack.name
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(stack.state / "debug.sock"))
        sock.sendall(b"version\n")
        assert json.loads(sock.makefile().readline())["ok"]
    done = netns.nuse("debug", "--name", stack.name, "nonsense", check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_the_only_stack_needs_no_name(netns, stack_name):
    """With several up, the answer names them; either way nobody has to guess."""
    netns.nuse("up", "--detach", "--name", stack_name)
    done = netns.nuse("link", check=False)
    if done.returncode == 0:
        assert "10.64.0.2/24" in done.stdout
    else:
        assert stack_name in done.stderr


# --- the demo


def test_the_demo_downloads_compares_and_cleans_up(netns):
    done = netns.nuse("demo", "--size", "20", timeout=120)
    assert "received: equal" in done.stdout
    assert "sha256    equal" in done.stdout
    assert "hand-over:" in done.stdout
    assert "left      nothing" in done.stdout
    assert "ESTAB" in done.stdout or "over before" in done.stdout
    assert netns.traces() == []


def test_an_interrupted_demo_leaves_no_trace(netns):
    demo = netns.start_nuse("demo", "--size", "500", stdout=-1, stderr=-1, text=True, start_new_session=True)
    while "nuse run" not in demo.stdout.readline():
        pass
    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode != 0
    wait_until(lambda: netns.traces() == [])
