"""One MoE kernel as the paper's own simulator runs it (``physics: paper_artifact``).

A die has one compute unit, one DRAM and one cache port; an edge of the mesh is one resource for both directions. An
expert is three slices (its matrices), each read by a chain of its own:

    local    port (look-up) -> DRAM -> {port (store), compute}
    remote   port (look-up) -> request on all links -> home's DRAM (or home's port on a hit there)
             -> {home's port (store), data on all links -> {compute, DRAM write if the copy is wanted}}

Tasks away from the expert's home go first in every queue. The numbers are those of the published artifact, whatever the
configured wafer's are; only the mesh is taken from it. Times are whole nanoseconds, rounded up as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wss.engine.circuit import Circuit

LLC_BYTES = 64 * 2**20
HIT, MISS, STORE = 100, 110, 30
DRAM_LATENCY, DRAM_BYTES_PER_NS = 300, 3350.0
HOP_LATENCY, LINK_BYTES_PER_NS, LINK_SHARE = 200, 1741.0, 0.9
REQUEST_BYTES = 16
FLOP_PER_NS = 1e6
SLICES = 3
WAYS = 2

# Share of peak by tokens: up to each bound, the last one beyond them all.
Shares = tuple[tuple[float, float], ...]
DEEPSEEK: Shares = ((128, 0.5), (256, 0.53), (512, 0.68), (1024, 0.7), (math.inf, 0.69))
QWEN: Shares = ((128, 0.7), (256, 0.6), (1024, 0.7), (2048, 0.69), (4096, 0.71), (math.inf, 0.70))
LLAMA4: Shares = ((256, 0.65), (512, 0.72), (1024, 0.7), (math.inf, 0.65))

Copy = tuple[int, int, int, int]  # layer, expert, slice, die


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The wafer and the model as the artifact sees them.

    Attributes
    ----------
    hidden, intermediate
        Sizes of an expert's matrices.
    home
        The die of each expert, [experts].
    routes
        Resources of the route from die to die, [dies][dies]: edges, numbered from 3 · dies.
    num_edges
        How many edges there are.
    compute_shares, dram_share
        Achieved shares of peak FLOP/s, by tokens, and of DRAM bandwidth.
    """

    hidden: int
    intermediate: int
    home: Sequence[int]
    routes: Sequence[Sequence[Sequence[int]]]
    num_edges: int
    compute_shares: Shares
    dram_share: float

    @property
    def num_dies(self) -> int:
        """How many dies there are."""
        return len(self.routes)

    @property
    def slice_bytes(self) -> int:
        """Bytes of one matrix in FP16."""
        return self.hidden * self.intermediate * 2

    @property
    def llc_sets(self) -> int:
        """Sets of the two-way LLC that holds slices."""
        return max(1, LLC_BYTES // (WAYS * self.slice_bytes))

    def dram_ns(self, nbytes: int) -> int:
        """Time of a DRAM access."""
        return DRAM_LATENCY + math.ceil(nbytes / (DRAM_BYTES_PER_NS * self.dram_share))

    def compute_ns(self, tokens: int) -> int:
        """Time to compute *tokens* of one slice."""
        share = next(share for bound, share in self.compute_shares if tokens <= bound)
        return math.ceil(2 * self.hidden * self.intermediate * tokens / (FLOP_PER_NS * share))


def link_ns(hops: int, nbytes: int) -> int:
    """Time of a transfer over *hops* links, all held."""
    return HOP_LATENCY * hops + math.ceil(nbytes / (LINK_BYTES_PER_NS * LINK_SHARE))


class Llc:
    """One die's cache of slices: two ways, least recently stored out; looking up does not touch the order."""

    def __init__(self, num_sets: int) -> None:
        self._sets: list[list[tuple[int, int, int]]] = [[] for _ in range(num_sets)]

    def holds(self, key: tuple[int, int, int]) -> bool:
        """Whether the slice *key* (layer, expert, slice) is there."""
        return key in self._sets[key[1] % len(self._sets)]

    def store(self, key: tuple[int, int, int]) -> None:
        """Put a slice in, and the oldest of its set out."""
        ways = self._sets[key[1] % len(self._sets)]
        if key in ways:
            ways.remove(key)
        ways.append(key)
        del ways[:-WAYS]


@dataclass(eq=False, kw_only=True)
class Counts:
    """What one kernel did; per task [tasks], per die [dies] and per edge [edges] where lists. Times in ns."""

    remote_slices: list[int]
    die_end: list[int]
    die_compute: list[int]
    time: int = 0
    accesses: int = 0
    llc_hits: int = 0
    hops: int = 0
    local_bytes: int = 0
    remote_bytes: int = 0
    written_bytes: int = 0
    edge_busy: list[int] = field(default_factory=list)


class ArtifactKernel:
    """One kernel: its chains over a `Circuit`."""

    def __init__(
        self,
        machine: Machine,
        llcs: Sequence[Llc],
        copies: set[Copy],
        layer: int,
        tasks: Sequence[tuple[int, int, int]],
        wanted: set[tuple[int, int]],
    ) -> None:
        """Set up *tasks* (expert, die, tokens), run in that order; *wanted* holds (die, expert) worth a copy."""
        self._machine, self._llcs, self._copies, self._layer = machine, llcs, copies, layer
        self._tasks, self._wanted = tasks, wanted
        dies = machine.num_dies
        self._circuit = Circuit(SLICES * dies + machine.num_edges)
        self.counts = Counts(remote_slices=[0] * len(tasks), die_end=[0] * dies, die_compute=[0] * dies)

    def run(self) -> Counts:
        """Run all chains, and return what happened."""
        for k, (_, die, _) in enumerate(self._tasks):
            for part in range(SLICES):
                self._submit(0, (self._port(die),), k, part, self._look_up)
        self.counts.time = self._circuit.run()
        self.counts.edge_busy = self._circuit.busy[SLICES * self._machine.num_dies :]
        return self.counts

    def _compute_unit(self, die: int) -> int:
        return die

    def _dram(self, die: int) -> int:
        return self._machine.num_dies + die

    def _port(self, die: int) -> int:
        return 2 * self._machine.num_dies + die

    def _submit(self, time: int, resources: Sequence[int], k: int, part: int, act: Callable[..., int]) -> None:
        expert, die, _ = self._tasks[k]
        priority = int(die != self._machine.home[expert])

        def acted(start: int) -> int:
            end = act(start, k, part)
            self.counts.die_end[die] = max(self.counts.die_end[die], end)
            return end

        self._circuit.submit(time, resources, priority, acted)

    def _look_up(self, start: int, k: int, part: int) -> int:
        expert, die, _ = self._tasks[k]
        home = self._machine.home[expert]
        self.counts.accesses += 1
        if self._llcs[die].holds((self._layer, expert, part)):
            self.counts.llc_hits += 1
            self._submit(start + HIT, (self._compute_unit(die),), k, part, self._compute)
            return start + HIT
        end = start + MISS
        if die == home or (self._layer, expert, part, die) in self._copies:
            self._submit(end, (self._dram(die),), k, part, self._read_local)
        else:
            self._submit(end, self._machine.routes[die][home], k, part, self._request)
        return end

    def _read_local(self, start: int, k: int, part: int) -> int:
        _, die, tokens = self._tasks[k]
        activations = tokens * (self._machine.hidden + self._machine.intermediate) * 2
        nbytes = self._machine.slice_bytes + activations
        end = start + self._machine.dram_ns(nbytes)
        self.counts.local_bytes += nbytes
        self._submit(end, (self._port(die),), k, part, self._store_local)
        self._submit(end, (self._compute_unit(die),), k, part, self._compute)
        return end

    def _request(self, start: int, k: int, part: int) -> int:
        expert, die, _ = self._tasks[k]
        home = self._machine.home[expert]
        hops = len(self._machine.routes[die][home])
        self.counts.hops += hops
        self.counts.remote_slices[k] += 1
        end = start + link_ns(hops, REQUEST_BYTES)
        if self._llcs[home].holds((self._layer, expert, part)):
            self.counts.llc_hits += 1
            self._submit(end, (self._port(home),), k, part, self._hit_at_home)
        else:
            self._submit(end, (self._dram(home),), k, part, self._read_at_home)
        return end

    def _hit_at_home(self, start: int, k: int, part: int) -> int:
        self._send(start + HIT, k, part)
        return start + HIT

    def _read_at_home(self, start: int, k: int, part: int) -> int:
        home = self._machine.home[self._tasks[k][0]]
        end = start + self._machine.dram_ns(self._machine.slice_bytes)
        self.counts.remote_bytes += self._machine.slice_bytes
        self._submit(end, (self._port(home),), k, part, self._store_at_home)
        self._send(end, k, part)
        return end

    def _send(self, time: int, k: int, part: int) -> None:
        expert, die, _ = self._tasks[k]
        self._submit(time, self._machine.routes[self._machine.home[expert]][die], k, part, self._data)

    def _data(self, start: int, k: int, part: int) -> int:
        expert, die, _ = self._tasks[k]
        hops = len(self._machine.routes[self._machine.home[expert]][die])
        end = start + link_ns(hops, self._machine.slice_bytes)
        self._submit(end, (self._compute_unit(die),), k, part, self._compute)
        if (die, expert) in self._wanted:
            self._submit(end, (self._dram(die),), k, part, self._write_copy)
        return end

    def _write_copy(self, start: int, k: int, part: int) -> int:
        expert, die, _ = self._tasks[k]
        self.counts.written_bytes += self._machine.slice_bytes
        self._copies.add((self._layer, expert, part, die))
        return start + self._machine.dram_ns(self._machine.slice_bytes)

    def _store_local(self, start: int, k: int, part: int) -> int:
        return self._store(start, k, part, self._tasks[k][1])

    def _store_at_home(self, start: int, k: int, part: int) -> int:
        return self._store(start, k, part, self._machine.home[self._tasks[k][0]])

    def _store(self, start: int, k: int, part: int, die: int) -> int:
        self._llcs[die].store((self._layer, self._tasks[k][0], part))
        return start + STORE

    def _compute(self, start: int, k: int, part: int) -> int:
        _, die, tokens = self._tasks[k]
        takes = self._machine.compute_ns(tokens)
        self.counts.die_compute[die] += takes
        return start + takes
