"""A stream's local end: the port it holds, and the name that getsockname tells.

The program's socket, its listener and each connection hold the binding on their own, so a port is free when the last
of them is gone, whatever order they go in. A port that was chosen for a socket goes with what it was chosen for, as in
Linux, which goes on to tell its number.
"""

import socket
from collections.abc import Callable
from typing import Any

from nuse.shim.hub import Hub
from nuse.shim.sock import SockAddr, Socket
from nuse.shim.sockaddr import ANY4, ANY6
from stack.errors import StackError


class PlacedSocket(Socket):
    """What a StreamSocket is, as far as ports go."""

    __slots__ = ("auto_bound", "binding", "bound_addr", "stale_name")

    def __init__(self, hub: Hub, v6: bool, proto: int, end: socket.socket, name: str) -> None:
        super().__init__(hub, v6, socket.SOCK_STREAM, proto, end, name)
        self.binding: Any = None
        self.auto_bound = False  # its port was chosen for it
        self.bound_addr: bytes | None = None  # bound without a port: IP_BIND_ADDRESS_NO_PORT, or that is gone
        self.stale_name: SockAddr | None = None  # of a port that was given back

    def take_port(self, addr: SockAddr, *, reuseaddr: bool, reuseport: bool, v6only: bool) -> None:
        """Bind; port 0 chooses one. Raises StackError EADDRINUSE, EADDRNOTAVAIL."""
        self.binding = self.hub.stack.tcp.bind(*addr, reuseaddr=reuseaddr, reuseport=reuseport, v6only=v6only)
        self.auto_bound = not addr[1]

    def held_by(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        """`verb` with a hold on the binding of its own, None if there is no binding."""
        if self.binding is None:
            return verb(None, *arguments)
        try:
            return verb(self.binding.share(), *arguments)
        except StackError:
            self.binding.release()
            raise

    def drop_port(self, port: int) -> None:
        """What it was for is over: give `port` back, unless the program asked for it."""
        if self.binding is not None and not self.auto_bound:
            return
        if self.binding is not None:
            self.bound_addr = self.binding.addr
        elif self.bound_addr is None:
            self.bound_addr = ANY6 if self.v6 else ANY4
        self.stale_name = self.bound_addr, port
        self.release_port()

    def bound_name(self) -> SockAddr | None:
        """getsockname without a connection."""
        if self.binding is not None:
            return self.binding.addr, self.binding.port
        return self.stale_name or (None if self.bound_addr is None else (self.bound_addr, 0))

    @property
    def held(self) -> Any:
        """Its binding."""
        return self.binding

    def held_port(self) -> int | None:
        """The port that is ours by bind."""
        return self.binding.port if self.binding is not None else None

    def release_port(self) -> None:
        """Give it back."""
        if self.binding is not None:
            self.binding.release()
            self.binding = None
