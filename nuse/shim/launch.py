"""Start a program under the filter and get hold of its listener.

The child enters the namespace, puts the filter on itself and tells the listener's number over a pipe: a plain write,
which the filter lets through. The parent takes the descriptor with pidfd_getfd, and the child execs. The listener is
close-on-exec, so the program never has it. Terminal, working directory, environment, process group and inherited
descriptors stay as they are; signal dispositions that Python changed go back to their defaults.
"""

import contextlib
import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from nuse.shim import abi, native
from nuse.shim.filter import build_filter

RESOLV_CONF = "/etc/resolv.conf"
_WORD = struct.Struct("=i")


class ShimUnavailable(Exception):
    """This machine cannot run programs on the stack; the message says why and what to do."""


@dataclass(slots=True)
class Child:
    """A program that runs under the filter. Whoever has it owns both descriptors and reaps the process.

    `home` is the inode of the network namespace that it began in.
    """

    pid: int
    listener_fd: int
    pidfd: int
    home: int


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    netns: str | None = None,
    resolv: str | None = None,
    setup: Callable[[], None] | None = None,
) -> Child:
    """Run `argv` under a fresh filter, in the namespace `netns` (a path), with `resolv` as its /etc/resolv.conf.

    `setup` runs in the child before the filter. Returns once the program has been executed; its first notified call
    waits for a supervisor. Raises FileNotFoundError or PermissionError for `argv[0]` as a shell would see it, and
    ShimUnavailable if the kernel cannot do it.
    """
    arch = abi.native()
    if arch is None:
        raise ShimUnavailable(f"the shim does not know this machine ({os.uname().machine}): x86_64 or aarch64 needed")
    program = build_filter(arch)
    report_r, report_w = os.pipe()
    go_r, go_w = os.pipe()
    ours, theirs = {report_r, go_w}, {report_w, go_r}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pidfd = -1
    try:
        pid = os.fork()
        if pid == 0:
            _close(ours)
            _child(argv, os.environ if env is None else env, netns, resolv, setup, program, report_w, go_r, blocked)
        pidfd = os.pidfd_open(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        _close(theirs)
    try:
        listener = _take_listener(pidfd, report_r, go_w)
    except BaseException:
        _close({pidfd})
        os.waitpid(pid, 0)
        raise
    finally:
        _close(ours)
    return Child(pid, listener, pidfd, os.stat(netns or "/proc/self/ns/net").st_ino)


def _close(fds: set[int]) -> None:
    for fd in fds:
        os.close(fd)


def _take_listener(pidfd: int, report: int, go: int) -> int:
    """Read the child's report, take its listener, let it exec, and see that it did."""
    _report(report, "")
    number = _WORD.unpack(_read_exactly(report, _WORD.size))[0]
    try:
        listener = native.pidfd_getfd(pidfd, number)
    except OSError as error:
        raise ShimUnavailable(f"cannot take the seccomp listener from the child: {error.strerror}") from error
    os.write(go, b"g")
    try:
        _report(report, "exec")
    except BaseException:
        os.close(listener)
        raise
    return listener


def _read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            break
        data += piece
    return data


def _report(fd: int, stage: str) -> None:
    """One status word from the child: 0 is fine, else errno and the stage's name. End of file after exec is fine."""
    word = _read_exactly(fd, _WORD.size)
    if not word:
        if stage == "exec":
            return
        raise ShimUnavailable("the child died before it could start the program")
    (code,) = _WORD.unpack(word)
    if code == 0:
        return
    failed = _read_exactly(fd, 4096).decode(errors="replace")
    if failed == "filter":
        if code in (errno.EINVAL, errno.ENOSYS):
            raise ShimUnavailable("this kernel has no seccomp user notification: Linux 5.19 or newer is needed")
        if code == errno.EBUSY:
            raise ShimUnavailable(
                "a program that has a seccomp listener already cannot get another: one per process tree"
            )
        raise ShimUnavailable(f"seccomp refused the filter: {os.strerror(code)}")
    if failed.startswith("exec "):
        raise OSError(code, os.strerror(code), failed[5:])
    raise ShimUnavailable(f"{failed}: {os.strerror(code)}")


def _child(
    argv: Sequence[str],
    env: Mapping[str, str],
    netns: str | None,
    resolv: str | None,
    setup: Callable[[], None] | None,
    program: bytes,
    report: int,
    go: int,
    mask: Collection[int],
) -> NoReturn:
    """The child's side, up to exec. Never returns: what goes wrong is reported, and then it exits."""
    stage = "start"
    try:
        if netns is not None:
            stage = f"cannot enter network namespace {netns}"
            enter_netns(netns)
        if resolv is not None:
            stage = f"cannot put {resolv} over {RESOLV_CONF}"
            _overlay_resolv_conf(resolv)
        if setup is not None:
            stage = "setup"
            setup()
        stage = "filter"
        if os.geteuid() != 0:  # root may set a filter without giving up setuid programs
            native.prctl(abi.PR_SET_NO_NEW_PRIVS, 1)
            with contextlib.suppress(
                OSError
            ):  # where Yama restricts ptrace: a stack that is not our parent must reach us
                native.prctl(abi.PR_SET_PTRACER, abi.PR_SET_PTRACER_ANY)
        listener = native.seccomp_listener(program)
        os.write(report, _WORD.pack(0) + _WORD.pack(listener))
        os.read(go, 1)
        stage = f"exec {argv[0]}"
        restore_signals(mask)
        os.execvpe(argv[0], list(argv), dict(env))
    except BaseException as error:  # noqa: BLE001 - it is reported to the parent, and nothing may run on in the child
        code = getattr(error, "errno", None) or errno.EIO
        os.write(report, _WORD.pack(code) + stage.encode())
    finally:
        os._exit(127)


def restore_signals(mask: Collection[int]) -> None:
    """What a program begins with: defaults where Python changed something, and this mask."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def enter_netns(path: str) -> None:
    """Move this task into the network namespace that `path` names."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        native.setns(fd, abi.CLONE_NEWNET)
    finally:
        os.close(fd)


def _overlay_resolv_conf(path: str) -> None:
    """Show `path` as /etc/resolv.conf to this task and its children only, as `ip netns exec` does."""
    native.unshare(abi.CLONE_NEWNS)
    native.mount("none", "/", abi.MS_SLAVE | abi.MS_REC)
    native.mount(path, os.path.realpath(RESOLV_CONF), abi.MS_BIND)


def probe() -> None:
    """Raise ShimUnavailable if this kernel or machine cannot run the shim; cheap and without effects."""
    if abi.native() is None:
        raise ShimUnavailable(f"the shim does not know this machine ({os.uname().machine}): x86_64 or aarch64 needed")
    sizes = (ctypes.c_ushort * 3)()
    try:
        native.syscall("seccomp", 3, 0, ctypes.addressof(sizes))  # SECCOMP_GET_NOTIF_SIZES
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        raise ShimUnavailable(
            "this kernel has no seccomp user notification or pidfd: Linux 5.19 or newer is needed"
        ) from None
