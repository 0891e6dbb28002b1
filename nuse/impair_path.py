"""What one direction of an impaired link does to each packet that enters it, from a seed.

In netem's order: duplication, loss, marks; then per copy corruption, the queue of the rate, the delay. Decisions only:
time comes in as an argument and packets go out when asked for, so tests run on a virtual clock, and one seed does the
same to the same packets each time. nuse/impair_device.py puts it between a device and the driver.
"""

from collections import deque
from dataclasses import dataclass, fields
from heapq import heappop, heappush
from random import Random

from nuse.gso import mark_ce
from nuse.impair import SEC, ImpairSpec
from stack.wire.vnet import VNET_LEN, VNET_NONE

HELD_BYTES = 256 << 20  # most that one direction keeps in flight


@dataclass(slots=True, eq=False)
class ImpairStats:
    """What happened to the wire packets of one direction."""

    packets: int = 0
    lost: int = 0
    overlimit: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    marked: int = 0

    def as_dict(self) -> dict[str, int]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


class ImpairedPath:
    """One direction: `offer` packets as they come, `take` them when they are due. O(log n) a packet in flight."""

    def __init__(self, spec: ImpairSpec, salt: str = "") -> None:
        self.spec = spec
        self.stats = ImpairStats()
        self._random = Random(f"{spec.seed}/{salt}")
        self._flight: list[tuple[int, int, bytes]] = []  # heap of (due, arrival number, packet)
        self._arrivals = 0
        self._held = 0  # bytes in flight
        self._departures: deque[int] = deque()  # when each packet of the rate's queue will have left it
        self._bad = False  # state of the Gilbert-Elliott model
        self._since_reorder = 0

    def offer(self, packet: bytes, now: int) -> None:
        """A packet enters the link."""
        spec, stats, random = self.spec, self.stats, self._random
        stats.packets += 1
        copies = 1
        if spec.duplicate and random.random() < spec.duplicate:
            copies = 2
            stats.duplicated += 1
        if self._loses(stats.packets - 1):
            marked = mark_ce(packet) if spec.ecn else None
            if marked is None:
                copies -= 1
                stats.lost += 1
            else:
                packet = marked
                stats.marked += 1
        if spec.mark and random.random() < spec.mark:
            packet = self._mark(packet)
        for _ in range(copies):
            self._enqueue(packet, now)

    def inject(self, packet: bytes) -> None:
        """A packet that has been through it already: due at once."""
        self._launch(packet, 0)

    def take(self, now: int) -> bytes | None:
        """The next packet that leaves the link by `now`, if any."""
        flight = self._flight
        if not flight or flight[0][0] > now:
            return None
        packet = heappop(flight)[2]
        self._held -= len(packet)
        return packet

    def deadline(self) -> int | None:
        """When the next packet leaves."""
        return self._flight[0][0] if self._flight else None

    @property
    def in_flight(self) -> int:
        """Packets that entered and have not left."""
        return len(self._flight)

    def _loses(self, index: int) -> bool:
        spec, random = self.spec, self._random
        lost = bool(spec.loss) and random.random() < spec.loss
        if spec.pattern:
            lost |= spec.pattern[index % len(spec.pattern)] == "1"
        if spec.gemodel:
            to_bad, to_good, loss_bad, loss_good = spec.gemodel
            if random.random() < (to_good if self._bad else to_bad):
                self._bad = not self._bad
            lost |= random.random() < (loss_bad if self._bad else loss_good)
        return lost

    def _enqueue(self, packet: bytes, now: int) -> None:
        spec, random = self.spec, self._random
        if spec.corrupt and random.random() < spec.corrupt:
            packet = self._corrupt(packet)
        due = now
        if spec.rate:
            queue = self._departures
            while queue and queue[0] <= now:
                queue.popleft()
            if len(queue) >= spec.limit:
                self.stats.overlimit += 1
                return
            if spec.mark_over and len(queue) >= spec.mark_over:
                packet = self._mark(packet)
            due = (queue[-1] if queue else now) + (len(packet) - VNET_LEN) * 8 * SEC // spec.rate
            queue.append(due)
        if self._held + len(packet) > HELD_BYTES:
            self.stats.overlimit += 1
            return
        if self._skips_delay():
            self.stats.reordered += 1
        elif spec.jitter:
            due += spec.delay + random.randint(-spec.jitter, spec.jitter)
        else:
            due += spec.delay
        self._launch(packet, due)

    def _launch(self, packet: bytes, due: int) -> None:
        self._held += len(packet)
        self._arrivals += 1
        heappush(self._flight, (due, self._arrivals, packet))

    def _skips_delay(self) -> bool:
        """netem's reorder: with a gap, only each gap-th packet is a candidate."""
        spec = self.spec
        if not spec.reorder:
            return False
        self._since_reorder += 1
        if self._since_reorder < spec.gap or self._random.random() >= spec.reorder:
            return False
        self._since_reorder = 0
        return True

    def _mark(self, packet: bytes) -> bytes:
        marked = mark_ce(packet)
        if marked is None:
            return packet
        self.stats.marked += 1
        return marked

    def _corrupt(self, packet: bytes) -> bytes:
        """Flip one bit of the IP packet, and vouch for nothing."""
        if len(packet) <= VNET_LEN:
            return packet
        self.stats.corrupted += 1
        out = bytearray(packet)
        out[:VNET_LEN] = VNET_NONE
        out[self._random.randrange(VNET_LEN, len(out))] ^= 1 << self._random.randrange(8)
        return bytes(out)
