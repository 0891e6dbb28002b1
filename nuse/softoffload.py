"""A device without offload, as one with it: super-segments are cut on the way out; reads are merged by the driver.

The stack then has one way of working, and pays its per-segment cost per super-segment on every device. What is left per
wire packet is a checksum, six stores and a writev: 8 µs instead of 25.
"""

from collections.abc import Callable, Sequence

from nuse.device import Buffer, Device, Notifier
from nuse.gso import cut_for_writev, wire_packets


class SoftwareOffload:
    """Wraps a device that takes wire packets only."""

    __slots__ = ("_on_ready", "device")

    write_cost = 8  # of the driver's send budget: what it takes to cut 64 KB, against handing them over whole

    def __init__(self, device: Device) -> None:
        self.device = device
        self._on_ready: Callable[[], None] | None = None

    @property
    def on_ready(self) -> Callable[[], None] | None:
        return self._on_ready

    @on_ready.setter
    def on_ready(self, callback: Callable[[], None] | None) -> None:
        self._on_ready = callback
        if isinstance(self.device, Notifier):
            self.device.on_ready = callback

    @property
    def gone(self) -> bool:
        return bool(getattr(self.device, "gone", False))

    def fileno(self) -> int:
        return self.device.fileno()

    def read(self) -> bytes | None:
        return self.device.read()

    def write(self, iovec: Sequence[Buffer]) -> bool:
        """True if all pieces went out."""
        write = self.device.write
        pieces = cut_for_writev(iovec)
        sent = True
        if pieces is None:
            for packet in wire_packets(b"".join(iovec)):
                sent &= write((packet,))
        else:
            for piece in pieces:
                sent &= write(piece)
        return sent

    def close(self) -> None:
        self.device.close()
