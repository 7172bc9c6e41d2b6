"""Who waits for a ticket, and in which order they go.

Rules:
1. The more urgent lane goes first; within a lane it is first come, first served.
2. The first of each lane keeps its place in all of its windows while it waits, so that a stream of
   small requests never holds up a large one. Who waits for other windows is not held up.
"""

from __future__ import annotations

import heapq
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from .tariff import Call, Lane

__all__ = ["Lanes", "Waiter"]

T = TypeVar("T")


class Waiter(Generic[T]):
    """Somebody who waits.

    Attributes:
        call: what for.
        number: how many came before.
        came: when, monotonic ns.
        future: of the ticket; done where nobody waits any more.
    """

    __slots__ = ("call", "came", "future", "number")

    def __init__(self, call: Call, number: int, came: int, future: Future[T]) -> None:
        self.call, self.number, self.came, self.future = call, number, came, future


class Lanes(Generic[T]):
    """A queue for each lane in which somebody waits; it is false while nobody does."""

    def __init__(self) -> None:
        self._queues: dict[Lane, deque[Waiter[T]]] = {}
        self._numbers = 0

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, call: Call, came: int, future: Future[T]) -> bool:
        """Let somebody wait; return whether they are the first of their lane."""
        self._numbers += 1
        queue = self._queues.setdefault(call.lane, deque())
        queue.append(Waiter(call, self._numbers, came, future))
        return len(queue) == 1

    def kept_before(self, call: Call) -> Mapping[int, int] | None:
        """Return what those keep who wait and go before it, as id of a meter → units; ``None``:
        one of its own lane does."""
        kept: dict[int, int] = {}
        for lane, queue in self._queues.items():
            first = next((waiter.call for waiter in queue if not waiter.future.done()), None)
            if first is None or lane[0] > call.lane[0]:
                continue
            if lane == call.lane:
                return None
            _keep(kept, first)
        return kept

    def let_go(
        self,
        now: int,
        when: Callable[[Call, int, Mapping[int, int]], int | None],
        give: Callable[[Waiter[T], int], None],
    ) -> int | None:
        """Let everybody go who may.

        Args:
            now: monotonic ns.
            when: returns when a request may go at the earliest, given now and what those keep who
                go before it; ``None``: not before something else happens.
            give: lets one go.

        Returns:
            when the next one may; ``None``: nobody knows, or nobody waits.
        """
        heads = []
        for lane in list(self._queues):
            if number := self._trim(lane):
                heads.append((lane[0], number, lane))
        heapq.heapify(heads)
        kept: dict[int, int] = {}
        wake: int | None = None
        while heads:
            _, _, lane = heapq.heappop(heads)
            first = self._queues[lane][0]
            at = when(first.call, now, kept)
            if at == now:
                self._queues[lane].popleft()
                give(first, now)
                if number := self._trim(lane):
                    heapq.heappush(heads, (lane[0], number, lane))
                continue
            _keep(kept, first.call)
            if at is not None and (wake is None or at < wake):
                wake = at
        return wake

    def _trim(self, lane: Lane) -> int:
        """Drop those in front who wait no more; return the number of the first, 0: of nobody."""
        queue = self._queues[lane]
        while queue and queue[0].future.done():
            queue.popleft()
        if queue:
            return queue[0].number
        del self._queues[lane]
        return 0

    def first(self) -> Waiter[T]:
        """Return who came first of those in front; somebody waits."""
        return min((queue[0] for queue in self._queues.values()), key=lambda one: one.number)

    def waiting(self) -> Iterator[Waiter[T]]:
        """Yield everybody who still waits."""
        for queue in self._queues.values():
            yield from (waiter for waiter in queue if not waiter.future.done())

    def meters(self) -> set[int]:
        """Return the ids of the meters that somebody waits for."""
        return {meter for lane in self._queues for meter in lane[1]}


def _keep(kept: dict[int, int], call: Call) -> None:
    for _, units, _, meter in call.places:
        kept[id(meter)] = kept.get(id(meter), 0) + units
