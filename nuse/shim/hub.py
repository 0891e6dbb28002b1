"""What all carriers of one stack share: the driver, the poller, the table of sockets, the copies of descriptors."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from nuse.shim.fdtable import Tasks
from nuse.shim.poller import Poller

if TYPE_CHECKING:
    from mptcp.host import MptcpHost
    from nuse.shim.sock import Socket

DEAD_KEPT = 4096  # sockets whose stack side is over while the program still has them: for SO_ERROR and getsockname


class Hub:
    """One per supervisor. `driver` needs `.stack`, `.now()`, `.wake()` and `.loop`; without `mptcp` there is none."""

    def __init__(self, driver: Any, mptcp: "MptcpHost | None" = None) -> None:
        self.driver = driver
        self.mptcp = mptcp
        self.loop = driver.loop
        self.poller = Poller(driver.loop)
        self.tasks = Tasks()
        self.sockets: dict[str, Socket] = {}
        self._dead: OrderedDict[str, None] = OrderedDict()

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

    def add(self, sock: "Socket") -> None:
        """A new carrier."""
        self.sockets[sock.name] = sock

    def remove(self, sock: "Socket") -> None:
        """The program has closed it."""
        if self.sockets.get(sock.name) is sock:
            del self.sockets[sock.name]
        self._dead.pop(sock.name, None)

    def retire(self, sock: "Socket") -> None:
        """Our end is gone, so nobody will tell when the program closes its own: keep the last few only."""
        self._dead[sock.name] = None
        if len(self._dead) > DEAD_KEPT:
            self.sockets.pop(self._dead.popitem(last=False)[0], None)

    def close(self) -> None:
        """Break every carrier, so that programs see a reset."""
        for sock in list(self.sockets.values()):
            sock.kill()
        self.sockets.clear()
        self.poller.close()
        self.tasks.close()
