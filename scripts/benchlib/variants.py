"""Who serves: the kernel, the stack embedded in a Python process, the stack under unmodified programs."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchlib.arena import PORT, Arena, BenchError

CPU = 1  # where both ends of a pinned measurement run
READY_S = 15.0


@contextmanager
def kernel(arena: Arena, offload: bool, pinned: bool) -> Iterator[str]:
    """peer.c on the kernel's own TCP over veth."""
    arena.set_veth_offload(offload)
    with serve_kernel(arena, arena.server_ns, "10.99.0.2", pinned=pinned):
        yield "10.99.0.2"


@contextmanager
def kernel_mptcp(arena: Arena, offload: bool, pinned: bool) -> Iterator[str]:
    """The same on the kernel's Multipath TCP, one subflow."""
    arena.set_veth_offload(offload)
    with serve_kernel(arena, arena.server_ns, "10.99.0.2", pinned=pinned, mptcp=True):
        yield "10.99.0.2"


@contextmanager
def embedded(arena: Arena, offload: bool, pinned: bool) -> Iterator[str]:
    """benchlib.embedded on a TUN device."""
    with serve_embedded(arena, arena.peer_ns, "benchtun0", "10.64.0.2", offload=offload, pinned=pinned):
        yield "10.64.0.2"


@contextmanager
def embedded_mptcp(arena: Arena, offload: bool, pinned: bool) -> Iterator[str]:
    """The same with Multipath TCP, one subflow."""
    with serve_embedded(arena, arena.peer_ns, "benchtun0", "10.64.0.2", offload=offload, pinned=pinned, mptcp=True):
        yield "10.64.0.2"


@contextmanager
def embedded_64k(arena: Arena, offload: bool, pinned: bool) -> Iterator[str]:
    """Plain TCP in packets no larger than a mapping of Multipath TCP can be: without BIG TCP."""
    with serve_embedded(arena, arena.peer_ns, "benchtun0", "10.64.0.2", offload=offload, pinned=pinned, big=False):
        yield "10.64.0.2"


@contextmanager
def shim(arena: Arena, offload: bool, pinned: bool) -> Iterator[str]:
    """peer.c, unmodified, under `nuse run`."""
    link = "benchtun1,stack=10.65.0.2/24,host=10.65.0.1/24"
    command = [sys.executable, "-m", "nuse", "run", "--link", link]
    command += [] if offload else ["--no-offload"]
    command += ["--", str(arena.peer), "serve", "10.65.0.2", str(PORT)]
    with _served(arena, arena.peer_ns, [*_pin(pinned), *command], "10.65.0.2"):
        yield "10.65.0.2"


VARIANTS = {"kernel": kernel, "embedded": embedded, "shim": shim}
MPTCP_VARIANTS = {
    "kernel": kernel,
    "kernel mptcp": kernel_mptcp,
    "embedded": embedded,
    "embedded mptcp": embedded_mptcp,
    "embedded 64 KB": embedded_64k,
}


@contextmanager
def serve_kernel(
    arena: Arena, namespace: str, addr: str, *, pinned: bool = False, mptcp: bool = False
) -> Iterator[None]:
    """peer.c serves in a namespace."""
    command = [str(arena.peer), "serve", addr, str(PORT), *(["mptcp"] if mptcp else [])]
    with _served(arena, namespace, [*_pin(pinned), *command], addr):
        yield


@contextmanager
def serve_embedded(
    arena: Arena,
    namespace: str,
    device: str,
    addr: str,
    *,
    offload: bool = True,
    pinned: bool = False,
    mptcp: bool = False,
    big: bool = True,
) -> Iterator[None]:
    """benchlib.embedded serves on a TUN device of a namespace."""
    command = [sys.executable, "-m", "benchlib.embedded", device, addr, str(PORT)]
    command += [] if offload else ["--no-offload"]
    command += ["--mptcp"] if mptcp else []
    command += [] if big else ["--no-big-tcp"]
    with _served(arena, namespace, [*_pin(pinned), *command], addr):
        yield


def _pin(pinned: bool) -> list[str]:
    return ["taskset", "-c", str(CPU)] if pinned else []


@contextmanager
def _served(arena: Arena, namespace: str, command: list[str], addr: str) -> Iterator[subprocess.Popen[bytes]]:
    server = arena.start(namespace, command)
    _wait_ready(arena, server, addr)
    try:
        yield server
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        arena.stop(server)


def _wait_ready(arena: Arena, server: subprocess.Popen[bytes], addr: str) -> None:
    """Until the echo port answers."""
    deadline = time.monotonic() + READY_S
    while True:
        if server.poll() is not None:
            said = arena.stop(server).strip().splitlines()
            raise BenchError(f"the server ended: {said[-1] if said else server.returncode}")
        probe = f"import socket; socket.create_connection(({addr!r}, {PORT + 2}), 0.5).close()"
        try:
            arena.run(arena.peer_ns, [sys.executable, "-c", probe])
            return
        except BenchError:
            if time.monotonic() > deadline:
                raise BenchError("the server does not answer: " + arena.stop(server).strip()[-200:]) from None
            time.sleep(0.1)
