"""One MoE layer run as in the paper's own simulator (``physics: paper``).

A die has one compute unit, one DRAM and one cache port. An edge of the mesh is one resource for both directions. An
expert is three slices (its matrices), each read by its own chain of events:

    local    port (look-up) -> DRAM -> {port (store), compute}
    remote   port (look-up) -> request on all links -> home's DRAM (or home's port on a hit there)
             -> {home's port (store), data on all links -> {compute, DRAM write if a copy is kept}}

Tasks on another die than the expert's home go first in every queue. This is the engine to read (`engine: simpy`): each
step of a chain is a method. `wss.engine.paper.chains_compiled` runs the same chains in compiled code, with the same
integer results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from wss.engine.paper.machine import HIT, MISS, REQUEST_BYTES, SLICES, STORE, Counts, Machine, Memories
from wss.engine.paper.queues import Circuit
from wss.records import BoolArray, IntArray

COMPUTE, DRAM, PORT = range(3)  # the units of a die


class PaperLayerRun:
    """One layer run: its chains over a `Circuit`."""

    def __init__(self, machine: Machine, memories: Memories, layer: int, tasks: IntArray, wanted: BoolArray) -> None:
        """Set up *tasks* (expert, die, tokens), [tasks, 3], run in that order; *wanted*: worth a copy, bool [tasks]."""
        self._machine, self._memories, self._layer = machine, memories, layer
        self._tasks, self._wanted = tasks.tolist(), wanted.tolist()
        costs: list[list[int]] = machine.costs(tasks[:, 2]).tolist()
        self._read_bytes, self._read_ns, self._compute_ns = costs
        self._circuit = Circuit(machine.num_resources)
        self.counts = Counts(
            remote_slices=np.zeros(len(tasks), np.int64),
            die_end=np.zeros(machine.num_dies, np.int64),
            die_compute=np.zeros(machine.num_dies, np.int64),
            edge_busy=np.zeros(machine.num_edges, np.int64),
        )

    def run(self) -> Counts:
        """Run all chains, and return the counts."""
        for k, (_, die, _) in enumerate(self._tasks):
            for part in range(SLICES):
                self._submit(0, (self._unit(PORT, die),), k, part, self._look_up)
        self.counts.time = self._circuit.run()
        self.counts.edge_busy[:] = self._circuit.busy[SLICES * self._machine.num_dies :]
        return self.counts

    def _unit(self, kind: int, die: int) -> int:
        return kind * self._machine.num_dies + die

    def _submit(self, time: int, resources: Sequence[int], k: int, part: int, act: Callable[..., int]) -> None:
        expert, die, _ = self._tasks[k]
        priority = int(die != self._machine.home[expert])

        def acted(start: int) -> int:
            end: int = act(start, k, part)
            self.counts.die_end[die] = max(self.counts.die_end[die], end)
            return end

        self._circuit.submit(time, resources, priority, acted)

    def _look_up(self, start: int, k: int, part: int) -> int:
        expert, die, _ = self._tasks[k]
        home = self._machine.home[expert]
        self.counts.accesses += 1
        if self._memories.holds(self._layer, expert, part, die):
            self.counts.llc_hits += 1
            self._submit(start + HIT, (self._unit(COMPUTE, die),), k, part, self._compute)
            return start + HIT
        end = start + MISS
        if die == home or self._memories.copies[self._layer, expert, part, die]:
            self._submit(end, (self._unit(DRAM, die),), k, part, self._read_local)
        else:
            self._submit(end, self._machine.routes[die][home], k, part, self._request)
        return end

    def _read_local(self, start: int, k: int, part: int) -> int:
        die = self._tasks[k][1]
        end = start + self._read_ns[k]
        self.counts.local_bytes += self._read_bytes[k]
        self._submit(end, (self._unit(PORT, die),), k, part, self._store_local)
        self._submit(end, (self._unit(COMPUTE, die),), k, part, self._compute)
        return end

    def _request(self, start: int, k: int, part: int) -> int:
        expert, die, _ = self._tasks[k]
        home = self._machine.home[expert]
        hops = len(self._machine.routes[die][home])
        self.counts.hops += hops
        self.counts.remote_slices[k] += 1
        end = start + self._machine.link_ns(hops, REQUEST_BYTES)
        if self._memories.holds(self._layer, expert, part, home):
            self.counts.llc_hits += 1
            self._submit(end, (self._unit(PORT, home),), k, part, self._hit_at_home)
        else:
            self._submit(end, (self._unit(DRAM, home),), k, part, self._read_at_home)
        return end

    def _hit_at_home(self, start: int, k: int, part: int) -> int:
        self._send(start + HIT, k, part)
        return start + HIT

    def _read_at_home(self, start: int, k: int, part: int) -> int:
        home = self._machine.home[self._tasks[k][0]]
        end = start + self._machine.slice_ns
        self.counts.remote_bytes += self._machine.slice_bytes
        self._submit(end, (self._unit(PORT, home),), k, part, self._store_at_home)
        self._send(end, k, part)
        return end

    def _send(self, time: int, k: int, part: int) -> None:
        expert, die, _ = self._tasks[k]
        self._submit(time, self._machine.routes[self._machine.home[expert]][die], k, part, self._data)

    def _data(self, start: int, k: int, part: int) -> int:
        expert, die, _ = self._tasks[k]
        hops = len(self._machine.routes[self._machine.home[expert]][die])
        end = start + self._machine.link_ns(hops, self._machine.slice_bytes)
        self._submit(end, (self._unit(COMPUTE, die),), k, part, self._compute)
        if self._wanted[k]:
            self._submit(end, (self._unit(DRAM, die),), k, part, self._write_copy)
        return end

    def _write_copy(self, start: int, k: int, part: int) -> int:
        expert, die, _ = self._tasks[k]
        self.counts.written_bytes += self._machine.slice_bytes
        self._memories.copy(self._layer, expert, part, die)
        return start + self._machine.slice_ns

    def _store_local(self, start: int, k: int, part: int) -> int:
        return self._store(start, k, part, self._tasks[k][1])

    def _store_at_home(self, start: int, k: int, part: int) -> int:
        return self._store(start, k, part, self._machine.home[self._tasks[k][0]])

    def _store(self, start: int, k: int, part: int, die: int) -> int:
        self._memories.store(self._layer, self._tasks[k][0], part, die)
        return start + STORE

    def _compute(self, start: int, k: int, part: int) -> int:
        self.counts.die_compute[self._tasks[k][1]] += self._compute_ns[k]
        return start + self._compute_ns[k]
