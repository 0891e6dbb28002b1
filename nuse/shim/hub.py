"""What all carriers of one stack share: the driver, the poller, the table of sockets, the copies of descriptors."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nuse.shim.fdtable import Names, Tasks, inode_of
from nuse.shim.ledger import Ledger
from nuse.shim.poller import Poller

if TYPE_CHECKING:
    from mptcp.host import MptcpHost
    from nuse.shim.sock import Socket

LOOK = 1.0  # seconds after which the first look is taken whether a program still has such a socket
DEAD_KEPT = 4096  # sockets whose stack side is over while the program still has them: for SO_ERROR and getsockname


class Hub:
    """One per supervisor. `driver` needs `.stack`, `.now()`, `.wake()` and `.loop`; without `mptcp` there is none.

    `stack_name` is what users call the stack.
    """

    def __init__(self, driver: Any, mptcp: "MptcpHost | None" = None, stack_name: str = "") -> None:
        self.driver = driver
        self.stack_name = stack_name
        self.mptcp = mptcp
        self.loop = driver.loop
        self.poller = Poller(driver.loop)
        self.tasks = Tasks()
        self.names = Names()
        self.ledger = Ledger()
        self.sockets: dict[str, Socket] = {}
        self._dead: OrderedDict[str, None] = OrderedDict()
        self._turns: deque[Callable[[], None]] = deque()

    @property
    def stack(self) -> Any:
        """The stack that serves every socket here."""
        return self.driver.stack

    def now(self) -> int:
        """The stack's clock."""
        return int(self.driver.now())

    def wake(self) -> None:
        """A verb was called: packets may be due."""
        self.driver.wake()

    def in_turn(self, work: Callable[[], None]) -> None:
        """Do a piece of long work at one of the loop's next turns: one piece of all such a turn, in their order."""
        self._turns.append(work)
        if len(self._turns) == 1:
            self.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        try:
            self._turns[0]()
        finally:
            self._turns.popleft()
            if self._turns:
                self.loop.call_soon(self._take_turn)

    def add(self, sock: "Socket") -> None:
        """A new carrier."""
        self.ledger.ends[sock.end.fileno()] = inode_of(sock.name)
        self.sockets[sock.name] = sock

    def remove(self, sock: "Socket") -> None:
        """The program has closed it."""
        if self.sockets.get(sock.name) is sock:
            del self.sockets[sock.name]
        self._dead.pop(sock.name, None)

    def retire(self, sock: "Socket") -> None:
        """Our end is gone, so nobody will tell when the program closes its own: keep the last few only."""
        self._dead[sock.name] = None
        if sock.held_port() is not None:
            self.loop.call_later(LOOK, self._look, sock, LOOK)
        if len(self._dead) > DEAD_KEPT:
            oldest = self.sockets.pop(self._dead.popitem(last=False)[0], None)
            if oldest is not None:
                oldest.release_port()

    def _look(self, sock: "Socket", after: float) -> None:
        """Whether the program still has a retired socket; less and less often, as each look costs a system call."""
        if self.sockets.get(sock.name) is sock and sock.name in self._dead and not self._is_gone(sock):
            self.loop.call_later(2 * after, self._look, sock, 2 * after)

    def _is_gone(self, sock: "Socket") -> bool:
        """Give its port back if no program has it."""
        theirs = sock.copy()
        if theirs is not None:
            theirs.close()
            return False
        sock.release_port()
        self.remove(sock)
        return True

    def reap(self, port: int | None = None) -> bool:
        """Look whether programs still have the retired sockets on `port`, or on any; True if one was freed."""
        retired = [
            (sock, held) for name in self._dead if (held := (sock := self.sockets[name]).held_port()) is not None
        ]
        freed = [sock for sock, held in retired if port in (None, held) and self._is_gone(sock)]
        return bool(freed)

    def close(self) -> None:
        """Break every carrier, so that programs see a reset."""
        for sock in list(self.sockets.values()):
            sock.kill()
        self.sockets.clear()
        self._dead.clear()
        self.poller.close()
        self.tasks.close()
        self.names.forget()
