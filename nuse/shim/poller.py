"""Carriers' readiness: one epoll of our own, seen by the event loop as a single descriptor.

Not loop.add_reader per carrier, because that hides EPOLLHUP, and HUP against RDHUP is how a closed socket is told
from a half-closed one; and it would cost a libuv handle for each idle connection.
"""

import logging
import select
from asyncio import AbstractEventLoop
from collections.abc import Callable

log = logging.getLogger("nuse.shim")

IN, OUT, HUP, ERR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP, select.EPOLLERR
BATCH = 64  # carriers served per turn of the loop


class Poller:
    """Level-triggered. HUP and ERR are told whatever the mask, so on HUP a target has to `forget` its descriptor."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._targets: dict[int, Callable[[int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def watch(self, fd: int, mask: int, target: Callable[[int], None]) -> None:
        """Call `target(bits)` whenever `fd` has one of `mask`'s bits, or HUP or ERR."""
        self._epoll.register(fd, mask)
        self._targets[fd] = target

    def change(self, fd: int, mask: int) -> None:
        """Other bits from now on."""
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """No more; harmless if it is not watched. Must come before the descriptor is closed."""
        if self._targets.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def run_now(self) -> None:
        """Look at the carriers at once: a close that happened before a call must be seen before that call is served."""
        self._on_ready()

    def _on_ready(self) -> None:
        targets = self._targets
        for fd, bits in self._epoll.poll(0, BATCH):
            target = targets.get(fd)
            if target is None:  # forgotten by one before it in this batch
                continue
            try:
                target(bits)
            except Exception:  # one broken carrier must not stop the others
                log.exception("carrier %d failed and is left alone", fd)
                self.forget(fd)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back at the loop's next turn."""
        self._loop.call_soon(callback)

    def close(self) -> None:
        """Stop watching everything."""
        self._loop.remove_reader(self._epoll.fileno())
        self._targets.clear()
        self._epoll.close()
