"""The supervisor: all filtered programs of one running stack."""

import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuse.shim.hub import Hub
from nuse.shim.ledger import DESCRIPTORS
from nuse.shim.policy import Policy
from nuse.shim.session import Session
from nuse.shim.survivor import Survivor
from nuse.shim.syscalls import handlers

if TYPE_CHECKING:
    from mptcp.host import MptcpHost


def _raise_descriptor_limit() -> None:
    """One descriptor per socket of every program: take as many as we may have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if 0 <= hard <= DESCRIPTORS else DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _command(pid: int) -> str:
    """The name of a program; empty if it is over, for what it left behind may run on."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Supervisor:
    """Made inside the driver's loop. Sockets may be passed between the programs of its sessions."""

    def __init__(self, driver: Any, mptcp: "MptcpHost | None" = None, name: str = "") -> None:
        _raise_descriptor_limit()
        self.hub = Hub(driver, mptcp, name)
        self.sessions: list[Session] = []
        self._handlers = handlers()
        self._survivor: Survivor | None = None

    def ensure(self) -> None:
        """From now on programs are seen to whatever becomes of this process. Not while other threads run."""
        self._survivor = Survivor(self.hub.ledger)

    def attach(self, listener_fd: int, pid: int, policy: Policy | None = None, home: int = 0) -> Session:
        """Serve the programs behind a listener, which is ours from now on. `Session.closed` tells when all are gone.

        `home` is the network namespace in which their sockets are the stack's (`launch.Child.home`); 0 for any.
        """
        session = Session(self.hub, listener_fd, pid, policy or Policy(), self._handlers, home)
        self.sessions.append(session)
        session.closed.add_done_callback(lambda _: self._gone(session))
        return session

    def rows(self) -> list[dict[str, Any]]:
        """One for each process tree: who began it, how many of its calls stopped for us, how many of them wait now."""
        for each in self.sessions:
            each.drop_dead()
        return [
            {"pid": each.pid, "command": _command(each.pid), "calls": each.calls, "waiting": len(each.pending)}
            for each in self.sessions
        ]

    def _gone(self, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
        self.hub.reap()
        self.hub.names.forget()

    def close(self) -> None:
        """The stack stops: programs see their connections reset, then what survivor.py says; without one, ENOSYS."""
        self.hub.close()
        if self._survivor is not None:
            self._survivor.close(heirs=bool(self.sessions))
            self._survivor = None
        for session in list(self.sessions):
            session.close()
