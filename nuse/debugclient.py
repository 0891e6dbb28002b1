"""Ask a running stack's debug socket; blocking, for the command line and the demo."""

import json
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nuse.refusal import Refused

PATIENCE = 20.0  # seconds: the stack answers while saturated, but the machine may be too


class DebugClient:
    """One connection to debug.sock. Raises Refused with the stack's own words when it says no."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(PATIENCE)
        try:
            self._sock.connect(str(path))
        except OSError as exc:
            self._sock.close()
            raise Refused(f"cannot reach the debug socket {path}: {exc.strerror or exc}") from None
        self._file = self._sock.makefile("rb")

    def ask(self, *words: str) -> Any:
        """The result of a request."""
        return self._result(self._line(words))

    def lines(self, *words: str) -> Iterator[Any]:
        """The lines of a stream, each as soon as it comes, until the stack ends it."""
        first = self._line(words)
        self._sock.settimeout(None)
        yield self._result(first)
        for line in self._file:
            yield json.loads(line)

    def _line(self, words: Sequence[str]) -> bytes:
        request = " ".join(words)
        if "\n" in request or not request.strip():
            raise Refused("a request is one line of words")
        try:
            self._sock.sendall(request.encode() + b"\n")
            line: bytes = self._file.readline()
        except TimeoutError:
            raise Refused(f"the stack has not answered for {PATIENCE:g} seconds") from None
        except OSError as exc:
            raise Refused(f"the stack is gone: {exc.strerror or exc}") from None
        if not line.endswith(b"\n"):
            raise Refused("the stack is gone")
        return line

    @staticmethod
    def _result(line: bytes) -> Any:
        answer = json.loads(line)
        if not answer.get("ok"):
            error = str(answer.get("error", "the stack refuses without a word"))
            raise Refused(re.sub(r" \[E[A-Z0-9]+\]$", "", error))  # the errno is for programs
        return answer["result"]

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._sock.close()

    def __enter__(self) -> "DebugClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
