"""What one connection tells its peer about addresses: ADD_ADDR, its echo and REMOVE_ADDR, RFC 8684 §3.4.

The options travel on pure ACKs, which get lost: an announcement is repeated until its echo comes, at most RETRIES
times; an echo is repeated when the announcement is; REMOVE_ADDR is not, for the end of its subflows says the same.
Several announcements are under way at once, as far as an ACK has room for them.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from mptcp.crypto import add_addr_hmac
from mptcp.options import AddAddr, RemoveAddr, pad
from stack.units import MSEC, SEC, Nanos

NEVER: Nanos = 1 << 62  # a deadline that does not come

RETRIES = 3  # Linux's ADD_ADDR_RETRANS_MAX
FULL_ROOM = 28  # what an ACK with timestamps has: an IPv6 address with a port needs more
MISFITS = 3  # such ACKs after which an announcement that none could take is given up
MAX_ECHOES = 16  # that wait at once; a peer that announces faster gets no more
HURRY = 10 * MSEC  # between the echoes of announcements that came together, at most
RTO_MIN, RTO_FIRST = 200 * MSEC, SEC


class Mib(Protocol):
    """Counters, mptcp/mib.py."""

    MPTcpExtAddAddrTx: int
    MPTcpExtAddAddrTxDrop: int
    MPTcpExtEchoAddTx: int
    MPTcpExtEchoAddTxDrop: int
    MPTcpExtRmAddrTx: int


@dataclass(slots=True, eq=False)
class Announcement:
    """An address that the peer was told of, or is to be."""

    addr: bytes
    port: int
    waits: bool = True  # for an ACK that takes it
    echoed: bool = False
    tries: int = 0
    misfits: int = 0
    due: Nanos = NEVER  # when it is repeated


class Signals:
    """The queue of one connection. The keys are both sides', as bytes; `timeout_s` is net.mptcp.add_addr_timeout."""

    def __init__(self, key_local: bytes, key_remote: bytes, mib: Mib) -> None:
        self._keys = key_local, key_remote
        self._mib = mib
        self._echoes: deque[AddAddr] = deque()
        self._removals: list[int] = []
        self.announced: dict[int, Announcement] = {}  # by address ID, until it is removed

    @property
    def pending(self) -> bool:
        """Something waits for an ACK."""
        return bool(self._echoes or self._removals or any(each.waits for each in self.announced.values()))

    @property
    def deadline(self) -> Nanos:
        """When the next announcement is to be repeated."""
        return min((each.due for each in self.announced.values()), default=NEVER)

    def announce(self, ident: int, addr: bytes, port: int = 0) -> None:
        """Tell the peer of an address; again if it knows."""
        self.announced[ident] = Announcement(addr, port)

    def echo(self, option: AddAddr) -> None:
        """Tell the peer that its announcement came, whatever becomes of it."""
        answer = AddAddr(option.address_id, option.addr, option.port)
        if answer in self._echoes:
            return
        if len(self._echoes) >= MAX_ECHOES:
            self._mib.MPTcpExtEchoAddTxDrop += 1
            return
        self._echoes.append(answer)

    def remove(self, ident: int) -> None:
        """Tell the peer that an address is gone, and announce it no more."""
        self.announced.pop(ident, None)
        if ident not in self._removals:
            self._removals.append(ident)

    def on_echo(self, option: AddAddr, now: Nanos) -> bool:
        """The peer has an announcement; False if it was none of ours.

        The next one follows soon again unless its echo comes first: Linux drops what arrives while it still works on
        another, so that of several at once it takes one.
        """
        found = self.announced.get(option.address_id)
        if found is None or (found.addr, found.port) != (option.addr, option.port):
            return False
        if not found.echoed:
            self._hurry(found, now + HURRY)
        found.echoed = True
        found.waits = False
        found.due = NEVER
        return True

    def options(self, room: int, rto: Nanos, now: Nanos) -> bytes:
        """What fits into `room` bytes of an ACK's options, a multiple of four. `rto` is how long an echo may take.

        Removals go first, since an ID may be used again.
        """
        room -= room % 4
        out = self._take_removals(room)
        while self._echoes and len(pad(out + self._echoes[0].emit())) <= room:
            out += self._echoes.popleft().emit()
            self._mib.MPTcpExtEchoAddTx += 1
        for ident, each in self.announced.items():
            if not each.waits:
                continue
            option = AddAddr(ident, each.addr, each.port, add_addr_hmac(*self._keys, ident, each.addr, each.port))
            if len(pad(out + option.emit())) <= room:
                out += option.emit()
                self._mib.MPTcpExtAddAddrTx += 1
                self._sent(each, rto, now)
            elif FULL_ROOM <= room < len(option.emit()):
                self._misfit(each)
        return pad(out)

    def on_timeout(self, now: Nanos) -> list[Announcement]:
        """Let what is due wait for an ACK again; returns the announcements that are given up."""
        lost = []
        for each in self.announced.values():
            if each.due > now:
                continue
            each.due = NEVER
            if each.tries > RETRIES:
                lost.append(each)
            else:
                each.waits = True
        return lost

    def _take_removals(self, room: int) -> bytes:
        count = min(len(self._removals), room - 3)
        if count <= 0:
            return b""
        option = RemoveAddr(tuple(self._removals[:count]))
        del self._removals[:count]
        self._mib.MPTcpExtRmAddrTx += 1
        return option.emit()

    def _hurry(self, echoed: Announcement, due: Nanos) -> None:
        """The first that still lacks an echo is due then; the peer is there, so that it counts as no further try."""
        for each in self.announced.values():
            if each is not echoed and not each.echoed and not each.waits and due < each.due < NEVER:
                each.due = due
                each.tries -= 1
                return

    @staticmethod
    def _sent(each: Announcement, rto: Nanos, now: Nanos) -> None:
        each.waits = False
        each.misfits = 0
        each.tries += 1
        each.due = now + (rto << each.tries - 1) if rto < NEVER else NEVER

    def _misfit(self, each: Announcement) -> None:
        each.misfits += 1
        if each.misfits >= MISFITS:
            each.waits = False
            self._mib.MPTcpExtAddAddrTxDrop += 1
