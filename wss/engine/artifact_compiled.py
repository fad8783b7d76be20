"""One MoE kernel of ``physics: paper_artifact`` in compiled code: the twin of `artifact.ArtifactKernel` for long runs.

The chains are those that stand there, and the integers that come out are the same (tests hold it to that).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from wss.engine.artifact_circuit import circuit_of, next_event, release, submit
from wss.engine.artifact_machine import (
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
    link_ns,
)
from wss.records import BoolArray, IntArray

# What an event does: the steps of a chain.
LOOK_UP, READ_LOCAL, STORE_LOCAL, COMPUTE, REQUEST, HIT_AT_HOME, READ_AT_HOME, STORE_AT_HOME, DATA, WRITE = range(10)
MOST_EVENTS = 7  # of a chain: look-up, request, read, store, data, compute, write
# Places in the totals.
ACCESSES, HITS, HOPS, LOCAL, REMOTE, WRITTEN, TIME = range(7)


class Tasks(NamedTuple):
    """The tasks, [tasks]; *read_bytes*, *read_ns* and *compute_ns* of one slice."""

    expert: IntArray
    die: IntArray
    home: IntArray
    wanted: BoolArray
    read_bytes: IntArray
    read_ns: IntArray
    compute_ns: IntArray


class Setting(NamedTuple):
    """What is the same for all tasks: ns of a DRAM access, and of transfers without hops; where routes begin."""

    layer: int
    slice_bytes: int
    slice_ns: int
    request_ns: int
    data_ns: int
    route: IntArray


class State(NamedTuple):
    """What chains change: as in `Memories`, and as in `Counts`, the single figures by place in *totals*."""

    copies: BoolArray
    num_copies: IntArray
    llc: IntArray
    remote_slices: IntArray
    die_end: IntArray
    die_compute: IntArray
    totals: IntArray


@numba.njit(cache=True)
def _key(state, setting, expert, part):  # type: ignore[no-untyped-def]
    """Return a slice as a whole number."""
    return (setting.layer * state.copies.shape[1] + expert) * SLICES + part


@numba.njit(cache=True)
def _holds(state, setting, expert, part, die):  # type: ignore[no-untyped-def]
    """Whether the LLC of *die* holds a slice."""
    key = _key(state, setting, expert, part)
    row = expert % state.llc.shape[1]
    return state.llc[die, row, 0] == key or state.llc[die, row, 1] == key


@numba.njit(cache=True)
def _store(state, setting, expert, part, die):  # type: ignore[no-untyped-def]
    """Put a slice in the LLC of *die*, and the oldest of its set, which has two ways, out."""
    key = _key(state, setting, expert, part)
    row = expert % state.llc.shape[1]
    if state.llc[die, row, 0] == EMPTY:
        state.llc[die, row, 0] = key
    elif state.llc[die, row, 1] == EMPTY:
        if state.llc[die, row, 0] != key:
            state.llc[die, row, 1] = key
    elif state.llc[die, row, 1] != key:
        state.llc[die, row, 0], state.llc[die, row, 1] = state.llc[die, row, 1], key


@numba.njit(cache=True)
def _ask(circuit, time, resource, away, chain, kind):  # type: ignore[no-untyped-def]
    """Submit an event that holds one resource."""
    submit(circuit, time, resource, resource + 1, away, chain, kind)


@numba.njit(cache=True)
def _travel(circuit, setting, time, source, target, chain, kind):  # type: ignore[no-untyped-def]
    """Submit an event that holds the route from die *source* to die *target*; only what is away travels."""
    submit(circuit, time, setting.route[source, target], setting.route[source, target + 1], True, chain, kind)


@numba.njit(cache=True)
def _begin(circuit, setting, tasks, state, start, chain, kind):  # type: ignore[no-untyped-def]
    """Act as an event at a die that computes, up to the request: return its end."""
    k, part, dies = chain // SLICES, chain % SLICES, state.die_end.size
    expert, die, home = tasks.expert[k], tasks.die[k], tasks.home[k]
    away = die != home
    if kind == LOOK_UP:
        state.totals[ACCESSES] += 1
        if _holds(state, setting, expert, part, die):
            state.totals[HITS] += 1
            _ask(circuit, start + HIT, die, away, chain, COMPUTE)
            return start + HIT
        end = start + MISS
        if not away or state.copies[setting.layer, expert, part, die]:
            _ask(circuit, end, dies + die, away, chain, READ_LOCAL)
        else:
            _travel(circuit, setting, end, die, home, chain, REQUEST)
        return end
    if kind == READ_LOCAL:
        end = start + tasks.read_ns[k]
        state.totals[LOCAL] += tasks.read_bytes[k]
        _ask(circuit, end, 2 * dies + die, away, chain, STORE_LOCAL)
        _ask(circuit, end, die, away, chain, COMPUTE)
        return end
    if kind == STORE_LOCAL:
        _store(state, setting, expert, part, die)
        return start + STORE
    state.die_compute[die] += tasks.compute_ns[k]
    return start + tasks.compute_ns[k]


@numba.njit(cache=True)
def _go_on(circuit, setting, tasks, state, start, chain, kind):  # type: ignore[no-untyped-def]
    """Act as an event of a remote read, from the request on: return its end."""
    k, part, dies = chain // SLICES, chain % SLICES, state.die_end.size
    expert, die, home = tasks.expert[k], tasks.die[k], tasks.home[k]
    if kind == REQUEST:
        hops = setting.route[die, home + 1] - setting.route[die, home]
        state.totals[HOPS] += hops
        state.remote_slices[k] += 1
        end = start + HOP_LATENCY * hops + setting.request_ns
        if _holds(state, setting, expert, part, home):
            state.totals[HITS] += 1
            _ask(circuit, end, 2 * dies + home, True, chain, HIT_AT_HOME)
        else:
            _ask(circuit, end, dies + home, True, chain, READ_AT_HOME)
    elif kind == HIT_AT_HOME:
        end = start + HIT
        _travel(circuit, setting, end, home, die, chain, DATA)
    elif kind == READ_AT_HOME:
        end = start + setting.slice_ns
        state.totals[REMOTE] += setting.slice_bytes
        _ask(circuit, end, 2 * dies + home, True, chain, STORE_AT_HOME)
        _travel(circuit, setting, end, home, die, chain, DATA)
    elif kind == STORE_AT_HOME:
        _store(state, setting, expert, part, home)
        end = start + STORE
    elif kind == DATA:
        hops = setting.route[home, die + 1] - setting.route[home, die]
        end = start + HOP_LATENCY * hops + setting.data_ns
        _ask(circuit, end, die, True, chain, COMPUTE)
        if tasks.wanted[k]:
            _ask(circuit, end, dies + die, True, chain, WRITE)
    else:
        end = start + setting.slice_ns
        state.totals[WRITTEN] += setting.slice_bytes
        state.num_copies[die] += not state.copies[setting.layer, expert, part, die]
        state.copies[setting.layer, expert, part, die] = True
    return end


@numba.njit(cache=True)
def _most_waiting(setting, tasks, needs, resources, dies):  # type: ignore[no-untyped-def]
    """Return how many events may ever need each resource, at most, [resources]."""
    most = np.zeros(resources, np.int64)
    for k in range(tasks.die.size):
        die, home = tasks.die[k], tasks.home[k]
        most[die] += SLICES
        most[dies + die] += SLICES
        most[2 * dies + die] += 2 * SLICES
        if die != home:
            most[dies + home] += SLICES
            most[2 * dies + home] += SLICES
            for source, target in ((die, home), (home, die)):
                for i in range(setting.route[source, target], setting.route[source, target + 1]):
                    most[needs[i]] += SLICES
    return most


@numba.njit(cache=True)
def run_chains(setting, tasks, state, needs, resources):  # type: ignore[no-untyped-def]
    """Run all chains, and return how long each resource was held, [resources]; *state* is changed."""
    dies = state.die_end.size
    chains = SLICES * tasks.die.size
    circuit = circuit_of(needs, MOST_EVENTS * chains, _most_waiting(setting, tasks, needs, resources, dies))
    for chain in range(chains):
        die = tasks.die[chain // SLICES]
        _ask(circuit, 0, 2 * dies + die, die != tasks.home[chain // SLICES], chain, LOOK_UP)
    while True:
        e = next_event(circuit)
        if e < 0:
            return circuit.busy
        event = circuit.events[e]
        chain, kind = event.chain, event.kind
        if kind <= COMPUTE:
            end = _begin(circuit, setting, tasks, state, event.time, chain, kind)
        else:
            end = _go_on(circuit, setting, tasks, state, event.time, chain, kind)
        die = tasks.die[chain // SLICES]
        state.die_end[die] = max(state.die_end[die], end)
        state.totals[TIME] = max(state.totals[TIME], end)
        release(circuit, e, end)


def compiled_artifact(machine: Machine, memories: Memories, layer: int, tasks: IntArray, wanted: BoolArray) -> Counts:
    """Run *tasks* (expert, die, tokens), [tasks, 3], in that order; *wanted*: worth a copy, [tasks]."""
    expert, die, tokens = np.ascontiguousarray(tasks.T)
    nbytes = machine.read_bytes(tokens)
    needs, route = machine.needs
    setting = Setting(
        layer=layer,
        slice_bytes=machine.slice_bytes,
        slice_ns=int(machine.dram_ns(machine.slice_bytes)),
        request_ns=link_ns(0, REQUEST_BYTES),
        data_ns=link_ns(0, machine.slice_bytes),
        route=route,
    )
    columns = Tasks(
        expert, die, machine.homes[expert], wanted, nbytes, machine.dram_ns(nbytes), machine.compute_ns(tokens)
    )
    dies = machine.num_dies
    state = State(
        copies=memories.copies,
        num_copies=memories.num_copies,
        llc=memories.llc,
        remote_slices=np.zeros(len(tasks), np.int64),
        die_end=np.zeros(dies, np.int64),
        die_compute=np.zeros(dies, np.int64),
        totals=np.zeros(TIME + 1, np.int64),
    )
    busy = run_chains(setting, columns, state, needs, machine.num_resources)
    accesses, hits, hops, local, remote, written, time = state.totals.tolist()
    return Counts(
        remote_slices=state.remote_slices,
        die_end=state.die_end,
        die_compute=state.die_compute,
        edge_busy=busy[SLICES * dies :],
        time=time,
        accesses=accesses,
        llc_hits=hits,
        hops=hops,
        local_bytes=local,
        remote_bytes=remote,
        written_bytes=written,
    )
