"""The port of an endpoint: the stack listens at it for joins alone, RFC 8684 §3.4.1; whoever else comes is reset."""

from typing import Any

from mptcp.pm import events

BACKLOG = 128


class PortListener:
    """Listens from the beginning. Raises StackError if the address or port cannot be had."""

    def __init__(self, host: Any, addr: bytes, port: int) -> None:
        self._host = host
        self._where = addr, port
        self._binding = host.stack.tcp.bind(addr, port)
        self._listener = host.listen(self._binding, BACKLOG)
        self._listener.owner = self
        events.listener(host.stack, "LISTENER_CREATED", addr, port)

    def on_events(self, mask: int) -> None:
        """Somebody wants a connection of its own here."""
        while (conn := self._listener.accept()) is not None:
            self._host.mib.MPTcpExtMPCapableEndpAttempt += 1
            conn.abort()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()
        self._binding.release()
        events.listener(self._host.stack, "LISTENER_CLOSED", *self._where)
