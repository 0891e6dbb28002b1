"""An impaired device: wraps another one and looks like it to the driver.

Super-segments are cut into wire packets first, unless all that happens to them is one constant delay: a real link loses
packets of 1500 bytes, not bursts of 64 KB. What arrives whole is vouched for by its vnet header, as a network card
does; what was corrupted is not, so the checksums decide.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nuse.device import Buffer, Device, Notifier
from nuse.driver import Driver
from nuse.gso import wire_packets
from nuse.impair import ImpairSpec
from nuse.impair_path import ImpairedPath
from nuse.loop import Alarm, monotonic_ns
from stack.ip.link import Link

READS = 64  # packets taken from the device for one that is handed on, at most
NEVER = 1 << 63


class ImpairedDevice:
    """A device with a bad network behind it, each direction by itself."""

    write_cost = 8  # of the driver's send budget; see SoftwareOffload

    def __init__(
        self, device: Device, loop: asyncio.AbstractEventLoop, clock: Callable[[], int] = monotonic_ns
    ) -> None:
        self.device = device
        self.on_ready: Callable[[], None] | None = None
        self.egress: ImpairedPath | None = None
        self.ingress: ImpairedPath | None = None
        self._clock = clock
        self._alarm = Alarm(loop, self._on_alarm)
        self._inner = device if isinstance(device, Notifier) else None
        if self._inner is not None:
            self._inner.on_ready = self._ready

    def configure(self, spec: ImpairSpec) -> None:
        """Replace the impairment of the directions that `spec` names; what they hold leaves at once, in order."""
        if spec.egress:
            old, self.egress = self.egress, ImpairedPath(spec, "egress")
            self._release_egress(old)
        if spec.ingress:
            old, self.ingress = self.ingress, ImpairedPath(spec, "ingress")
            while old is not None and (packet := old.take(NEVER)) is not None:
                self.ingress.inject(packet)
        self._ready()

    @property
    def gone(self) -> bool:
        return bool(getattr(self.device, "gone", False))

    def fileno(self) -> int:
        return self.device.fileno()

    def read(self) -> bytes | None:
        """The next packet that is due; None also when the device has more but all of the last few were held back."""
        path = self.ingress
        if path is None:
            return self.device.read()
        now = self._clock()
        for _ in range(READS):
            if (packet := path.take(now)) is not None:
                self._arm(path)  # the driver may stop here, for the sake of fairness
                return packet
            fresh = self.device.read()
            if fresh is None:
                self._arm(path)
                return None
            for piece in wire_packets(fresh, vouch=True) if path.spec.per_packet else (fresh,):
                path.offer(piece, now)
        self._arm(path)
        if self._inner is not None:
            self._ready()
        return None

    def write(self, iovec: Sequence[Buffer]) -> bool:
        """Send into the bad network; what it loses is its own affair, so always True if there is one."""
        path = self.egress
        if path is None:
            return self.device.write(iovec)
        now = self._clock()
        packet = b"".join(iovec)
        for piece in wire_packets(packet) if path.spec.per_packet else (packet,):
            path.offer(piece, now)
        self._send_due(path, now)
        return True

    def drain(self) -> Iterator[bytes]:
        """The arriving packets that are held, due or not."""
        while self.ingress is not None and (packet := self.ingress.take(NEVER)) is not None:
            yield packet

    def release(self) -> Device:
        """Undo: send what is held and give the device back, open. `drain` first, or arriving packets are lost."""
        self._release_egress(self.egress)
        self.egress = self.ingress = None
        self._alarm.close()
        if self._inner is not None:
            self._inner.on_ready = None
        return self.device

    def close(self) -> None:
        """Close the device; what is held is lost."""
        self._alarm.close()
        self.egress = self.ingress = None
        self.device.close()

    def _release_egress(self, path: ImpairedPath | None) -> None:
        while path is not None and (packet := path.take(NEVER)) is not None:
            self.device.write((packet,))

    def _ready(self) -> None:
        if self.on_ready is not None:
            self.on_ready()

    def _on_alarm(self) -> None:
        now = self._clock()
        if self.egress is not None:
            self._send_due(self.egress, now)
        path = self.ingress
        if path is not None:
            due = path.deadline()
            if due is not None and due <= now:
                self._ready()
            else:
                self._arm(path)

    def _send_due(self, path: ImpairedPath, now: int) -> None:
        while (packet := path.take(now)) is not None:
            self.device.write((packet,))
        self._arm(path)

    def _arm(self, path: ImpairedPath) -> None:
        due = path.deadline()
        if due is not None:
            self._alarm.at(due)


def impair(driver: Driver, link: Link, spec: ImpairSpec | None) -> None:
    """Impair a link's directions as `spec` says, in place of what was; None clears both. Raises KeyError."""
    device = driver.device(link)
    if device is None:
        raise KeyError(link.name)
    if isinstance(device, ImpairedDevice):
        if spec is not None:
            device.configure(spec)
            return
        for packet in device.drain():
            driver.stack.receive(packet, driver.now(), link)
        driver.detach(link)
        driver.attach(link, device.release())
        driver.wake()
    elif spec is not None:
        driver.detach(link)
        wrapped = ImpairedDevice(device, driver.loop, driver.now)
        driver.attach(link, wrapped)
        wrapped.configure(spec)


def impairment(driver: Driver, link: Link) -> dict[str, dict[str, object]]:
    """What a link suffers from, per direction: its words and its counters. Empty if healthy."""
    device = driver.device(link)
    if not isinstance(device, ImpairedDevice):
        return {}
    paths = {"egress": device.egress, "ingress": device.ingress}
    return {
        name: {"spec": replace(path.spec, egress=True, ingress=True).show(), **path.stats.as_dict()}
        for name, path in paths.items()
        if path is not None
    }
