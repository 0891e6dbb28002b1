"""What the driver asks of a device, and the one that needs no kernel: a pair joined back to back in memory.

A packet is a 10-byte virtio_net_hdr and an IP packet, in both directions (see stack/wire/vnet.py).
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview  # what writev and join take

PAIR_QUEUE = 1000  # packets that one end of a pair holds; the txqueuelen of an Ethernet device


class Device(Protocol):
    """A source and sink of packets, readable when its file is."""

    def fileno(self) -> int:
        """The file to watch, or -1: then it is a `Notifier`."""

    def read(self) -> bytes | None:
        """The next packet, or None if there is none now."""

    def write(self, iovec: Sequence[Buffer]) -> bool:
        """Send one packet, which is not kept; False if it was dropped."""

    def close(self) -> None:
        """Give everything back; more calls are harmless."""


@runtime_checkable
class Notifier(Protocol):
    """A device that also has packets at times when its file is not readable; it calls `on_ready` then."""

    on_ready: Callable[[], None] | None


class PairEnd:
    """One end of `pair()`."""

    __slots__ = ("_peer", "_queue", "dropped", "on_ready")

    def __init__(self) -> None:
        self.on_ready: Callable[[], None] | None = None
        self.dropped = 0
        self._queue: deque[bytes] = deque()
        self._peer: PairEnd | None = None

    def join(self, peer: "PairEnd") -> None:
        """Make `peer` the other end of this one."""
        self._peer = peer

    def fileno(self) -> int:
        return -1

    def read(self) -> bytes | None:
        return self._queue.popleft() if self._queue else None

    def write(self, iovec: Sequence[Buffer]) -> bool:
        peer = self._peer
        if peer is None or len(peer._queue) >= PAIR_QUEUE:
            self.dropped += 1
            return False
        peer._queue.append(b"".join(iovec))
        if peer.on_ready is not None and len(peer._queue) == 1:
            peer.on_ready()
        return True

    def close(self) -> None:
        self._queue.clear()
        if self._peer is not None:
            self._peer._peer = None
            self._peer = None


def pair() -> tuple[PairEnd, PairEnd]:
    """Two devices: what is written to one is read from the other. For two stacks in one process."""
    a, b = PairEnd(), PairEnd()
    a.join(b)
    b.join(a)
    return a, b
