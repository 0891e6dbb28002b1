"""What happened lately: a bounded ring of connection events, and streams of them that cannot grow.

Fed by `Stack.tracer`; costs nothing while no stack event happens, one small dict when one does.
"""

import asyncio
import time
from collections import deque
from typing import Any

from nuse.snapshot import show_sockaddr

RING = 1000
Event = dict[str, Any]


class Subscription:
    """One reader of events; what it does not take in time is counted, not kept."""

    def __init__(self, log: "EventLog") -> None:
        self._log = log
        self._queue: deque[Event] = deque()
        self._lost = 0
        self._fresh = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self._queue) >= RING:
            self._lost += 1
            return
        self._queue.append(event)
        self._fresh.set()

    async def take(self) -> list[Event]:
        """All events since the last call, at least one; `lost` tells how many are missing after them."""
        await self._fresh.wait()
        self._fresh.clear()
        events = list(self._queue)
        self._queue.clear()
        if self._lost:
            events.append({"t": time.time(), "event": "lost", "count": self._lost})
            self._lost = 0
        return events

    def close(self) -> None:
        self._log.subscribers.discard(self)


class EventLog:
    """The ring. `record` is what Stack.tracer is set to."""

    def __init__(self) -> None:
        self.ring: deque[Event] = deque(maxlen=RING)
        self.subscribers: set[Subscription] = set()

    def record(self, name: str, subject: Any) -> None:
        """Note that `name` happened to a connection, or to whatever a dict describes."""
        event: Event = {"t": round(time.time(), 6), "event": name}
        if isinstance(subject, dict):
            event |= subject
        else:
            event["id"] = subject.id
            event["state"] = subject.state.name
            event["local"] = show_sockaddr(subject.local)
            event["remote"] = show_sockaddr(subject.remote)
            if name == "mptcp" and subject.why:
                event["why"] = subject.why[-1]
        self.ring.append(event)
        for subscriber in self.subscribers:
            subscriber.put(event)

    def subscribe(self) -> Subscription:
        """A stream from now on; close it in the end."""
        subscription = Subscription(self)
        self.subscribers.add(subscription)
        return subscription
