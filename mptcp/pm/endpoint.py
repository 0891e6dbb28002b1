"""Endpoints: the addresses of this host that connections may use, and what for; limits beside them. As in `ip mptcp`.

An endpoint has an ID, 1..255, which its address bears in MP_JOIN and ADD_ADDR (RFC 8684 §3.2, §3.4.1). ID 0 is no
endpoint's: it is whatever address a connection began with. An *implicit* endpoint is an address that was seen in use
and needs an ID, though nobody configured it; one that somebody configures later takes its place and ID.

Wider than Linux: as many endpoints as there are IDs, not eight.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from stack.errors import StackError

# Linux's MPTCP_PM_ADDR_FLAG_*, in the order in which `ip mptcp` prints them
SIGNAL, SUBFLOW, BACKUP, FULLMESH, IMPLICIT = 1, 2, 4, 8, 16
FLAG_NAMES = {"signal": SIGNAL, "subflow": SUBFLOW, "backup": BACKUP, "fullmesh": FULLMESH, "implicit": IMPLICIT}

MAX_ID = 255
MAX_LIMIT = 64  # Linux's is 8


@dataclass(slots=True, eq=False)
class Limits:
    """How far a connection goes by itself. Linux's defaults are 2 and 0, which stop most of what MPTCP is for."""

    subflows: int = 8  # beside the first
    add_addr_accepted: int = 8  # of the peer's announcements, those that are joined


@dataclass(slots=True, eq=False)
class Endpoint:
    """One address and what it is for. Port 0: none, it is the connection's that counts."""

    id: int
    addr: bytes
    port: int = 0
    flags: int = 0
    dev: str = ""  # name of the link that it is bound to


def flag_words(flags: int) -> list[str]:
    """The names of `flags`, in the order in which `ip mptcp` prints them."""
    return [name for name, bit in FLAG_NAMES.items() if flags & bit]


class EndpointTable:
    """The endpoints of one host. A connection reads it; whoever changes it tells the connections (pm/manager.py)."""

    def __init__(self) -> None:
        self._by_id: dict[int, Endpoint] = {}  # in the order of addition, which is that of preference
        self._last_id = 0
        self.touched = False  # somebody configured or removed one; until then every address serves (pm/manager.py)

    def __iter__(self) -> Iterator[Endpoint]:
        """All, those with a port first, then as they were added."""
        return iter(sorted(self._by_id.values(), key=lambda each: not each.port))

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self, ident: int) -> Endpoint:
        """The endpoint with this ID. Raises EINVAL, as Linux does."""
        found = self._by_id.get(ident)
        if found is None:
            raise StackError(errno.EINVAL, "address not found")
        return found

    def by_addr(self, addr: bytes, port: int = 0) -> Endpoint | None:
        """The endpoint of an address: one without port, or one that has this port."""
        return next((each for each in self if each.addr == addr and each.port in (0, port)), None)

    def add(self, addr: bytes, *, ident: int = 0, port: int = 0, flags: int = 0, dev: str = "") -> Endpoint:
        """A new endpoint; ID 0: the next free one.

        Raises EINVAL for flags that contradict each other, EBUSY for an ID in use, EEXIST for an address that there
        is, ERANGE when all IDs are taken.
        """
        if port and flags & (SIGNAL | SUBFLOW) != SIGNAL:
            raise StackError(errno.EINVAL, "flags must have signal and not subflow when using port")
        if flags & SIGNAL and flags & FULLMESH:
            raise StackError(errno.EINVAL, "flags mustn't have both signal and fullmesh")
        if not 0 <= ident <= MAX_ID:
            raise StackError(errno.EINVAL, "invalid ID")
        if ident in self._by_id:
            raise StackError(errno.EBUSY, f"id {ident} is in use")
        twin = next((each for each in self if each.addr == addr and each.port == port), None)
        if twin is not None:
            if not twin.flags & IMPLICIT or ident:
                raise StackError(errno.EEXIST, f"that address is endpoint {twin.id}")
            twin.flags, twin.dev = flags, dev
        self.touched = True
        return twin or self._put(Endpoint(ident or self._free_id(), addr, port, flags, dev))

    def implicit(self, addr: bytes) -> Endpoint:
        """The endpoint of an address in use, made if there is none. Raises ERANGE."""
        found = self.by_addr(addr)
        return found if found is not None else self._put(Endpoint(self._free_id(), addr, flags=IMPLICIT))

    def remove(self, ident: int) -> Endpoint:
        """Take one out. Raises EINVAL."""
        found = self.by_id(ident)
        del self._by_id[ident]
        self.touched = True
        return found

    def change(self, endpoint: Endpoint, *, backup: bool | None = None, fullmesh: bool | None = None) -> int:
        """Set or clear the two flags that may change, None: as it is. Returns those that did. Raises EINVAL."""
        if fullmesh and endpoint.flags & (SIGNAL | IMPLICIT):
            raise StackError(errno.EINVAL, "invalid addr flags")
        before: int = endpoint.flags
        for bit, wanted in ((BACKUP, backup), (FULLMESH, fullmesh)):
            if wanted is not None:
                endpoint.flags = endpoint.flags | bit if wanted else endpoint.flags & ~bit
        return before ^ endpoint.flags

    def flush(self) -> list[Endpoint]:
        """Take out all that somebody configured; IDs begin again behind the implicit ones, which are in use."""
        gone = [each for each in self if not each.flags & IMPLICIT]
        self._by_id = {ident: each for ident, each in self._by_id.items() if each.flags & IMPLICIT}
        self._last_id = max(self._by_id, default=0)
        self.touched = True
        return gone

    def _put(self, endpoint: Endpoint) -> Endpoint:
        self._by_id[endpoint.id] = endpoint
        self._last_id = max(self._last_id, endpoint.id)
        return endpoint

    def _free_id(self) -> int:
        """The next one up from the highest ever used, as in Linux: an ID is not soon used again for another address."""
        for ident in chain(range(self._last_id + 1, MAX_ID + 1), range(1, self._last_id + 1)):
            if ident not in self._by_id:
                return ident
        raise StackError(errno.ERANGE, "too many addresses")
