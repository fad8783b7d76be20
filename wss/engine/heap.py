"""A binary heap of events in arrays, for compiled code: the event of the smallest key first, of equal keys the oldest.

numba's heaps of tuples take seconds to compile.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from wss.records import FloatArray, IntArray


class Heap(NamedTuple):
    """Events; each has a key (a time or a number of ticks), a serial number that breaks ties, and an integer value.

    Attributes
    ----------
    count
        Number of events, and serial number of the next event, [2].
    key, serial, value
        The events, [capacity] each; the first *count* entries are used.
    """

    count: IntArray
    key: FloatArray | IntArray
    serial: IntArray
    value: IntArray


def build_heap(capacity: int, key: type[np.float64] | type[np.int64]) -> Heap:
    """Return an empty heap for up to *capacity* events with keys of the type *key*."""
    numbers = (np.zeros(capacity, np.int64) for _ in range(2))
    return Heap(np.zeros(2, np.int64), np.zeros(capacity, key), *numbers)


@numba.njit(cache=True, nogil=True)
def push(heap, key, value):  # type: ignore[no-untyped-def]
    """Add an event; it comes after the events of the same key that were added before."""
    serial = heap.count[1]
    heap.count[1] += 1
    push_as(heap, key, serial, value)


@numba.njit(cache=True, nogil=True)
def push_as(heap, key, serial, value):  # type: ignore[no-untyped-def]
    """Add an event with a given serial number."""
    i = heap.count[0]
    heap.count[0] += 1
    while i > 0:
        above = (i - 1) // 2
        if heap.key[above] < key or (heap.key[above] == key and heap.serial[above] < serial):
            break
        heap.key[i], heap.serial[i], heap.value[i] = heap.key[above], heap.serial[above], heap.value[above]
        i = above
    heap.key[i], heap.serial[i], heap.value[i] = key, serial, value


@numba.njit(cache=True, nogil=True)
def pop(heap):  # type: ignore[no-untyped-def]
    """Remove the first event, and return its value."""
    first = heap.value[0]
    heap.count[0] -= 1
    last = heap.count[0]
    key, serial, value = heap.key[last], heap.serial[last], heap.value[last]
    i = 0
    while 2 * i + 1 < last:
        child = 2 * i + 1
        other = child + 1
        if other < last and (
            heap.key[other] < heap.key[child]
            or (heap.key[other] == heap.key[child] and heap.serial[other] < heap.serial[child])
        ):
            child = other
        if key < heap.key[child] or (key == heap.key[child] and serial < heap.serial[child]):
            break
        heap.key[i], heap.serial[i], heap.value[i] = heap.key[child], heap.serial[child], heap.value[child]
        i = child
    heap.key[i], heap.serial[i], heap.value[i] = key, serial, value
    return first
