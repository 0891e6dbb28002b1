"""control.sock: how `nuse run` hands its child to a running stack.

A SOCK_SEQPACKET Unix socket, so that one message is one request, with the seccomp listener riding on it as SCM_RIGHTS.
A request and its answer are one JSON object each:

    {"do": "info"}                          → {"ok": true, "name": …, "pid": …, "netns": …, "resolv": …, "mptcp": …}
    {"do": "attach", "pid": N, "home": INODE, "mptcp": …, "scheduler": …, "cc": …, "rules": […], "loopback": …}
                           + listener       → {"ok": true}   the stack serves the child's sockets
    {"do": "stop"}                          → {"ok": true}   the stack stops

The socket is mode 0600 in a directory of mode 0700: whoever can connect owns the stack.
"""

import array
import contextlib
import json
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nuse.refusal import Refused

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("nuse.control")

LARGEST = 65536
ANSWER_PATIENCE = 10.0  # seconds that a client waits for a stack that may be busy
MAX_FDS = 4

Message = dict[str, Any]


class Controlled(Protocol):
    """What the socket controls; nuse/runtime.py has the real one."""

    def info(self) -> Message:
        """What a launcher needs to know."""

    def attach(self, listener_fd: int, pid: int, policy: Message) -> None:
        """Serve a program; takes the descriptor over."""

    def request_stop(self) -> None:
        """Begin to stop."""


class ControlServer:
    """Listens on control.sock until closed."""

    def __init__(self, target: Controlled, loop: "asyncio.AbstractEventLoop", path: Path) -> None:
        self._target = target
        self._loop = loop
        self._path = path
        self._clients: set[socket.socket] = set()
        path.unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        old = os.umask(0o177)
        try:
            self._sock.bind(str(path))
        finally:
            os.umask(old)
        self._sock.listen(64)
        self._sock.setblocking(False)
        loop.add_reader(self._sock.fileno(), self._on_connection)

    def close(self) -> None:
        """Hear nobody any more."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for client in list(self._clients):
            self._drop(client)
        self._path.unlink(missing_ok=True)

    def _on_connection(self) -> None:
        try:
            client, _ = self._sock.accept()
        except OSError:
            return
        client.setblocking(False)
        self._clients.add(client)
        self._loop.add_reader(client.fileno(), self._on_request, client)

    def _drop(self, client: socket.socket) -> None:
        self._clients.discard(client)
        self._loop.remove_reader(client.fileno())
        client.close()

    def _on_request(self, client: socket.socket) -> None:
        try:
            data, fds = _receive(client)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            _close_all(fds)
            self._drop(client)
            return
        answer = self._answer(client, data, fds)
        _close_all(fds)
        with contextlib.suppress(OSError):
            client.send(json.dumps(answer).encode())

    def _answer(self, client: socket.socket, data: bytes, fds: list[int]) -> Message:
        """Do what a request says. A descriptor that was taken over is taken out of `fds`."""
        try:
            request = json.loads(data)
            match request["do"]:
                case "info":
                    return {"ok": True, **self._target.info()}
                case "attach":
                    pid = int(request["pid"])
                    self._target.attach(fds.pop(0), pid, request)
                case "stop":
                    self._loop.call_soon(self._target.request_stop)
                case other:
                    return {"ok": False, "error": f"unknown request {other!r}"}
        except (ValueError, KeyError, TypeError, IndexError) as exc:
            return {"ok": False, "error": f"bad request: {exc!r}"}
        except (OSError, Refused) as exc:
            return {"ok": False, "error": str(exc)}
        return {"ok": True}


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One message and the descriptors that came with it."""
    fds = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(LARGEST, socket.CMSG_SPACE(MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


class ControlClient:
    """A launcher's side; blocking. Raises Refused when the stack refuses or is gone."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.settimeout(ANSWER_PATIENCE)
        try:
            self._sock.connect(str(path))
        except OSError as exc:
            self._sock.close()
            raise Refused(f"cannot reach the stack at {path}: {exc.strerror or exc}") from None

    def ask(self, request: Message, fds: list[int] | None = None) -> Message:
        """One request, one answer."""
        try:
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                self._sock.sendmsg([json.dumps(request).encode()], rights)
            else:
                self._sock.send(json.dumps(request).encode())
            data = self._sock.recv(LARGEST)
        except TimeoutError:
            raise Refused(f"the stack has not answered for {ANSWER_PATIENCE:g} seconds") from None
        except OSError as exc:
            raise Refused(f"the stack is gone: {exc.strerror}") from None
        if not data:
            raise Refused("the stack is gone")
        answer: Message = json.loads(data)
        if not answer.get("ok"):
            raise Refused(answer.get("error", "the stack refuses without a word"))
        return answer

    def close(self) -> None:
        """Hang up."""
        self._sock.close()
