"""One MoE layer run of ``physics: paper`` in compiled code: the twin of `chains.PaperLayerRun` for long runs.

The chains are the same, and so are the integer results (tested).
"""

from __future__ import annotations

import numpy as np

from wss.compiling import compiled
from wss.engine.paper.machine import (
    EMPTY,
    HIT,
    HOP_LATENCY,
    MISS,
    REQUEST_BYTES,
    SLICES,
    STORE,
    Counts,
    Machine,
    Memories,
)
from wss.engine.paper.queues_compiled import ENTRY, EVENT, HEADS, new_event, next_event, release, resources_of, submit
from wss.records import BoolArray, IntArray

# What an event does: the steps of a chain.
LOOK_UP, READ_LOCAL, STORE_LOCAL, COMPUTE = range(4)
REQUEST, HIT_AT_HOME, READ_AT_HOME, STORE_AT_HOME, DATA, WRITE, NONE = range(4, 11)
MOST_EVENTS = 7  # per chain: look-up, request, read, store, data, compute, write
TASK = np.dtype(
    [
        ("expert", np.int64),
        ("die", np.int64),
        ("home", np.int64),
        ("away", np.int64),  # 1 if the die is not the home
        ("wanted", np.int64),  # 1 if worth a copy
        ("set", np.int64),  # in the LLCs
        ("key", np.int64),  # of the first slice in the LLCs
        ("hops_out", np.int64),
        ("request", np.int64),  # index in needs of the first link of the request
        ("hops_back", np.int64),
        ("data", np.int64),  # index in needs of the first link of the data
        ("read_bytes", np.int64),  # of a slice with its activations
        ("read_ns", np.int64),
        ("compute_ns", np.int64),
        ("remote_slices", np.int64),  # a result
    ]
)
TOTALS = ("accesses", "llc_hits", "hops", "local_bytes", "remote_bytes", "written_bytes", "time")  # in `Counts`
TOTAL = np.dtype([(name, np.int64) for name in TOTALS])
DIE = np.dtype([(name, np.int64) for name in ("end", "compute", "copied")])


@compiled
def _holds(llc, task, part, die):  # type: ignore[no-untyped-def]
    """Whether the LLC of *die* holds a slice."""
    key = task.key + part
    return llc[die, task.set, 0] == key or llc[die, task.set, 1] == key


@compiled
def store(llc, task, part, die):  # type: ignore[no-untyped-def]
    """Store a slice in the LLC of *die*; evict the oldest of its set, which has two ways."""
    key, row = task.key + part, task.set
    if llc[die, row, 0] == EMPTY:
        llc[die, row, 0] = key
    elif llc[die, row, 1] == EMPTY:
        if llc[die, row, 0] != key:
            llc[die, row, 1] = key
    elif llc[die, row, 1] != key:
        llc[die, row, 0] = llc[die, row, 1]
        llc[die, row, 1] = key


@compiled
def _needs_of(kind, task, dies):  # type: ignore[no-untyped-def]
    """Return the range of needs that an event of *kind* holds, as its first index and its end."""
    if kind == REQUEST:
        return task.request, task.request + task.hops_out
    if kind == DATA:
        return task.data, task.data + task.hops_back
    if kind == COMPUTE:
        unit = task.die
    elif kind in (READ_LOCAL, WRITE):
        unit = dies + task.die
    elif kind == READ_AT_HOME:
        unit = dies + task.home
    elif kind in (LOOK_UP, STORE_LOCAL):
        unit = 2 * dies + task.die
    else:
        unit = 2 * dies + task.home
    return unit, unit + 1


@compiled
def _at_die(event, task, part, total, die, copies, llc):  # type: ignore[no-untyped-def]
    """Process an event at the computing die, up to the request; return its end and up to two following kinds."""
    kind, start = event.kind, event.time
    if kind == LOOK_UP:
        total.accesses += 1
        if _holds(llc, task, part, task.die):
            total.llc_hits += 1
            return start + HIT, COMPUTE, NONE
        is_here = task.away == 0 or copies[task.expert, part, task.die]
        return start + MISS, READ_LOCAL if is_here else REQUEST, NONE
    if kind == READ_LOCAL:
        total.local_bytes += task.read_bytes
        return start + task.read_ns, STORE_LOCAL, COMPUTE
    if kind == STORE_LOCAL:
        store(llc, task, part, task.die)
        return start + STORE, NONE, NONE
    die.compute += task.compute_ns
    return start + task.compute_ns, NONE, NONE


@compiled
def _remote(event, task, part, setting, total, die, copies, llc):  # type: ignore[no-untyped-def]
    """Process an event of a remote read, from the request on; return its end and up to two following kinds."""
    kind, start = event.kind, event.time
    slice_bytes, slice_ns, request_ns, data_ns = setting
    if kind == REQUEST:
        total.hops += task.hops_out
        task.remote_slices += 1
        hit = _holds(llc, task, part, task.home)
        total.llc_hits += hit
        end = start + HOP_LATENCY * task.hops_out + request_ns
        return end, HIT_AT_HOME if hit else READ_AT_HOME, NONE
    if kind == HIT_AT_HOME:
        return start + HIT, DATA, NONE
    if kind == READ_AT_HOME:
        total.remote_bytes += slice_bytes
        return start + slice_ns, STORE_AT_HOME, DATA
    if kind == STORE_AT_HOME:
        store(llc, task, part, task.home)
        return start + STORE, NONE, NONE
    if kind == DATA:
        end = start + HOP_LATENCY * task.hops_back + data_ns
        return end, COMPUTE, WRITE if task.wanted else NONE
    total.written_bytes += slice_bytes
    die.copied += not copies[task.expert, part, task.die]
    copies[task.expert, part, task.die] = True
    return start + slice_ns, NONE, NONE


@compiled
def _most_waiting(tasks, needs, dies, resources):  # type: ignore[no-untyped-def]
    """Return an upper bound on the events that wait for each resource, [resources]."""
    most = np.zeros(resources, np.int64)
    for k in range(tasks.size):
        task = tasks[k]
        for kind in range(NONE):
            if task.away or kind <= COMPUTE:
                first, last = _needs_of(kind, task, dies)
                for i in range(first, last):
                    most[needs[i]] += SLICES
    return most


@compiled
def _tasks_of(tasks, wanted, layer, home, sets, route, costs):  # type: ignore[no-untyped-def]
    """Return *tasks* [tasks, 3] as `TASK` records."""
    records = np.empty(len(tasks), TASK)
    for k in range(len(tasks)):
        task = records[k]
        expert, die = tasks[k, 0], tasks[k, 1]
        at = home[expert]
        task.expert = expert
        task.die = die
        task.home = at
        task.away = die != at
        task.wanted = wanted[k]
        task.set = expert % sets
        task.key = (layer * home.size + expert) * SLICES
        task.request = route[die, at]
        task.hops_out = route[die, at + 1] - route[die, at]
        task.data = route[at, die]
        task.hops_back = route[at, die + 1] - route[at, die]
        task.read_bytes = costs[0, k]
        task.read_ns = costs[1, k]
        task.compute_ns = costs[2, k]
        task.remote_slices = 0
    return records


@compiled
def _run(tasks, setting, totals, dies, copies, llc, needs, most):  # type: ignore[no-untyped-def]
    """Run all chains over *most* resources; count in *tasks*, *totals* and *dies*; return each resource's busy time.

    A record does not keep its array alive. So *totals* [1] is a whole array, which the caller keeps.
    """
    total = totals[0]
    chains = SLICES * tasks.size
    waiting = _most_waiting(tasks, needs, dies.size, most)
    resources = resources_of(waiting)
    # an admitted event holds at least one resource, so the agenda never exceeds the number of resources
    events, entries = np.empty(MOST_EVENTS * chains, EVENT), np.empty(waiting.sum() + most, ENTRY)
    numbers = np.zeros(HEADS + most, np.int64)
    for chain in range(chains):
        task = tasks[chain // SLICES]
        e = new_event(events, numbers, chain, LOOK_UP, 0, _needs_of(LOOK_UP, task, dies.size))
        submit(needs, events, entries, resources, numbers, e, task.away)
    while True:
        e = next_event(entries, resources)
        if e < 0:
            return resources["busy"][:most].copy()
        event = events[e]
        task, part = tasks[event.chain // SLICES], event.chain % SLICES
        die = dies[task.die]
        if event.kind <= COMPUTE:
            end, then, also = _at_die(event, task, part, total, die, copies, llc)
        else:
            end, then, also = _remote(event, task, part, setting, total, die, copies, llc)
        for kind in (then, also):
            if kind != NONE:
                new = new_event(events, numbers, event.chain, kind, end, _needs_of(kind, task, dies.size))
                submit(needs, events, entries, resources, numbers, new, task.away)
        die.end = max(die.end, end)
        total.time = max(total.time, end)
        release(needs, events, entries, resources, numbers, e, end)


@compiled
def run_chains(layer, tasks, wanted, costs, setting, machine, memories):  # type: ignore[no-untyped-def]
    """Run all chains of *tasks* [tasks, 3] of *layer*; *wanted*: worth a copy, [tasks]; *costs* as `Machine.costs`.

    *setting* is bytes of a slice, ns of its DRAM access, ns of a request and of data without hops. *machine* is homes,
    needs and routes as in `Machine`, and the number of resources; *memories* is copies, their numbers and LLCs as in
    `Memories`, modified. Return slices read remotely, [tasks]; end and computing time of each die, [dies]; busy time of
    each resource, [resources]; the totals in the order of `TOTALS`.
    """
    home, needs, route, most = machine
    copies, num_copies, llc = memories
    records = _tasks_of(tasks, wanted, layer, home, llc.shape[1], route, costs)
    totals, dies = np.zeros(1, TOTAL), np.zeros(num_copies.size, DIE)
    busy = _run(records, setting, totals, dies, copies[layer], llc, needs, most)
    num_copies += dies["copied"]
    return records["remote_slices"].copy(), dies["end"].copy(), dies["compute"].copy(), busy, totals.view(np.int64)


def compiled_paper_layer(
    machine: Machine, memories: Memories, layer: int, tasks: IntArray, wanted: BoolArray
) -> Counts:
    """Run *tasks* (expert, die, tokens), [tasks, 3], in that order; *wanted*: worth a copy, bool [tasks]."""
    costs = machine.costs(tasks[:, 2])
    nbytes = machine.slice_bytes
    setting = (nbytes, machine.slice_ns, machine.link_ns(0, REQUEST_BYTES), machine.link_ns(0, nbytes))
    places = (machine.homes, *machine.needs, machine.num_resources)
    outlives = (memories.copies, memories.num_copies, memories.llc)
    found = run_chains(layer, tasks, wanted, costs, setting, places, outlives)
    remote_slices, die_end, die_compute, busy, totals = found
    return Counts(
        remote_slices=remote_slices,
        die_end=die_end,
        die_compute=die_compute,
        edge_busy=busy[SLICES * machine.num_dies :],
        **dict(zip(TOTALS, totals.tolist(), strict=True)),
    )
