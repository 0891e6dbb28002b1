"""The runtime contract of STYLE §2, between devices and one Stack.

    device readable ─ receive() a batch ─┐
    deadline reached ────────────────────┼─ flush: handle_timeout · events to owners · poll_transmit → device · re-arm
    wake(), by a verb called elsewhere ──┘

One thread, one loop. Two limits keep it fair: a batch of packets in, a budget of packets out. What is left over waits
for the loop's next turn, so that a bulk sender cannot starve carriers, timers or the debug socket.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from nuse.device import Buffer, Device, Notifier
from nuse.gro import coalesce
from nuse.loop import Alarm, monotonic_ns
from nuse.softoffload import SoftwareOffload
from stack.ip.link import IP_MAX, Link

log = logging.getLogger("nuse.driver")

READ_BATCH = 32  # packets read before answering: ACKs coalesce, and a reply waits at most that long
READ_BATCH_WIRE = 64  # the same where packets are of wire size
SEND_BUDGET = 32  # packets and events of one flush
HEARD = 8  # batches of each device before a time-out is acted upon
FAULT_PAUSE = 0.05  # seconds between flushes of a stack that throws
CLOCK_EVERY = 8  # packets sent on one reading of the clock: a send time is at most that stale


class Owner(Protocol):
    """What `endpoint.owner` must be able to do."""

    def on_events(self, mask: int) -> None:
        """The endpoint has news: bits of stack/events.py."""


class Endpoint(Protocol):
    """What `Stack.poll_event` hands out, as far as the driver cares."""

    owner: object

    def close(self) -> None:
        """The owner is gone."""


class DrivenStack(Protocol):
    """The verbs of a Stack that the driver uses; stack/host.py has the real ones."""

    def receive(self, pkt: bytes, now: int, link: Link) -> None:
        """Take one packet in."""

    def poll_transmit(self, now: int) -> tuple[Link, Sequence[Buffer]] | None:
        """The next packet to send, if any."""

    def poll_timeout(self) -> int | None:
        """The next deadline."""

    def handle_timeout(self, now: int) -> None:
        """Act on deadlines that have passed."""

    def poll_event(self) -> tuple[Endpoint, int] | None:
        """The next endpoint with news."""

    def set_link_up(self, link: Link, up: bool) -> None:
        """Take a link up or down."""


class Port:
    """A link and the device that carries it."""

    __slots__ = ("batch", "device", "link", "watched")

    def __init__(self, link: Link, device: Device, batch: int) -> None:
        self.link = link
        self.device = device
        self.batch = batch
        self.watched = device.fileno()


def _discard(_iovec: Sequence[Buffer]) -> bool:
    return False


NOWHERE = (_discard, 1)  # where packets for a link without device go


def _largest(device: Device) -> int:
    """The largest packet that `device` takes: an IP packet, unless it says otherwise."""
    return getattr(device, "gso_max", IP_MAX)


class Driver:
    """Moves packets between devices and `stack` until closed. Make it inside its running loop."""

    def __init__(self, stack: DrivenStack, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.stack = stack
        self.loop = loop or asyncio.get_running_loop()
        self.now: Callable[[], int] = monotonic_ns
        self.ports: dict[Link, Port] = {}
        self.faults = 0  # exceptions that owners, devices or the stack threw at us
        self._writers: dict[Link, tuple[Callable[[Sequence[Buffer]], bool], int]] = {}
        self._deadline: int | None = None  # the stack's, as of the last flush
        self._alarm = Alarm(self.loop, self.flush)
        self._scheduled = False
        self._flushing = False
        self._closed = False

    def attach(self, link: Link, device: Device) -> None:
        """Carry `link` over `device`, which the driver closes in the end.

        A device without offload gets it in software, and `link.offload` becomes true: the stack need not know.
        """
        if not link.offload:
            device = SoftwareOffload(device)
            link.offload = True
        link.gso_max = _largest(device)
        cost = getattr(device, "write_cost", 1)
        port = self.ports[link] = Port(link, device, READ_BATCH if cost == 1 else READ_BATCH_WIRE)
        self._writers[link] = (device.write, cost)
        if isinstance(device, Notifier):
            device.on_ready = lambda: self._schedule_read(port)
            self._schedule_read(port)
        if port.watched >= 0:
            self.loop.add_reader(port.watched, self._on_readable, port)

    def detach(self, link: Link) -> Device | None:
        """Stop carrying `link`; the device is handed back open."""
        port = self.ports.pop(link, None)
        if port is None:
            return None
        del self._writers[link]
        if port.watched >= 0:
            self.loop.remove_reader(port.watched)
        if isinstance(port.device, Notifier):
            port.device.on_ready = None
        return port.device

    def device(self, link: Link) -> Device | None:
        """The device that carries `link`."""
        port = self.ports.get(link)
        return None if port is None else port.device

    def wake(self) -> None:
        """Flush soon. Call it after a verb of the stack from outside `on_events`; inside it costs nothing."""
        if not self._scheduled and not self._flushing:
            self._scheduled = True
            self.loop.call_soon(self._flush_scheduled)

    def close(self) -> None:
        """Stop, and close all devices. The stack is left as it is."""
        self._closed = True
        for link in list(self.ports):
            device = self.detach(link)
            if device is not None:
                device.close()
        self._alarm.close()

    # --- packets in

    def _on_readable(self, port: Port) -> None:
        """Feed one batch to the stack, then answer."""
        self._hear(port)
        self.flush()

    def _hear(self, port: Port) -> bool:
        """Feed one batch to the stack; True if more may wait."""
        read = port.device.read
        link = port.link
        receive = self.stack.receive
        batch: list[bytes] = []
        try:
            for _ in range(port.batch):
                packet = read()
                if packet is None:
                    if not batch and getattr(port.device, "gone", False):
                        self._give_up(link)
                    break
                batch.append(packet)
            now = self.now()
            for packet in coalesce(batch) if len(batch) > 1 else batch:
                receive(packet, now, link)
        except Exception:
            self.faults += 1
            log.exception("packet from %s dropped", link.name)
        return len(batch) == port.batch

    def _hear_all(self) -> None:
        """What has come is heard before a time-out is acted upon: we, not the peer, may be who is late."""
        for port in list(self.ports.values()):
            for _ in range(HEARD):
                if not self._hear(port):
                    break

    def _schedule_read(self, port: Port) -> None:
        self.loop.call_soon(self._read_notified, port)

    def _read_notified(self, port: Port) -> None:
        """As _on_readable, for a device whose readiness no file tells: come back until it is empty."""
        if self.ports.get(port.link) is not port:
            return
        first = port.device.read()
        if first is None:
            return
        try:
            self.stack.receive(first, self.now(), port.link)
        except Exception:
            self.faults += 1
            log.exception("packet from %s dropped", port.link.name)
        self._on_readable(port)
        self._schedule_read(port)

    # --- everything out

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Act on deadlines, tell owners, send; within the budget, the rest at the loop's next turn."""
        if self._flushing or self._closed:
            return
        self._flushing = True
        try:
            more = self._flush_some()
        except Exception:
            self.faults += 1
            log.exception("the stack failed; trying again in %g s", FAULT_PAUSE)
            self.loop.call_later(FAULT_PAUSE, self.wake)
            return
        finally:
            self._flushing = False
        self._deadline = deadline = self.stack.poll_timeout()
        if deadline is not None:
            self._alarm.at(deadline)
        if more:
            self.wake()

    def _flush_some(self) -> bool:
        """One flush; True if the budget ran out before the work did."""
        stack = self.stack
        poll_event, poll_transmit = stack.poll_event, stack.poll_transmit
        writers = self._writers
        now = self.now()
        if self._deadline is not None and self._deadline <= now:
            self._hear_all()
            now = self.now()
            deadline = stack.poll_timeout()  # it may have moved away
            if deadline is not None and deadline <= now:
                stack.handle_timeout(now)
        budget = SEND_BUDGET
        while True:
            while (event := poll_event()) is not None:
                budget -= 1
                self._tell(event[0], event[1])
                if budget <= 0:
                    break
            while (out := poll_transmit(now)) is not None:
                link, iovec = out
                write, cost = writers.get(link, NOWHERE)
                if not write(iovec):
                    self._on_drop(link)
                budget -= cost
                if budget <= 0:
                    return True
                if not budget % CLOCK_EVERY:
                    now = self.now()
            # Packets to ourselves arrive within poll_transmit, so there may be news again.
            if (event := poll_event()) is None:
                return False
            budget -= 1
            self._tell(event[0], event[1])
            if budget <= 0:
                return True

    def _on_drop(self, link: Link) -> None:
        link.stats.tx_dropped += 1
        port = self.ports.get(link)
        if port is None:
            return
        link.gso_max = _largest(port.device)
        if getattr(port.device, "gone", False):
            self._give_up(link)

    def _give_up(self, link: Link) -> None:
        """The device was deleted behind our back: the link is down for good, and routes over others take its place."""
        log.error("the device of link %s is gone; the link is down", link.name)
        device = self.detach(link)
        if device is not None:
            device.close()
        self.stack.set_link_up(link, False)

    def _tell(self, endpoint: Endpoint, mask: int) -> None:
        """Hand an event over. An owner that throws loses its endpoint, nobody else notices."""
        owner = endpoint.owner
        if owner is None:
            return
        try:
            cast(Owner, owner).on_events(mask)
        except Exception:
            self.faults += 1
            log.exception("%s failed; closing its endpoint", type(owner).__name__)
            endpoint.owner = None
            try:
                endpoint.close()
            except Exception:
                log.exception("closing failed too")
