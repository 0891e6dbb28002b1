"""A stack that only records, for tests of the runtime around it."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from nuse.device import Buffer
from stack.ip.link import Link


class Endpoint:
    def __init__(self, owner: object = None) -> None:
        self.owner = owner
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Recorder:
    """A Stack that keeps what it is told and hands out what it was given."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.received: list[bytes] = []
        self.out: deque[tuple[Link, Sequence[Buffer]]] = deque()
        self.events: deque[tuple[Endpoint, int]] = deque()
        self.deadline: int | None = None
        self.fail: Exception | None = None
        self.on_receive: Callable[[bytes], None] | None = None

    def receive(self, pkt: bytes, now: int, link: Link) -> None:
        self.received.append(pkt)
        self.log.append("receive")
        if self.on_receive is not None:
            self.on_receive(pkt)

    def poll_transmit(self, now: int) -> tuple[Link, Sequence[Buffer]] | None:
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure
        if not self.out:
            return None
        self.log.append("transmit")
        return self.out.popleft()

    def poll_timeout(self) -> int | None:
        return self.deadline

    def handle_timeout(self, now: int) -> None:
        self.log.append("timeout")
        assert self.deadline is not None
        assert now >= self.deadline
        self.deadline = None

    def poll_event(self) -> tuple[Endpoint, int] | None:
        return self.events.popleft() if self.events else None

    def set_link_up(self, link: Link, up: bool) -> None:
        link.up = up


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
