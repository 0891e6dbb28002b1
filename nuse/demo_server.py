"""The demo's web server: Python's own, on the kernel's TCP; file bodies by sendfile, so that it is not the bottleneck.

python -m nuse.demo_server DIRECTORY      serves on all addresses, prints its port, ends when stdin does
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any

IPPROTO_MPTCP = 262


class Handler(SimpleHTTPRequestHandler):
    """Quiet, and fast with files."""

    directory: str

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """The body, without a copy through Python."""
        outputfile.flush()
        with contextlib.suppress(ConnectionError):
            self.connection.sendfile(source)

    def log_message(self, format: str, *args: object) -> None:
        """No log: the demo prints what matters."""


class Server(ThreadingHTTPServer):
    """Listens on both IP versions."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        """Multipath TCP where the kernel has it: to a client of plain TCP that is plain TCP."""
        super().__init__(address, handler, bind_and_activate=False)
        with contextlib.suppress(OSError):
            plain, self.socket = self.socket, socket.socket(self.address_family, socket.SOCK_STREAM, IPPROTO_MPTCP)
            plain.close()
        self.server_bind()
        self.server_activate()

    def server_bind(self) -> None:
        """Dual stack, and CUBIC: a host's default BBR paces itself far below a local link's speed."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        super().server_bind()


def serve(directory: str, ready: IO[str], until: int) -> None:
    """Serve `directory`; tell the port; return when `until` can be read, which is when its writer is gone."""
    with Server(("::", 0), lambda *args: Handler(*args, directory=directory)) as server:
        ready.write(f"{server.server_address[1]}\n")
        ready.flush()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        select.select([until], [], [])
        server.shutdown()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demo, which then closes our stdin
    serve(sys.argv[1], sys.stdout, sys.stdin.fileno())
    os._exit(0)
