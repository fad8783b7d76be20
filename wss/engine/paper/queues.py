"""Exclusive resources that events hold in sets: the queueing rules of the paper's own simulator.

An event needs a set of resources at once (a memory, or all links of a route), from some time on.

* An event is admitted when it is submitted if none of its resources is held, even if it starts later. Admission holds
  its resources and moves the event to the latest time at which they become free. Otherwise it waits in the queue of
  each of its resources. A queue is ordered by higher priority, then earlier submission time, then arrival; the position
  never changes.
* Events act in time order. An action returns when its event ends and may submit successors. Then the event's resources
  are released, free from that end on.
* On release, the head of each released resource's queue is tried, in time order, and only the head: a later event that
  could run does not overtake it (no backfill).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Action = Callable[[int], int]


@dataclass(eq=False, slots=True)
class Event:
    """An event that will hold *resources*; *act* is called with its start and returns its end, both in ns."""

    time: int
    resources: Sequence[int]
    priority: int
    act: Action
    waits: bool = False


class Circuit:
    """The clock and the resources; times are whole nanoseconds."""

    def __init__(self, num_resources: int) -> None:
        self._held = [False] * num_resources
        self._free_at = [0] * num_resources
        self._queues: list[list[tuple[int, int, int, Event]]] = [[] for _ in range(num_resources)]
        self._events: list[tuple[int, int, Event]] = []
        self._arrivals = 0
        self._admissions = 0
        self.busy = [0] * num_resources

    def submit(self, time: int, resources: Sequence[int], priority: int, act: Action) -> None:
        """Request *resources* from *time* on."""
        event = Event(time, resources, priority, act)
        if not any(self._held[r] for r in resources):
            self._admit(event)
            return
        event.waits = True
        self._arrivals += 1
        for r in resources:
            heapq.heappush(self._queues[r], (-priority, time, self._arrivals, event))

    def run(self) -> int:
        """Run until no event is left, and return the latest end."""
        latest = 0
        while self._events:
            time, _, event = heapq.heappop(self._events)
            end = event.act(time)
            latest = max(latest, end)
            for r in event.resources:
                self.busy[r] += end - time
            self._release(event, end)
        return latest

    def _admit(self, event: Event) -> None:
        for r in event.resources:
            self._held[r] = True
            event.time = max(event.time, self._free_at[r])
        event.waits = False
        self._admissions += 1
        heapq.heappush(self._events, (event.time, self._admissions, event))

    def _release(self, event: Event, end: int) -> None:
        heads = []
        for r in event.resources:
            self._held[r] = False
            self._free_at[r] = max(self._free_at[r], end)
        for r in event.resources:
            queue = self._queues[r]
            while queue and not queue[0][3].waits:
                heapq.heappop(queue)
            if queue:
                heads.append(queue[0])
        for _, _, _, head in sorted(heads, key=lambda entry: (entry[1], entry[2])):
            if head.waits and not any(self._held[r] for r in head.resources):
                self._admit(head)
