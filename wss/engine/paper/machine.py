"""The machine of the paper's own simulator: its constants, its memories, and the counts of a layer run.

The constants are the artifact's, for Dojo. `rates.build_machine` takes the mesh from the configured wafer, and scales
the rates of compute, DRAM and links; latencies and LLC stay. Times are whole nanoseconds, rounded up as in the
artifact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wss.compiling import compiled
from wss.models import MODELS
from wss.records import BoolArray, FloatArray, IntArray

LLC_BYTES = 64 * 2**20
HIT, MISS, STORE = 100, 110, 30
DRAM_LATENCY, DRAM_BYTES_PER_NS = 300, 3350.0
HOP_LATENCY, LINK_BYTES_PER_NS, LINK_SHARE = 200, 1741.0, 0.9
REQUEST_BYTES = 16
FLOP_PER_NS = 1e6
SLICES = 3
WAYS = 2
EMPTY = -1  # the key of an empty way of an LLC

# Achieved share of peak up to each bound of tokens, ascending.
Shares = tuple[tuple[float, float], ...]
DEEPSEEK: Shares = ((128, 0.5), (256, 0.53), (512, 0.68), (1024, 0.7), (math.inf, 0.69))
QWEN: Shares = ((128, 0.7), (256, 0.6), (1024, 0.7), (2048, 0.69), (4096, 0.71), (math.inf, 0.70))
LLAMA4: Shares = ((256, 0.65), (512, 0.72), (1024, 0.7), (math.inf, 0.65))
SHARES: dict[str, tuple[Shares, float]] = {  # by model name: shares of peak FLOP/s by tokens, share of HBM bandwidth
    MODELS["deepseek_v3"].name: (DEEPSEEK, 0.9),
    MODELS["kimi_k2"].name: (DEEPSEEK, 0.9),
    MODELS["qwen3_235b"].name: (QWEN, 0.9),
    MODELS["llama4_maverick"].name: (LLAMA4, 0.85),
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The wafer and the model as the artifact models them.

    Resources are indexed: compute units by die, then DRAMs by die, then ports by die, then edges.

    Attributes
    ----------
    hidden, intermediate
        Sizes of an expert's matrices.
    home
        The home of each expert, [experts].
    routes
        Resources of the route from die to die, [dies][dies]: edges, indexed from 3 · dies.
    num_edges
        Number of edges.
    compute_shares, dram_share
        Achieved rates, by tokens, and of the DRAM, as shares of `FLOP_PER_NS` and `DRAM_BYTES_PER_NS`, the artifact's
        peaks; above 1 where the configured die is faster.
    link_rate, flop_per_ns, dram_bytes_per_ns
        Achieved rate of a link; peaks.
    """

    hidden: int
    intermediate: int
    home: Sequence[int]
    routes: Sequence[Sequence[Sequence[int]]]
    num_edges: int
    compute_shares: Shares
    dram_share: float
    link_rate: float = LINK_BYTES_PER_NS * LINK_SHARE
    flop_per_ns: float = FLOP_PER_NS
    dram_bytes_per_ns: float = DRAM_BYTES_PER_NS

    @property
    def num_dies(self) -> int:
        """Number of dies."""
        return len(self.routes)

    @property
    def num_resources(self) -> int:
        """Number of resources."""
        return SLICES * self.num_dies + self.num_edges

    @property
    def slice_bytes(self) -> int:
        """Bytes of one matrix in FP16."""
        return self.hidden * self.intermediate * 2

    @property
    def llc_sets(self) -> int:
        """Sets of the two-way LLC that holds slices."""
        return max(1, LLC_BYTES // (WAYS * self.slice_bytes))

    @cached_property
    def homes(self) -> IntArray:
        """The home of each expert as an array, [experts]."""
        return np.array(self.home, np.int64)

    @cached_property
    def needs(self) -> tuple[IntArray, IntArray]:
        """Resources that events hold: each resource by itself, then all routes in order; and where each route begins.

        The route from die a to die b is ``needs[first[a, b]:first[a, b + 1]]``; *first* is [dies, dies + 1].
        """
        dies = self.num_dies
        lengths = np.array([[len(route) for route in row] for row in self.routes], np.int64).reshape(dies, dies)
        ends = self.num_resources + np.cumsum(lengths).reshape(dies, dies)
        edges = [edge for row in self.routes for route in row for edge in route]
        needs = np.array([*range(self.num_resources), *edges], np.int64)
        return needs, np.column_stack((ends[:, 0] - lengths[:, 0], ends))

    @cached_property
    def slice_ns(self) -> int:
        """Time of a DRAM access of a single slice."""
        return DRAM_LATENCY + math.ceil(self.slice_bytes / (DRAM_BYTES_PER_NS * self.dram_share))

    def link_ns(self, hops: int, nbytes: int) -> int:
        """Return the time of a transfer over *hops* links, all held."""
        return HOP_LATENCY * hops + math.ceil(nbytes / self.link_rate)

    @cached_property
    def _shares(self) -> FloatArray:
        """Bounds and shares of the compute shares, [bounds, 2]."""
        return np.array(self.compute_shares)

    def costs(self, tokens: IntArray) -> IntArray:
        """Return bytes and ns of the local read of a slice, and ns of computing it for *tokens* [tasks], [3, tasks].

        A local read also reads the activations.
        """
        rate = DRAM_BYTES_PER_NS * self.dram_share
        result: IntArray = _costs(tokens, self.hidden, self.intermediate, self._shares, rate)
        return result


@compiled
def _costs(tokens, hidden, intermediate, shares, rate):  # type: ignore[no-untyped-def]
    """Return `Machine.costs`; *rate* is bytes per ns of a DRAM."""
    costs = np.empty((3, len(tokens)), np.int64)
    for k in range(len(tokens)):
        place = 0
        while tokens[k] > shares[place, 0]:
            place += 1
        costs[0, k] = hidden * intermediate * 2 + tokens[k] * (hidden + intermediate) * 2
        costs[1, k] = DRAM_LATENCY + math.ceil(costs[0, k] / rate)
        costs[2, k] = math.ceil(2 * hidden * intermediate * tokens[k] / (FLOP_PER_NS * shares[place, 1]))
    return costs


class Memories:
    """State that outlives a layer run: copies in the DRAMs, of unlimited number, and slices in the LLCs.

    Attributes
    ----------
    copies
        Whether a die has a copy of a slice, [layers, experts, slices, dies].
    num_copies
        Slices copied to each die, [dies].
    llc
        Keys of the slices in each LLC, [dies, sets, ways]: the least recently stored first, padded with `EMPTY`.
        Look-ups do not change the order.
    """

    def __init__(self, machine: Machine, num_layers: int) -> None:
        shape = (num_layers, len(machine.home), SLICES, machine.num_dies)
        self.copies: BoolArray = np.zeros(shape, np.bool_)
        self.num_copies: IntArray = np.zeros(machine.num_dies, np.int64)
        self.llc: IntArray = np.full((machine.num_dies, machine.llc_sets, WAYS), EMPTY, np.int64)

    def copy(self, layer: int, expert: int, part: int, die: int) -> None:
        """Copy a slice to *die*."""
        self.num_copies[die] += not self.copies[layer, expert, part, die]
        self.copies[layer, expert, part, die] = True

    def holds(self, layer: int, expert: int, part: int, die: int) -> bool:
        """Whether the LLC of *die* holds a slice."""
        return self._key(layer, expert, part) in self._ways(expert, die).tolist()

    def store(self, layer: int, expert: int, part: int, die: int) -> None:
        """Store a slice in the LLC of *die*; evict the oldest of its set."""
        key, ways = self._key(layer, expert, part), self._ways(expert, die)
        kept = [*(other for other in ways.tolist() if other not in (key, EMPTY)), key][-WAYS:]
        ways[: len(kept)] = kept

    def _key(self, layer: int, expert: int, part: int) -> int:
        num_experts: int = self.copies.shape[1]
        return (layer * num_experts + expert) * SLICES + part

    def _ways(self, expert: int, die: int) -> IntArray:
        ways: IntArray = self.llc[die, expert % self.llc.shape[1]]
        return ways


@dataclass(eq=False, kw_only=True)
class Counts:
    """Counts of one layer run; times in ns.

    Attributes
    ----------
    remote_slices
        Slices that each task read from another die, [tasks].
    die_end, die_compute
        When each die ended, and how long it computed, [dies].
    edge_busy
        How long each edge was held, [edges].
    time
        The end of the last event.
    accesses, llc_hits, hops
        Look-ups at the dies that compute; hits there and at home; links that requests crossed.
    local_bytes, remote_bytes, written_bytes
        Bytes read from DRAM for the own die and for another, and written as copies.
    """

    remote_slices: IntArray
    die_end: IntArray
    die_compute: IntArray
    edge_busy: IntArray
    time: int = 0
    accesses: int = 0
    llc_hits: int = 0
    hops: int = 0
    local_bytes: int = 0
    remote_bytes: int = 0
    written_bytes: int = 0
