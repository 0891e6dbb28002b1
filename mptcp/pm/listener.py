"""The port of an endpoint: the stack listens at it for joins alone, RFC 8684 §3.4.1; any other SYN is refused."""

from collections.abc import Sequence
from typing import Any

from mptcp.options import KIND, MP_JOIN, RST_EPROHIBIT, MpTcprst, pad
from mptcp.pm import events
from stack.tcp.extension import SynRefused
from stack.wire.tcp_options import RawOption

BACKLOG = 128


class PortListener:
    """Listens from the beginning. Raises StackError if the address or port cannot be had."""

    def __init__(self, host: Any, addr: bytes, port: int) -> None:
        self._host = host
        self._where = addr, port
        self._binding = host.stack.tcp.bind(addr, port)
        self._listener = host.listen(self._binding, BACKLOG)
        self._any_syn = self._listener.extension
        self._listener.extension = self._on_syn
        events.listener(host.stack, "LISTENER_CREATED", addr, port)

    def _on_syn(self, key: bytes, options: Sequence[RawOption]) -> Any:
        """Raises SynRefused, which answers with RST, for whoever wants a connection of its own."""
        if not any(kind == KIND and body[:1] and body[0] >> 4 == MP_JOIN for kind, body in options):
            self._host.mib.MPTcpExtMPCapableEndpAttempt += 1
            raise SynRefused("this port is for joins", pad(MpTcprst(RST_EPROHIBIT).emit()))
        return self._any_syn(key, options)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()
        self._binding.release()
        events.listener(self._host.stack, "LISTENER_CLOSED", *self._where)
