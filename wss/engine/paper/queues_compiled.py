"""`queues.Circuit` in compiled code: the same queueing rules, over arrays.

An event is an index. Its action is in the caller (`chains_compiled`), which takes the next event, acts, submits and
releases. All times are whole nanoseconds. A queue is a binary heap of entries (key, tie, event) in a range of one
array. There is one for each resource, ordered by (time, away tasks first; index), and after them the agenda of admitted
events, ordered by (time, admission). All functions take

    needs       resources, in ranges that events hold
    events      `EVENT` records, as many as are ever submitted
    entries     `ENTRY` records of the heaps, one heap after the other
    resources   `RESOURCE` records, the last one for the agenda
    numbers     how many events and admissions there have been, and after them scratch space for the heads of queues

as separate arguments: numba would count references to each array of a tuple at every use, which takes most of the time.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import compiled

EVENT = np.dtype(
    [
        ("time", np.int64),  # the earliest start; once admitted, the start
        ("asked", np.int64),  # the earliest start at submission: it fixes the position in a queue
        ("first", np.int32),  # the event holds needs[first:last]
        ("last", np.int32),
        ("chain", np.int32),
        ("kind", np.int32),
        ("waits", np.int64),
    ]
)
RESOURCE = np.dtype(
    [
        ("free_at", np.int64),
        ("busy", np.int64),  # how long it has been held
        ("begin", np.int64),  # its queue: entries[begin : begin + size]
        ("size", np.int64),
        ("held", np.int64),
    ]
)
ENTRY = np.dtype([("key", np.int64), ("tie", np.int32), ("event", np.int32)])
BEHIND = 1 << 60  # added to the key of an event without priority
EVENTS, ADMISSIONS, HEADS = 0, 1, 2


@compiled
def resources_of(most):  # type: ignore[no-untyped-def]
    """Return free resources and the agenda after them; *most* bounds the events that wait for each, [resources]."""
    resources = np.zeros(most.size + 1, RESOURCE)
    begin = 0
    for r in range(most.size):
        resources[r].begin = begin
        begin += most[r]
    resources[most.size].begin = begin
    return resources


@compiled
def _push(entries, resource, key, tie, event):  # type: ignore[no-untyped-def]
    """Add an entry to the heap of *resource*."""
    begin, place = resource.begin, resource.size
    resource.size = place + 1
    while place > 0:
        above = (place - 1) >> 1
        other = entries[begin + above]
        if other.key < key or (other.key == key and other.tie < tie):
            break
        entries[begin + place] = other
        place = above
    entry = entries[begin + place]
    entry.key = key
    entry.tie = tie
    entry.event = event


@compiled
def _pop(entries, resource):  # type: ignore[no-untyped-def]
    """Remove the least entry of the heap of *resource*, and return its event."""
    begin, size = resource.begin, resource.size - 1
    resource.size = size
    least = entries[begin].event
    last = entries[begin + size]
    place, below = 0, 1
    while below < size:
        if below + 1 < size:
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


@compiled
def new_event(events, numbers, chain, kind, time, held):  # type: ignore[no-untyped-def]
    """Add an event that needs ``needs[held[0]:held[1]]`` from *time* on, and return its index."""
    e = numbers[EVENTS]
    numbers[EVENTS] = e + 1
    event = events[e]
    event.time = time
    event.asked = time
    event.first, event.last = held
    event.chain = chain
    event.kind = kind
    return e


@compiled
def submit(needs, events, entries, resources, numbers, e, away):  # type: ignore[no-untyped-def]
    """Request what the new event *e* needs; an event that is *away* (1, else 0) goes first in queues."""
    event = events[e]
    event.waits = _any_held(needs, resources, event)
    if not event.waits:
        _admit(needs, events, entries, resources, numbers, e)
        return
    key = event.asked + (1 - away) * BEHIND
    for i in range(event.first, event.last):
        _push(entries, resources[needs[i]], key, e, e)


@compiled
def next_event(entries, resources):  # type: ignore[no-untyped-def]
    """Pop the next event of the agenda; return -1 if there is none."""
    agenda = resources[resources.size - 1]
    return _pop(entries, agenda) if agenda.size > 0 else -1


@compiled
def release(needs, events, entries, resources, numbers, e, end):  # type: ignore[no-untyped-def]
    """End event *e* at *end*: free its resources, and try the head of each of their queues, the earliest first."""
    event = events[e]
    for i in range(event.first, event.last):
        resource = resources[needs[i]]
        resource.busy += end - event.time
        resource.held = 0
        resource.free_at = max(resource.free_at, end)
    found = HEADS
    for i in range(event.first, event.last):
        head = _head(events, entries, resources[needs[i]])
        if head < 0:
            continue
        place = found
        while place > HEADS and _earlier(events, head, numbers[place - 1]):
            numbers[place] = numbers[place - 1]
            place -= 1
        numbers[place] = head
        found += 1
    for i in range(HEADS, found):
        head = numbers[i]
        if events[head].waits and not _any_held(needs, resources, events[head]):
            _admit(needs, events, entries, resources, numbers, head)


@compiled
def _earlier(events, a, b):  # type: ignore[no-untyped-def]
    """Whether *a* was submitted to start before *b*; ties: the lower index."""
    return events[a].asked < events[b].asked or (events[a].asked == events[b].asked and a < b)


@compiled
def _head(events, entries, resource):  # type: ignore[no-untyped-def]
    """Return the head of a queue after dropping entries of admitted events; -1 if it is empty."""
    while resource.size > 0:
        head = entries[resource.begin].event
        if events[head].waits:
            return head
        _pop(entries, resource)
    return -1


@compiled
def _any_held(needs, resources, event):  # type: ignore[no-untyped-def]
    """Whether any resource that *event* needs is held."""
    for i in range(event.first, event.last):  # noqa: SIM110 (numba has no any() of a generator)
        if resources[needs[i]].held:
            return True
    return False


@compiled
def _admit(needs, events, entries, resources, numbers, e):  # type: ignore[no-untyped-def]
    """Admit event *e*: hold its resources from when all are free."""
    event = events[e]
    time = event.time
    for i in range(event.first, event.last):
        resource = resources[needs[i]]
        resource.held = 1
        time = max(time, resource.free_at)
    event.time = time
    event.waits = 0
    numbers[ADMISSIONS] += 1
    _push(entries, resources[resources.size - 1], time, numbers[ADMISSIONS], e)
