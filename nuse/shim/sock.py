"""What a stream and a datagram socket have in common, and the calls that wait for them."""

import socket
from typing import TYPE_CHECKING, Any

from nuse.shim.hub import Hub

if TYPE_CHECKING:
    from nuse.shim.notif import Notification
    from nuse.shim.session import Session

SockAddr = tuple[bytes, int]
Values = dict[tuple[int, int], Any]


class Socket:
    """One INET socket of a program. `end` is our half of its carrier, `name` the inode name of the program's half."""

    __slots__ = (
        "carrier_has_error",
        "carrier_kind",
        "end",
        "error",
        "hint",
        "hub",
        "kind",
        "name",
        "proto",
        "unsettled",
        "v6",
        "values",
        "waiting",
    )

    def __init__(self, hub: Hub, v6: bool, kind: int, proto: int, end: socket.socket, name: str) -> None:
        self.hub = hub
        self.v6 = v6
        self.kind = kind
        self.proto = proto
        self.end = end
        self.name = name
        self.carrier_kind = socket.SOCK_STREAM if kind == socket.SOCK_STREAM else socket.SOCK_SEQPACKET
        self.hint = (0, 0)  # (task, descriptor) where the program's end was last seen
        self.error = 0  # pending for SO_ERROR
        self.carrier_has_error = False  # the carrier was broken so that it has an ECONNRESET pending as well
        self.unsettled = False  # rules may give it to the kernel when it has an address
        self.values: Values = {}  # options as set: (level, name) → value
        self.waiting: list[Pending] = []

    def copy(self) -> socket.socket | None:
        """A copy of the program's end, to be closed before the loop's next turn; None if nobody is found who has it."""
        tasks = self.hub.tasks
        found = tasks.copy_socket(*self.hint, self.name, self.carrier_kind) if self.hint[0] else None
        return found or tasks.find(self.name, self.carrier_kind)

    def take_error(self) -> int:
        """SO_ERROR: the pending errno, once."""
        error, self.error = self.error, 0
        return error

    def local_address(self) -> SockAddr | None:
        """getsockname."""
        raise NotImplementedError

    def remote_address(self) -> SockAddr | None:
        """getpeername; None if not connected."""
        raise NotImplementedError

    @property
    def named(self) -> bool:
        """It has an address or a port."""
        raise NotImplementedError

    @property
    def held(self) -> Any:
        """What holds its port in the stack, with `reuseaddr` and `reuseport`; None if nothing does."""
        raise NotImplementedError

    def held_port(self) -> int | None:
        """The port that bind took; None if it holds nothing of the stack."""
        raise NotImplementedError

    def release_port(self) -> None:
        """The program has closed it after all."""
        raise NotImplementedError

    def on_events(self, mask: int) -> None:
        """News from the stack."""
        raise NotImplementedError

    def kill(self) -> None:
        """The stack goes away: the program is to see a reset."""
        raise NotImplementedError

    def leave(self) -> None:
        """The program has a socket of the kernel in its place."""
        raise NotImplementedError

    def forget_end(self) -> None:
        """Close our half."""
        self.hub.ledger.ends[self.end.fileno()] = 0
        self.hub.poller.forget(self.end.fileno())
        self.end.close()


class Pending:
    """A call that is answered later. Its task may be interrupted meanwhile, which only the answer's failure tells.

    A task makes one call at a time: its next notification proves that an older pending one is over.
    """

    __slots__ = ("_place", "_timer", "_waiting", "n", "session", "success", "timeout_result")

    def __init__(
        self, session: "Session", n: "Notification", waiting: "list[Any]", timeout: float | None, timeout_result: int
    ) -> None:
        self.session = session
        self.n = n
        self.timeout_result = timeout_result
        self.success = 0  # what a connect that works answers
        self._waiting = waiting
        waiting.append(self)
        self._place = session.hub.ledger.block(session.listener.fd, n.id)
        session.wait(self)
        self._timer = None if timeout is None else session.hub.loop.call_later(timeout, self.expire)

    def serve(self, *what: Any) -> None:
        """What the call waits for is there."""
        raise NotImplementedError

    def stop(self) -> None:
        """SHUT_RD: nothing comes any more."""
        raise NotImplementedError

    def expire(self) -> None:
        """SO_RCVTIMEO or SO_SNDTIMEO is over."""
        self.finish(self.timeout_result)

    def finish(self, value: int) -> bool:
        """Answer; False if nobody waits any more."""
        self.drop()
        return self.session.reply(self.n, value)

    def hand_on(self) -> None:
        """The kernel is to do the call."""
        self.drop()
        self.session.listener.cont(self.n.id)

    def drop(self) -> None:
        """Wait no longer, without an answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self in self._waiting:
            self._waiting.remove(self)
        self.session.hub.ledger.answered(self._place)
        self._place = -1
        if self.session.pending.get(self.n.tid) is self:
            del self.session.pending[self.n.tid]
