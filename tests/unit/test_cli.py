"""The command line without a stack: grammar, help, refusals. What needs root is in tests/live/test_cli.py."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from nuse.cli.main import main
from nuse.cli.parser import build_parser
from nuse.foreground import Foreground, Interrupted
from nuse.statedir import Journal, StateDir, host_lock, stack_names


@pytest.fixture
def state_root(tmp_path, monkeypatch):
    """A state directory of our own, as a user without root has it."""
    monkeypatch.setattr("nuse.statedir.state_root", lambda: tmp_path / "nuse")
    return tmp_path / "nuse"


@pytest.mark.parametrize("verb", ["up", "down", "run", "demo", "ss", "nstat", "link", "route", "sysctl", "debug"])
def test_every_command_has_help(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args([verb, "--help"])
    assert caught.value.code == 0
    assert "usage: nuse" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("nuse ")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["up", "--link", "tun0,mtu=5"], "mtu=5: outside 576..65535"),
        (["up", "--link", "tun0,stack=x"], "prefix length is missing"),
        (["up", "--sysctl", "net.ipv4.tcp_sakc=1"], "did you mean 'net.ipv4.tcp_sack'"),
        (["up", "--sysctl", "net.ipv4.tcp_sack=2"], "outside 0..1"),
        (["up", "--cc", "vegas"], "none of cubic, reno"),
        (["up", "--name", "a/b"], "not a name for a stack"),
        (["up", "--impair", "loss 200%"], "200%"),
        (["up", "-c", "/nonexistent.toml"], "/nonexistent.toml: No such file"),
        (["run", "--link", "tun0", "--name", "x", "--", "true"], "leave one out"),
        (["run", "--name", "nobody", "--", "true"], "no stack named 'nobody' is up"),
        (["run", "--mptcp", "maybe", "--", "true"], "none of auto, on, off"),
        (["run", "--mptcp", "curl", "http://10.64.0.1/"], "is it `--mptcp -- curl"),
        (["run", "--mptcp-scheduler", "fastest", "--", "true"], "net.mptcp.scheduler: 'fastest' is none of minrtt"),
        (["run", "--cc", "vegas", "--", "true"], "net.ipv4.tcp_congestion_control: 'vegas' is none of cubic, reno"),
        (["run"], "nothing to run"),
        (["ss"], "no stack named 'nuse' is up"),
        (["ss", "--name", "../etc"], "not a name for a stack"),
        (["ss", "state", "happy"], "no state 'happy'"),
        (["sysctl"], "usage: nuse sysctl"),
        (["link", "set", "tun0"], "usage: nuse link set"),
        (["demo", "--size", "0"], "between 1 and 4096"),
    ],
)
def test_a_refusal_is_one_line_and_status_2(argv, words, state_root, capfd):
    assert main(argv) == 2
    captured = capfd.readouterr()
    assert captured.err.startswith("nuse: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not state_root.exists()


@pytest.mark.parametrize("argv", [[], ["upp"], ["ss", "-k"], ["up", "--nonsense"]])
def test_bad_grammar_is_one_line_and_status_2(argv, capfd):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    err = capfd.readouterr().err
    assert err.startswith("nuse: ")
    assert err.count("\n") == 1


def test_down_without_a_stack_is_no_error(state_root, capfd):
    assert main(["down"]) == 0
    assert capfd.readouterr().err == "nuse: no stack named nuse is up\n"


def test_what_follows_the_dashes_is_the_commands(monkeypatch):
    seen = {}
    monkeypatch.setattr("nuse.cli.main._command", lambda verb: lambda args: seen.update(vars(args)) or 0)
    assert main(["run", "--cc", "reno", "--", "curl", "--cc", "x", "--", "y"]) == 0
    assert (seen["cc"], seen["command"]) == ("reno", ["curl", "--cc", "x", "--", "y"])
    assert main(["run", "curl", "-v", "--name", "x"]) == 0
    assert (seen["name"], seen["command"]) == (None, ["curl", "-v", "--name", "x"])


# --- the state directory


def test_a_name_is_claimed_once_and_freed_by_death(state_root):
    state = StateDir("a")
    assert state.claim()
    assert StateDir("a").holder() == os.getpid()
    assert not StateDir("a").claim()
    assert stack_names() == ["a"]
    os.close(state.lock_fd)  # as the kernel does for a process that was killed
    assert StateDir("a").holder() is None
    second = StateDir("a")
    assert second.claim()
    second.release()
    assert not state_root.exists()


def test_release_keeps_what_setup_wants_kept(state_root):
    state = StateDir("a")
    assert state.claim()
    state.journal("setup").record({"kind": "plan", "links": []})
    (state.path / "stack.log").write_text("x")
    state.release()
    assert [entry.name for entry in (state_root / "a").iterdir()] == ["setup.journal"]


def test_a_journal_survives_a_cut_off_line(tmp_path):
    path = tmp_path / "up.journal"
    journal = Journal(path)
    assert journal.record({"kind": "link", "name": "tun0"})
    assert not journal.record({"kind": "link", "name": "tun0"})
    with path.open("a") as file:
        file.write('{"kind": "li')
    assert Journal(path).steps == [{"kind": "link", "name": "tun0"}]


def test_the_host_lock_leaves_no_trace(state_root):
    with host_lock():
        assert state_root.exists()
    assert not state_root.exists()


# --- the parent of a program


SHELL = "import os, sys; from nuse.foreground import Foreground\n"
PARENT = (
    SHELL
    + """
with Foreground() as foreground:
    pid = os.fork()
    if pid == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    sys.exit(foreground.wait(pid))
"""
)


def parent_of(*argv, **kwargs):
    return subprocess.Popen([sys.executable, "-c", PARENT, *argv], **kwargs)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_exit_status_is_the_programs(script, status):
    assert parent_of("sh", "-c", script).wait(timeout=20) == status


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT"])
def test_a_signal_to_us_alone_goes_on_to_the_program(name):
    with parent_of("sh", "-c", f"trap 'exit 9' {name}; echo ready; while :; do sleep 0.05; done", stdout=-1) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert process.wait(timeout=20) == 9


def test_a_terminals_interrupt_is_not_sent_twice():
    script = "import signal, sys; signal.signal(2, lambda *_: print('int', flush=True)); print('ready', flush=True)"
    script += "\nwhile (line := sys.stdin.readline()) != 'end\\n': print(line, flush=True)"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PARENT, sys.executable, "-c", script])
    with os.fdopen(terminal, "r+b", buffering=0) as screen:
        said = b""
        for wanted, key in ((b"ready", b"\x03"), (b"int", b"go on\n"), (b"go on\r\n\r\n", b"end\n")):
            while wanted not in said:
                said += screen.read(1000)
            screen.write(key)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert said.count(b"int") == 1


def test_an_interrupt_is_for_the_program_to_decide():
    script = "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with parent_of("sh", "-c", script, stdout=-1, start_new_session=True) as process:
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 5


def test_a_program_that_stops_takes_us_along_and_continues_with_us():
    script = "echo ready; kill -STOP $$; echo again; exit 3"
    with parent_of("sh", "-c", script, stdout=-1, start_new_session=True) as process:
        assert process.stdout.readline() == b"ready\n"
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == b"again\n"
        assert process.wait(timeout=20) == 3


def test_a_signal_while_the_program_ends_does_no_harm(monkeypatch):
    """Both get the signal, as from killpg. Ours comes once the program is reaped, when its number may be another's."""
    reap, sent = os.waitpid, []

    def reaped_first(pid, options):
        status = reap(pid, options)
        signal.raise_signal(signal.SIGTERM)
        return status

    with Foreground() as foreground:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -TERM $$"], os.environ)
        monkeypatch.setattr(os, "waitpid", reaped_first)
        monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
        assert foreground.wait(pid) == 143
    assert sent == []


def test_a_signal_before_the_program_is_there_ends_the_run():
    with Foreground() as foreground:
        os.kill(os.getpid(), signal.SIGTSTP)  # stopping is for programs; there is none
        foreground.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            foreground.check()
    assert caught.value.status == 130


def test_commands_about_a_running_stack_start_without_one_of_their_own():
    """Else each `nuse run` would begin with a fifth of a second of imports."""
    words = "import sys, nuse.cli.main, nuse.cli.parser, nuse.cli.up, nuse.cli.look, nuse.shim.launch"
    said = subprocess.run(
        [sys.executable, "-c", f"{words}; print(*sys.modules)"], check=True, capture_output=True, text=True
    ).stdout
    loaded = {name.partition(".")[0] for name in said.split()}
    assert not loaded & {"stack", "mptcp", "asyncio", "uvloop", "dpkt", "pyroute2", "pytun"}
