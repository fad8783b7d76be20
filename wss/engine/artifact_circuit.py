"""`circuit.Circuit` in compiled code: the same queueing rules, over arrays.

An event is a number; what an action does is its caller's (`artifact_compiled`), who pops, acts, submits, releases. All
times are whole nanoseconds. A queue is a binary heap of entries (key, tie, event) in a stretch of one array: one for
each resource, by (time, away tasks first; number), and behind them the agenda of admitted events, by (time, admission).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from wss.records import BoolArray, IntArray

EVENT = np.dtype(
    [
        ("time", np.int64),  # when it may start, and once admitted when it does
        ("asked", np.int64),  # when it was submitted to start: its place in a queue never changes
        ("first", np.int32),  # what it holds: needs[first:last]
        ("last", np.int32),
        ("chain", np.int32),
        ("kind", np.int32),
        ("waits", np.int32),
    ],
    align=True,
)
ENTRY = np.dtype([("key", np.int64), ("tie", np.int32), ("event", np.int32)], align=True)
BEHIND = 1 << 60  # added to the key of an event without priority
EVENTS, ADMISSIONS = 0, 1


class Circuit(NamedTuple):
    """The clock and the resources.

    Attributes
    ----------
    needs
        Resources, in stretches that events hold.
    events
        `EVENT` records, as many as are ever submitted.
    entries, begins, sizes
        The heaps, one after the other: `ENTRY` records; where each begins, and how many it has, [resources + 1].
    held, free_at, busy
        Whether each resource is held, when it falls free, and how long it has been held, [resources].
    heads
        Room for the heads that a release tries, [resources].
    numbers
        How many events and admissions there have been, [2].
    """

    needs: IntArray
    events: np.ndarray  # type: ignore[type-arg]
    entries: np.ndarray  # type: ignore[type-arg]
    begins: IntArray
    sizes: IntArray
    held: BoolArray
    free_at: IntArray
    busy: IntArray
    heads: IntArray
    numbers: IntArray


@numba.njit(cache=True)
def circuit_of(needs, events, most):  # type: ignore[no-untyped-def]
    """Return a circuit for at most *events* events, of which *most* [resources] may ever wait for each resource."""
    resources = most.size
    begins = np.zeros(resources + 1, np.int64)
    begins[1:] = np.cumsum(most)
    return Circuit(
        needs,
        np.empty(events, EVENT),
        np.empty(begins[-1] + resources, ENTRY),  # an admitted event holds a resource: there are no more of them
        begins,
        np.zeros(resources + 1, np.int64),
        np.zeros(resources, np.bool_),
        np.zeros(resources, np.int64),
        np.zeros(resources, np.int64),
        np.zeros(resources, np.int64),
        np.zeros(2, np.int64),
    )


@numba.njit(cache=True)
def _push(entries, begin, size, key, tie, event):  # type: ignore[no-untyped-def]
    """Add an entry to the heap of *size* entries from *begin* on."""
    place = size
    while place > 0:
        above = (place - 1) >> 1
        other = entries[begin + above]
        if other.key < key or (other.key == key and other.tie < tie):
            break
        entries[begin + place] = other
        place = above
    entry = entries[begin + place]
    entry.key, entry.tie, entry.event = key, tie, event


@numba.njit(cache=True)
def _pop(entries, begin, size):  # type: ignore[no-untyped-def]
    """Remove the least entry of the heap of *size* entries from *begin* on, and return its event."""
    least = entries[begin].event
    last = entries[begin + size - 1]
    place, below = 0, 1
    while below < size - 1:
        if below + 1 < size - 1:
            a, b = entries[begin + below], entries[begin + below + 1]
            if b.key < a.key or (b.key == a.key and b.tie < a.tie):
                below += 1
        other = entries[begin + below]
        if last.key < other.key or (last.key == other.key and last.tie < other.tie):
            break
        entries[begin + place] = other
        place, below = below, 2 * below + 1
    entries[begin + place] = last
    return least


@numba.njit(cache=True)
def submit(circuit, time, first, last, away, chain, kind):  # type: ignore[no-untyped-def]
    """Ask for ``needs[first:last]`` from *time* on; *away* goes first in queues."""
    e = circuit.numbers[EVENTS]
    circuit.numbers[EVENTS] += 1
    event = circuit.events[e]
    event.time, event.asked, event.first, event.last = time, time, first, last
    event.chain, event.kind, event.waits = chain, kind, 0
    if not _any_held(circuit, event):
        _admit(circuit, e)
        return
    event.waits = 1
    key = time if away else time + BEHIND
    for i in range(first, last):
        r = circuit.needs[i]
        _push(circuit.entries, circuit.begins[r], circuit.sizes[r], key, e, e)
        circuit.sizes[r] += 1


@numba.njit(cache=True)
def next_event(circuit):  # type: ignore[no-untyped-def]
    """Take the next event off the agenda; -1 if there is none."""
    agenda = circuit.held.size
    if circuit.sizes[agenda] == 0:
        return -1
    event = _pop(circuit.entries, circuit.begins[agenda], circuit.sizes[agenda])
    circuit.sizes[agenda] -= 1
    return event


@numba.njit(cache=True)
def release(circuit, e, end):  # type: ignore[no-untyped-def]
    """End event *e* at *end*: free what it held, and try the head of each queue, the earliest first."""
    event, needs, events = circuit.events[e], circuit.needs, circuit.events
    for i in range(event.first, event.last):
        r = needs[i]
        circuit.busy[r] += end - event.time
        circuit.held[r] = False
        circuit.free_at[r] = max(circuit.free_at[r], end)
    heads, found = circuit.heads, 0
    for i in range(event.first, event.last):
        head = _head(circuit, needs[i])
        if head < 0:
            continue
        place = found
        while place > 0 and _earlier(events, head, heads[place - 1]):
            heads[place] = heads[place - 1]
            place -= 1
        heads[place] = head
        found += 1
    for i in range(found):
        head = heads[i]
        if events[head].waits and not _any_held(circuit, events[head]):
            _admit(circuit, head)


@numba.njit(cache=True)
def _earlier(events, a, b):  # type: ignore[no-untyped-def]
    """Whether *a* asked before *b*."""
    return events[a].asked < events[b].asked or (events[a].asked == events[b].asked and a < b)


@numba.njit(cache=True)
def _head(circuit, r):  # type: ignore[no-untyped-def]
    """Return the head of a resource's queue, the entries of those admitted already taken off; -1 if it is empty."""
    begin = circuit.begins[r]
    while circuit.sizes[r] > 0:
        head = circuit.entries[begin].event
        if circuit.events[head].waits:
            return head
        _pop(circuit.entries, begin, circuit.sizes[r])
        circuit.sizes[r] -= 1
    return -1


@numba.njit(cache=True)
def _any_held(circuit, event):  # type: ignore[no-untyped-def]
    """Whether anything that *event* needs is held."""
    for i in range(event.first, event.last):  # noqa: SIM110 (compiled code knows no any())
        if circuit.held[circuit.needs[i]]:
            return True
    return False


@numba.njit(cache=True)
def _admit(circuit, e):  # type: ignore[no-untyped-def]
    """Hold what event *e* needs, from when it is free."""
    event = circuit.events[e]
    time = event.time
    for i in range(event.first, event.last):
        r = circuit.needs[i]
        circuit.held[r] = True
        time = max(time, circuit.free_at[r])
    event.time, event.waits = time, 0
    circuit.numbers[ADMISSIONS] += 1
    agenda = circuit.held.size
    _push(circuit.entries, circuit.begins[agenda], circuit.sizes[agenda], time, circuit.numbers[ADMISSIONS], e)
    circuit.sizes[agenda] += 1
