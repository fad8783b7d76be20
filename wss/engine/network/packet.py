"""The packet network in a run: every read is cut into chunks that queue first come, first served at each resource.

A chunk passes these stages. For a remote read: a request packet of request/granule of its bytes over each link to the
source. Then LLC miss and HBM latency. The source's HBM, busy for bytes / bandwidth. Each link to the die, busy for
bytes / bandwidth; the chunk arrives a hop latency later. If the weights are kept: the die's own HBM. At most *window*
chunks of a read are in flight.

The queues are in compiled code (`advance`). It runs up to the next event of the SimPy clock, or to the end of a read.
"""

from __future__ import annotations

from typing import cast

import numba
import numpy as np
import simpy
from simpy.events import EventPriority

from wss.engine.network.fluid import LAST
from wss.engine.network.resources import ReadStages
from wss.hardware.wafer import Wafer
from wss.records import FloatArray, IntArray, Traffic

BEHIND_TURNS = EventPriority(4)  # for instants at which dies still have to advance


@numba.njit(cache=True, nogil=True)
def _before(keys, serials, i, j):  # type: ignore[no-untyped-def]
    return keys[i] < keys[j] or (keys[i] == keys[j] and serials[i] < serials[j])


@numba.njit(cache=True, nogil=True)
def _swap(keys, serials, load, i, j):  # type: ignore[no-untyped-def]
    keys[i], keys[j] = keys[j], keys[i]
    serials[i], serials[j] = serials[j], serials[i]
    for k in range(load.shape[1]):
        load[i, k], load[j, k] = load[j, k], load[i, k]


@numba.njit(cache=True, nogil=True)
def push(size, keys, serials, load, time, serial, read, chunk, stage):  # type: ignore[no-untyped-def]
    """Push an event onto the binary heap, ordered by (time, serial); *size* [1] is the number of events it holds."""
    i = size[0]
    size[0] += 1
    keys[i], serials[i] = time, serial
    load[i, 0], load[i, 1], load[i, 2] = read, chunk, stage
    while i > 0 and _before(keys, serials, i, (i - 1) // 2):
        _swap(keys, serials, load, i, (i - 1) // 2)
        i = (i - 1) // 2


@numba.njit(cache=True, nogil=True)
def pop(size, keys, serials, load):  # type: ignore[no-untyped-def]
    """Move the earliest event of the heap to the index after its end, and return that index."""
    size[0] -= 1
    last = size[0]
    _swap(keys, serials, load, 0, last)
    i = 0
    while True:
        least = i
        for child in (2 * i + 1, 2 * i + 2):
            if child < last and _before(keys, serials, child, least):
                least = child
        if least == i:
            return last
        _swap(keys, serials, load, i, least)
        i = least


@numba.njit(cache=True, nogil=True)
def advance(limit, heap, reads, stages, servers, chunk_bytes, window):  # type: ignore[no-untyped-def]
    """Serve chunks up to the time *limit*, or to the end of a read, whichever is first.

    Parameters
    ----------
    limit
        s; events at the limit itself are served too.
    heap
        size [1], times, serials [capacity] and (read, chunk, stage) [capacity, 3] of the chunks in flight, and the
        last serial used [1].
    reads
        Row of the stages, bytes, chunks, chunks sent, chunks delivered of each read, [reads] each.
    stages
        As `ReadStages.tables`.
    servers
        B/s, free-at time and busy seconds of each resource [resources], and bytes of each account [accounts].
    chunk_bytes, window
        Bytes of a chunk; chunks in flight per read.

    Returns
    -------
    tuple
        The read that ended, or -1, and the time.
    """
    size, keys, serials, load, serial = heap
    row, nbytes, chunks, sent, delivered = reads
    resources, shares, accounts, after, lengths, first = stages
    capacity, free, busy, moved = servers
    while size[0] > 0 and keys[0] <= limit:
        event = pop(size, keys, serials, load)
        now = keys[event]
        read, chunk, stage = load[event, 0], load[event, 1], load[event, 2]
        r = row[read]
        if stage == lengths[r]:
            delivered[read] += 1
            if sent[read] < chunks[read]:
                serial[0] += 1
                push(size, keys, serials, load, now + first[r], serial[0], read, sent[read], 0)
                sent[read] += 1
            if delivered[read] == chunks[read]:
                return read, now
            continue
        amount = min(chunk_bytes, nbytes[read] - chunk * chunk_bytes) * shares[r, stage]
        server = resources[r, stage]
        takes = amount / capacity[server]
        free[server] = max(now, free[server]) + takes
        busy[server] += takes
        moved[accounts[r, stage]] += amount
        serial[0] += 1
        push(size, keys, serials, load, free[server] + after[r, stage], serial[0], read, chunk, stage + 1)
    return -1, limit


class PacketModel:
    """The packet network of a wafer, before it runs."""

    def __init__(self, wafer: Wafer, chunk: float, window: int) -> None:
        self.stages = ReadStages(wafer)
        self.chunk, self.window = chunk, window

    def start(self, env: simpy.Environment) -> Packets:
        """Return a running network on the clock *env*."""
        return Packets(env, self)


class Packets:
    """The running packet network. Router buffers and their credits are not modelled."""

    def __init__(self, env: simpy.Environment, model: PacketModel) -> None:
        self._env, self._model = env, model
        self._done: list[simpy.Event] = []
        resources = len(model.stages.capacity)
        self._servers = (model.stages.capacity, np.zeros(resources), np.zeros(resources), np.zeros(2 * resources))
        self._row, self._chunks, self._sent, self._delivered = (np.zeros(64, np.int64) for _ in range(4))
        self._bytes: FloatArray = np.zeros(64)
        self._size, self._serial = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._times: FloatArray = np.zeros(256)
        self._serials: IntArray = np.zeros(256, np.int64)
        self._load: IntArray = np.zeros((256, 3), np.int64)
        self._pumping = False

    def read(self, source: int, die: int, nbytes: float, copy: bool, hit: bool = False) -> simpy.Event:
        """Transfer *nbytes* from HBM or LLC of *source* to *die*; the event's value is when the last byte arrives."""
        read = len(self._done)
        if read == len(self._bytes):
            self._bytes = _doubled(self._bytes)
            self._row, self._chunks, self._sent, self._delivered = map(
                _doubled, (self._row, self._chunks, self._sent, self._delivered)
            )
        self._done.append(self._env.event())
        row = self._model.stages.row(source, die, copy, hit)
        chunks = max(1, int(np.ceil(nbytes / self._model.chunk)))
        self._row[read], self._bytes[read], self._chunks[read] = row, nbytes, chunks
        self._sent[read] = min(self._model.window, chunks)
        while self._size[0] + self._sent[read] + 1 > len(self._times):
            self._times, self._serials, self._load = map(_doubled, (self._times, self._serials, self._load))
        starts = self._env.now + self._model.stages.tables[5][row]
        for chunk in range(self._sent[read]):
            self._serial[0] += 1
            push(self._size, self._times, self._serials, self._load, starts, self._serial[0], read, chunk, 0)
        self._pump_at(self._env.now)
        return self._done[read]

    def carried(self) -> Traffic:
        """Return the traffic so far."""
        return self._model.stages.carried(self._servers[3], self._servers[2])

    def _pump_at(self, time: float, priority: EventPriority = LAST) -> None:
        if not self._pumping:
            self._pumping = True
            event = self._env.event()
            event._ok, event._value = True, None
            event.callbacks.append(self._pump)
            self._env.schedule(event, priority=priority, delay=time - self._env.now)

    def _pump(self, _: simpy.Event) -> None:
        """Advance the packet queues up to the next SimPy event."""
        self._pumping = False
        limit = self._env.peek()
        read, time = advance(
            limit,
            (self._size, self._times, self._serials, self._load, self._serial),
            (self._row, self._bytes, self._chunks, self._sent, self._delivered),
            self._model.stages.tables,
            self._servers,
            self._model.chunk,
            self._model.window,
        )
        if read >= 0:
            self._pumping = True  # until the read's event has been triggered
            told = self._env.timeout(max(0.0, time - self._env.now), (read, time))
            told.callbacks.append(self._tell)
        elif self._size[0] > 0:
            self._pump_at(limit, LAST if limit > self._env.now else BEHIND_TURNS)

    def _tell(self, told: simpy.Event) -> None:
        read, time = cast("tuple[int, float]", told.value)
        self._done[read].succeed(time)
        self._pumping = False
        self._pump_at(self._env.now)


def _doubled(array: np.ndarray) -> np.ndarray:
    """Return *array* extended by as many zeros."""
    return np.concatenate([array, np.zeros_like(array)])
