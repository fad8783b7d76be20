"""A binary heap of events, for compiled code: the smallest key first, of equal keys the one that was added first.

numba's heaps of tuples take seconds to compile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wss.arrays import records
from wss.compiling import borrowing
from wss.records import IntArray

# key: a time, or a number of ticks; serial: breaks ties; value: what happens
EVENT = np.dtype([("key", np.float64), ("serial", np.int64), ("value", np.int64)])


class Heap(NamedTuple):
    """Events.

    Attributes
    ----------
    count
        Number of events, and serial number of the next event, [2].
    events
        `EVENT` records; the first *count* are used, [capacity].
    """

    count: IntArray  # type: ignore[assignment]  # numba needs named tuples, whose method it hides
    events: npt.NDArray[Any]


def build_heap(capacity: int) -> Heap:
    """Return an empty heap for up to *capacity* events."""
    return Heap(np.zeros(2, np.int64), records(capacity, EVENT))


@borrowing
def push(heap, key, value):  # type: ignore[no-untyped-def]
    """Add an event; it comes after the events of the same key that were added before."""
    serial = heap.count[1]
    heap.count[1] += 1
    push_as(heap, key, serial, value)


@borrowing
def push_as(heap, key, serial, value):  # type: ignore[no-untyped-def]
    """Add an event with a given serial number."""
    events, i = heap.events, heap.count[0]
    heap.count[0] += 1
    while i > 0:
        above = events[(i - 1) // 2]
        if above.key < key or (above.key == key and above.serial < serial):
            break
        events[i].key, events[i].serial, events[i].value = above.key, above.serial, above.value
        i = (i - 1) // 2
    events[i].key, events[i].serial, events[i].value = key, serial, value


@borrowing
def pop(heap):  # type: ignore[no-untyped-def]
    """Remove the first event, and return its value."""
    events = heap.events
    first = events[0].value
    heap.count[0] -= 1
    last = heap.count[0]
    key, serial, value = events[last].key, events[last].serial, events[last].value
    i = 0
    while 2 * i + 1 < last:
        child, other = 2 * i + 1, 2 * i + 2
        if other < last and (
            events[other].key < events[child].key
            or (events[other].key == events[child].key and events[other].serial < events[child].serial)
        ):
            child = other
        below = events[child]
        if key < below.key or (key == below.key and serial < below.serial):
            break
        events[i].key, events[i].serial, events[i].value = below.key, below.serial, below.value
        i = child
    events[i].key, events[i].serial, events[i].value = key, serial, value
    return first
