"""Programs in sandboxes, of other architectures, in nuse within nuse: they work, or are refused in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nuse.shim import launch

from .shim_lab import PYTHON, run_lab
from .test_shim_programs import needs

SCRIPTS = Path(__file__).parent / "shim_scripts"
ROOT = Path(__file__).parents[2]
WHOSE = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
served, _ = server.accept()
client.sendall(b"text")
assert served.recv(9) == b"text"
try:
    print("stack", client.getsockopt(socket.IPPROTO_TCP, 20003, 64).decode())
except OSError:
    print("kernel")
"""
IN_ITS_OWN = ("bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--die-with-parent")


def compile_c(name, to, *flags):
    return subprocess.run(["gcc", *flags, "-o", to / name, SCRIPTS / f"{name}.c"], capture_output=True, check=False)


@needs("gcc")
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("errno", ["filter 0", "socket 1 bind 0", "listen -1 1"]),
        ("trap", ["filter 0", "SIGSYS for socket: 1"]),
        ("kill", ["filter 0"]),
        ("strict", ["reads and writes"]),
        ("listener", ["listener EBUSY", "socket 1"]),
    ],
)
def test_a_program_with_a_filter_of_its_own(tmp_path, how, says):
    """The stricter verdict counts. Only a second listener is not to be had."""
    assert compile_c("seccomp", tmp_path).returncode == 0

    async def scenario(lab):
        program = lab.start(tmp_path / "seccomp", how)
        assert await program.wait() == (-31 if how == "kill" else 0)  # SIGSYS
        assert program.output.splitlines() == says

    run_lab(scenario)


@needs("gcc")
def test_a_32_bit_program_is_refused_internet_sockets_in_words(tmp_path):
    done = compile_c("i386", tmp_path, "-m32", "-static", "-nostdlib", "-no-pie", "-fno-pie", "-fno-stack-protector")
    if done.returncode or subprocess.run([tmp_path / "i386"], check=False, capture_output=True).returncode:
        pytest.skip("this compiler or kernel knows no i386")

    async def scenario(lab):
        said = (await lab.check_output(tmp_path / "i386")).splitlines()
        assert said == [
            "socket(AF_INET) ENOSYS", "socketcall(AF_INET) ENOSYS", "socket(AF_UNIX) yes", "socketcall(AF_UNIX) yes",
        ]  # fmt: skip

    run_lab(scenario, warning="is a 32-bit program: it gets ENOSYS for Internet sockets")


@needs("unshare")
def test_who_makes_a_network_namespace_has_its_kernels_sockets():
    async def scenario(lab):
        assert await lab.check_output(PYTHON, "-c", WHOSE) == "stack lab\n"
        up = f"ip link set lo up && exec {PYTHON} -c '{WHOSE}'"
        assert await lab.check_output("unshare", "--net", "sh", "-c", up) == "kernel\n"
        assert await lab.check_output("unshare", "--user", "--map-root-user", PYTHON, "-c", WHOSE) == "stack lab\n"

    run_lab(scenario)


@needs("bwrap")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "stack lab\n"),
        (["--unshare-all", "--share-net"], "stack lab\n"),
        (["--unshare-all"], "kernel\n"),  # which has no way out: no network is what it stands for
    ],
)
def test_bubblewrap(options, says):
    async def scenario(lab):
        assert await lab.check_output(*IN_ITS_OWN, *options, PYTHON, "-c", WHOSE) == says

    run_lab(scenario)


@needs("bwrap", "gcc")
def test_bubblewrap_with_a_filter(tmp_path):
    """`bwrap --seccomp`: a filter that refuses listen()."""
    filter_ = (
        b"\x20\0\0\0\0\0\0\0" + b"\x15\0\0\1\x32\0\0\0" + b"\x06\0\0\0\x01\0\x05\0" + b"\x06\0\0\0\0\0\xff\x7f"
    )  # load nr; 50? ERRNO|EPERM; ALLOW
    (tmp_path / "filter").write_bytes(filter_)
    script = f"exec 9<{tmp_path}/filter; exec {' '.join(IN_ITS_OWN)} --seccomp 9 {PYTHON} -c '{WHOSE}'"

    async def scenario(lab):
        program = lab.start("sh", "-c", script)
        assert await program.wait() == 1
        assert "PermissionError" in program.output
        assert "sock.listen" in program.output

    run_lab(scenario)


NESTED = "cd {root}; exec {python} -m nuse run {options} -- {python} -c '{script}'"


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ("", 0, "stack lab\n"),
        ("--name lab", 0, "stack lab\n"),
        ("--mptcp", 2, "nuse: this runs on stack lab already, with settings of its own; leave the options out\n"),
        ("--name other", 2, "nuse: this runs on stack lab already, and a program cannot have two\n"),
    ],
)
def test_nuse_run_under_nuse_run(options, status, says):
    """One stack is enough: the command becomes what it would be without a second `nuse run`."""
    script = NESTED.format(root=ROOT, python=sys.executable, options=options, script=WHOSE)

    async def scenario(lab):
        program = lab.start("sh", "-c", script)
        assert await program.wait() == status
        assert program.output == says

    run_lab(scenario)


def test_a_second_listener_is_refused_in_words():
    """What `nuse run` would say in a tree whose listener is somebody else's."""
    script = (
        "from nuse.shim import launch\n"
        "try:\n    launch.spawn(['true'])\nexcept launch.ShimUnavailable as error:\n    print(error)"
    )

    async def scenario(lab):
        said = await lab.check_output("sh", "-c", f'cd {ROOT}; exec {sys.executable} -c "{script}"')
        assert said == "a program that has a seccomp listener already cannot get another: one per process tree\n"

    run_lab(scenario)


def test_spawn_tells_the_namespace():
    child = launch.spawn(["true"])
    os.waitpid(child.pid, 0)
    os.close(child.listener_fd)
    os.close(child.pidfd)
    assert child.home == Path("/proc/self/ns/net").stat().st_ino


@needs("chromium-headless-shell", "setpriv")
def test_chromium_in_its_own_sandbox(tmp_path):
    """Which root must not have: as a user, with namespaces and filters of its own round all that draws."""
    (tmp_path / "page.html").write_text("<body><script>document.body.textContent = 'drawn ' + 6 * 7</script>")
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    profile = tmp_path / "profile"
    profile.mkdir()
    os.chown(profile, 65534, 65534)
    browser = ("chromium-headless-shell", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--dump-dom")
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"HOME={profile}")

    async def scenario(lab):
        lab.start(PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "8000", "-d", tmp_path)
        await lab.listening(8000)
        url = "http://127.0.0.1:8000/page.html"
        said = await lab.check_output(*as_nobody, *browser, f"--user-data-dir={profile}", url)
        assert "<body>drawn 42</body>" in said

    run_lab(scenario)
