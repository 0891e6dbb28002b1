"""Programs that become daemons, change users, exec themselves anew, and shells that have jobs."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import wait_until
from .shim_lab import PYTHON, run_lab
from .test_shim_programs import needs

DAEMON = """
import os, socket, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 65536)  # closefrom(3): close_range(2)
assert os.open("/dev/null", os.O_RDWR) == 0
os.dup(0)
os.dup(0)
os.chdir("/")
server = socket.create_server(("", 9000))
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
while True:
    sock, (host, _) = server.accept()
    sock.sendall(host.encode())
    sock.close()
"""
NOBODY = 65534
FETCH = "import socket; print(socket.create_connection(('127.0.0.1', 9000)).recv(99).decode())"


def test_a_daemon_that_outlives_who_started_it(tmp_path):
    """Two forks, a session of its own, every descriptor closed."""

    async def scenario(lab):
        program = lab.python(DAEMON, tmp_path / "pid")
        assert await program.wait() == 0
        await lab.listening(9000)
        assert await lab.check_output(PYTHON, "-c", FETCH) == "127.0.0.1\n"
        assert not program.session.closed.done()
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        await lab.until(program.session.closed.done)

    run_lab(scenario)


def test_a_daemon_outlives_nuse_run(netns, stack, tmp_path):
    file = tmp_path / "pid"
    stack.run(sys.executable, "-c", DAEMON, file)
    wait_until(lambda: file.exists() and file.read_text())
    try:
        ask = f"import socket; print(socket.create_connection(('{stack.own}', 9000)).recv(99).decode())"
        assert netns.run(sys.executable, "-c", ask).stdout == stack.peer + "\n"
    finally:
        os.kill(int(file.read_text()), signal.SIGKILL)


def test_a_server_that_drops_its_privileges():
    """It binds port 80 as root, then serves as nobody: who may not bind it again, and is not to be seen into."""
    script = f"""
import encodings.idna, errno, os, socket  # nobody could not import it later
server = socket.create_server(("127.0.0.1", 80))
os.setgroups([])
os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
client = socket.create_connection(("127.0.0.1", 80))
served, peer = server.accept()
served.sendall(b"text")
print(client.recv(9), client.getsockname() == peer, served.getsockopt(6, 20003, 64))
try:
    socket.socket().bind(("127.0.0.1", 81))
except OSError as error:
    print(errno.errorcode[error.errno])
try:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
except OSError as error:
    print(errno.errorcode[error.errno])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
sock.sendto(b"datagram", sock.getsockname())
print(sock.recvfrom(99)[0])
"""

    async def scenario(lab):
        said = await lab.check_output(PYTHON, "-c", script)
        assert said.splitlines() == ["b'text' True b'lab'", "EACCES", "EPERM", "b'datagram'"]

    run_lab(scenario)


SETUID = r"""
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(82)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char name[64];
    socklen_t size = sizeof name;
    printf("uid %d euid %d bind %d", getuid(), geteuid(), bind(fd, (void *)&at, sizeof at));
    printf(" stack %d\n", getsockopt(fd, IPPROTO_TCP, 20003, name, &size));
    return 0;
}
"""


@needs("gcc", "setpriv")
def test_a_setuid_program(tmp_path):
    """Its user's rights count, unless no_new_privs says otherwise: under root's stack, and with a user's."""
    (tmp_path / "suid.c").write_text(SETUID)
    subprocess.run(["gcc", "-o", tmp_path / "suid", tmp_path / "suid.c"], check=True)
    os.chmod(tmp_path / "suid", 0o4755)
    for path in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(path, 0o755)
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")

    async def scenario(lab):
        assert await lab.check_output(*as_nobody, tmp_path / "suid") == f"uid {NOBODY} euid 0 bind 0 stack 0\n"
        bound = await lab.check_output(*as_nobody, "--no-new-privs", tmp_path / "suid")
        assert bound == f"uid {NOBODY} euid {NOBODY} bind -1 stack 0\n"

    run_lab(scenario)


AGAIN = """
import os, socket, sys
if len(sys.argv) < 2:
    server = socket.create_server(("127.0.0.1", 9000))
    client = socket.create_connection(server.getsockname())
    client.sendall(b"before")
    for each in (server, client):
        os.set_inheritable(each.fileno(), True)
    os.execv(sys.executable, [sys.executable, "-c", CODE, str(server.fileno()), str(client.fileno())])
server, client = (socket.socket(fileno=int(each)) for each in sys.argv[1:])
served, peer = server.accept()
served.sendall(b"after")
print(served.recv(99), client.recv(99), peer == client.getsockname(), len(sys.argv))
"""


def test_a_server_that_executes_itself_anew():
    """It keeps its listener, as for an upgrade, and who connected meanwhile."""
    script = f"CODE = {AGAIN!r}\n{AGAIN}"

    async def scenario(lab):
        assert await lab.check_output(PYTHON, "-c", script) == "b'before' b'after' True 3\n"

    run_lab(scenario)


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, env):
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.execvpe(command[0], command, env)
        self._seen = ""

    def type(self, text):
        os.write(self._fd, text.encode())

    def expect(self, pattern, seconds=20):
        """Wait for output that `pattern` describes, and return the match; what came before it is forgotten."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self._seen)):
            ready, _, _ = select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} did not come, but {self._seen!r}"
            self._seen += os.read(self._fd, 4096).decode(errors="replace")
        self._seen = self._seen[match.end() :]
        return match

    def foreground(self):
        """The process group that Ctrl-C is for."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()[5]

    def state(self):
        """As `ps` shows it: S, T …"""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0]

    def close(self):
        """Its exit status, when it is over: closed any sooner, the terminal would end it by SIGHUP."""
        with contextlib.suppress(OSError):
            while os.read(self._fd, 4096):
                pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


SERVE = """
import socket
server = socket.create_server(("", 7000))
print("serv" + "ing", flush=True)
while True:
    server.accept()
"""


@needs("bash")
@pytest.mark.parametrize("nested", [False, True])
def test_a_shell_with_jobs(netns, stack, tmp_path, nested):
    """Ctrl-C, Ctrl-Z, fg and bg within `nuse run bash`; and again in a shell under a shell."""
    (tmp_path / "serve.py").write_text(SERVE)
    run = [sys.executable, "-m", "nuse", "run", "--name", stack.name, "--"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "dumb"}
    shell = Terminal(netns.command(*run, "bash", "--norc", "-i"), env)
    shell.type("PS1='>''> '\n")
    shell.expect(">> ")
    if nested:
        shell.type(f"{' '.join(run)} bash --norc -i\n")
        shell.type("PS1='n''> '\n")
        shell.expect("n> ")
    shell.type(f"{sys.executable} {tmp_path}/serve.py\n")
    shell.expect("serving")
    shell.type("\x1a")
    shell.expect(r"\[1\]\+  Stopped")
    shell.type("bg; jobs\n")
    shell.expect("Running")
    prompt = shell.foreground()
    shell.type("fg\n")
    wait_until(lambda: shell.foreground() != prompt)
    shell.type("\x03")
    shell.expect("KeyboardInterrupt")
    shell.type("echo status $?\n")
    shell.expect("status 130")
    shell.type(f"{sys.executable} {tmp_path}/serve.py & kill -0 $! && echo be''gun\n")
    shell.expect("begun")
    shell.expect("serving")
    shell.type("kill %%; wait; echo en''ded\n")
    shell.expect("ended")
    if nested:
        shell.type("exit 3\n")
        shell.expect(">> ")
    shell.type("exit 5\n")
    assert shell.close() == 5


@needs("bash")
def test_a_shell_that_suspends_itself(netns, stack):
    """`nuse run` stops with its program, as the shell above it expects, and goes on with it."""
    run = [sys.executable, "-m", "nuse", "run", "--name", stack.name, "--"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "dumb"}
    shell = Terminal(netns.command(*run, "bash", "--norc", "-i"), env)
    shell.type("echo rea''dy; suspend -f\n")
    shell.expect("ready")
    wait_until(lambda: shell.state() == "T")
    os.kill(shell.pid, signal.SIGCONT)
    shell.type("echo ba''ck\n")
    shell.expect("back")
    shell.type("exit 0\n")
    assert shell.close() == 0
