"""Deadlines of many light things: one heap entry each, which may be early but never late.

An item moves its deadline by a store to `deadline`, later only; NEVER takes it out. Dead entries leave when they reach
the top, so a thing that ended early keeps a few words until its time, as do Linux's timer wheels until they cascade.
"""

from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from typing import Generic, Protocol, TypeVar

from stack.tcp.timers import NEVER
from stack.units import Nanos


class Timed(Protocol):
    """What can be in the heap."""

    deadline: Nanos
    id: int


T = TypeVar("T", bound=Timed)


class LazyHeap(Generic[T]):
    """A heap of items by deadline; ties go by id."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[Nanos, int, T]] = []

    def push(self, item: T) -> None:
        """Start an item's clock; once for each item."""
        heappush(self._heap, (item.deadline, item.id, item))

    def earliest(self) -> Nanos | None:
        """When `due` wants to be called."""
        heap = self._heap
        while heap and heap[0][2].deadline == NEVER:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: Nanos) -> Iterator[T]:
        """Each item whose deadline has passed, without its entry; push it again to go on."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            item = heap[0][2]
            if item.deadline > now and item.deadline != NEVER:
                heapreplace(heap, (item.deadline, item.id, item))
                continue
            heappop(heap)
            if item.deadline != NEVER:
                yield item
