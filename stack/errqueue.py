"""What the network said about our packets, kept for programs that ask: IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE.

The facts of Linux's struct sock_extended_err, not its bytes; who speaks to programs lays those out. Bounded by the
endpoint's receive buffer, as in Linux; what does not fit is dropped and counted by the endpoint.
"""

from collections import deque
from dataclasses import dataclass

from stack.errors import InvariantBroken

ORIGIN_LOCAL, ORIGIN_ICMP, ORIGIN_ICMP6 = 1, 2, 3  # SO_EE_ORIGIN_…

OVERHEAD = 256  # what an entry is charged beside its payload


@dataclass(slots=True, eq=False)
class SockError:
    """One asynchronous error. `kind` and `code` are the ICMP message's, 0 for what this host found itself."""

    errno: int
    origin: int
    kind: int
    code: int
    info: int  # the path's MTU, or where in the packet the parameter problem lies
    offender: bytes | None  # who sent the ICMP message
    dst: tuple[bytes, int]  # where the packet in question went; port 0 for what has none
    payload: bytes  # of the packet in question, as far as it was quoted
    link_index: int = 0  # through which the news came


class ErrorQueue:
    """The oldest error first."""

    __slots__ = ("_charge", "_errors")

    def __init__(self) -> None:
        self._errors: deque[SockError] = deque()
        self._charge = 0

    def __len__(self) -> int:
        return len(self._errors)

    def put(self, error: SockError, limit: int) -> bool:
        """Keep an error; False if the queue holds `limit` bytes already."""
        charge = len(error.payload) + OVERHEAD
        if self._charge + charge > limit:
            return False
        self._charge += charge
        self._errors.append(error)
        return True

    def take(self) -> SockError | None:
        """The oldest error, which is gone then."""
        if not self._errors:
            return None
        error = self._errors.popleft()
        self._charge -= len(error.payload) + OVERHEAD
        return error

    def peek(self) -> SockError | None:
        """The error that `take` returns next."""
        return self._errors[0] if self._errors else None

    def clear(self) -> None:
        """Forget all."""
        self._errors.clear()
        self._charge = 0

    def check(self) -> None:
        """The charge adds up."""
        if self._charge != sum(len(error.payload) + OVERHEAD for error in self._errors):
            raise InvariantBroken("error queue charge")
