"""An imperfect wire in one direction: rate, delay, queue, MTU, loss, reordering, duplication, corruption; virtual time.

Everything random comes from one seed, drawn in the order of the packets: the same seed gives the same bytes.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import dpkt

from stack.units import MSEC, SEC, Nanos

Loss = float | Collection[int] | Callable[[int, bytes], bool]


@dataclass(slots=True, eq=False)
class Link:
    """Where a packet goes, and when. Chances are 0..1; `rate` is bit/s (0: infinite), `queue` bytes (0: infinite).

    `loss` is a chance, the set of packet numbers to lose (from 0), or a function of number and packet.
    """

    rate: int = 0
    delay: Nanos = 10 * MSEC
    jitter: Nanos = 0  # uniform on top of `delay`, but never out of order
    queue: int = 0
    loss: Loss = 0.0
    reorder: float = 0.0
    reorder_by: Nanos = 3 * MSEC  # how much longer a reordered packet takes
    dup: float = 0.0
    corrupt: float = 0.0
    mtu: int = 0  # drop what is larger, as a black hole; 0: none
    mark_over: int = 0  # set CE on what is ECN-capable while more than so many bytes are queued (RFC 3168 §5); 0: never
    marks: Collection[int] = ()  # … and on these packet numbers
    seed: int = 1
    # counters
    marked: int = 0
    carried: int = 0
    lost: int = 0
    overflowed: int = 0
    _number: int = 0
    _free_at: Nanos = 0
    _last_arrival: Nanos = 0
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)

    def twin(self, seed_offset: int = 1000) -> "Link":
        """The same wire in the other direction, with its own chances."""
        loss = self.loss if isinstance(self.loss, float) else 0.0
        return Link(
            rate=self.rate,
            delay=self.delay,
            jitter=self.jitter,
            queue=self.queue,
            loss=loss,
            reorder=self.reorder,
            reorder_by=self.reorder_by,
            dup=self.dup,
            corrupt=self.corrupt,
            mtu=self.mtu,
            seed=self.seed + seed_offset,
        )

    def send(self, packet: bytes, now: Nanos) -> list[tuple[Nanos, bytes]]:
        """(arrival time, packet) of each copy that arrives; none if it is lost. Packets carry a 10-byte vnet header."""
        number = self._number
        self._number += 1
        size = len(packet) - 10
        draw = self._random.random
        if self._loses(number, packet) or (self.mtu and size > self.mtu):
            self.lost += 1
            return []
        start = max(now, self._free_at)
        queued = (start - now) * self.rate // (8 * SEC)
        if number in self.marks or (self.mark_over and queued > self.mark_over):
            packet = self._marked(packet)
        if self.rate:
            if self.queue and queued + size > self.queue:
                self.overflowed += 1
                return []
            self._free_at = start + size * 8 * SEC // self.rate
            start = self._free_at
        arrival = start + self.delay
        if self.jitter:
            arrival = max(arrival + int(draw() * self.jitter), self._last_arrival)
            self._last_arrival = arrival
        if self.corrupt and draw() < self.corrupt:
            packet = self._corrupted(packet)
        if self.reorder and draw() < self.reorder:
            arrival += self.reorder_by
        copies = [(arrival, packet)]
        if self.dup and draw() < self.dup:
            copies.append((arrival + MSEC, packet))
        self.carried += len(copies)
        return copies

    def _loses(self, number: int, packet: bytes) -> bool:
        if isinstance(self.loss, float):
            return self.loss > 0 and self._random.random() < self.loss
        if isinstance(self.loss, Collection):
            return number in self.loss
        return self.loss(number, packet)

    def _marked(self, packet: bytes) -> bytes:
        """The packet with CE, if it is ECN-capable; the IPv4 header checksum is made good."""
        copy = bytearray(packet)
        if packet[10] >> 4 == 6:
            if not packet[11] & 0x30:
                return packet
            copy[11] |= 0x30
        else:
            if not packet[11] & 3:
                return packet
            copy[11] |= 3
            header = copy[10 : 10 + (copy[10] & 15) * 4]
            header[10:12] = b"\0\0"
            copy[20:22] = dpkt.in_cksum(bytes(header)).to_bytes(2, "big")
        self.marked += 1
        return bytes(copy)

    def _corrupted(self, packet: bytes) -> bytes:
        at = self._random.randrange(10, len(packet))
        flipped = bytearray(packet)
        flipped[at] ^= 1 << self._random.randrange(8)
        return bytes(flipped)
