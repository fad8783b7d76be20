"""The paper's simulator as a layer model: a wafer, its memories, and what running a plan on them gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from wss.engine.paper.chains import PaperLayerRun
from wss.engine.paper.chains_compiled import compiled_paper_layer
from wss.engine.paper.machine import HOP_LATENCY, REQUEST_BYTES, SHARES, SLICES, WAYS, Counts, Machine, Memories
from wss.engine.paper.rates import rates_of
from wss.hardware import Wafer
from wss.models import ModelShape
from wss.policies import Costs
from wss.policies.placement.basic import contiguous_homes
from wss.records import BoolArray, FloatArray, IntArray, LinkLoad, Plan

NS = 1e-9


def _edges(wafer: Wafer) -> IntArray:
    """Return the edge of each link, [links]; both directions share one edge."""
    pairs = [tuple(sorted(link)) for link in wafer.links.tolist()]
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    return np.array([number[pair] for pair in pairs], np.int64)


def build_machine(model: ModelShape, wafer: Wafer) -> Machine:
    """Return wafer and model in the paper's simulator; a faster die has larger shares of the simulator's peak rates."""
    edges = _edges(wafer)
    resource = (SLICES * wafer.num_dies + edges).tolist()
    routes = [[[resource[link] for link in route if link >= 0] for route in row] for row in wafer.routes.tolist()]
    shares, dram_share = SHARES[model.name]
    rates = rates_of(wafer.spec)
    return Machine(
        hidden=model.hidden_size,
        intermediate=model.moe_intermediate_size,
        home=contiguous_homes(model.num_experts, wafer.num_dies).tolist(),
        routes=routes,
        num_edges=len(np.unique(edges)),
        compute_shares=tuple((tokens, share * rates.compute) for tokens, share in shares),
        dram_share=dram_share * rates.dram,
        link_rate=rates.link_bytes_per_ns,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class PaperOutcome:
    """The result of a layer run.

    Attributes
    ----------
    time, mean_die_time
        Seconds until the last event, and mean over the dies of when each ended.
    compute
        Seconds that each die computed, [dies].
    links
        Bytes over each link, and seconds in which it was busy.
    measures
        Further columns of its `LayerRow`, by name.
    """

    time: float
    mean_die_time: float
    compute: FloatArray
    links: LinkLoad
    measures: dict[str, Any]


class PaperLayer:
    """Runs plans; holds the LLCs and the copies of slices in the HBMs, whose number is not limited.

    Parameters
    ----------
    model, wafer
        What is served, and on what.
    num_layers, share
        Number of layers run, and the layers that are run for each layer of the model (1 unless they are a sample).
    compiled
        Whether to use the compiled engine, or the one to read.
    """

    def __init__(self, model: ModelShape, wafer: Wafer, num_layers: int, share: float, *, compiled: bool) -> None:
        self._wafer, self._edges = wafer, _edges(wafer)
        self._machine, self._rates = build_machine(model, wafer), rates_of(wafer.spec)
        self._memories = Memories(self._machine, num_layers)
        self._simulate = compiled_paper_layer if compiled else _in_python
        expert_bytes = len(model.moe_layers) * float(model.expert_bytes("fp16"))
        self._placed = np.bincount(self.primary_die, minlength=wafer.num_dies) * expert_bytes
        self._weights, self._copy_bytes = model.weight_bytes("fp16"), self._machine.slice_bytes / share

    @property
    def primary_die(self) -> IntArray:
        """The home of each expert, [experts]."""
        return self._machine.homes

    @property
    def excess_bytes(self) -> float:
        """Bytes by which weights and copies exceed the usable HBM of all dies together; at most 0 if they fit."""
        copies = int(self._memories.num_copies.sum()) * self._copy_bytes
        return self._weights + copies - self._wafer.num_dies * self._wafer.usable_hbm

    @property
    def costs(self) -> Costs:
        """What its allocator estimates by, in ns; it has utilisations of its own, 0.7 of compute and 0.9 of DRAM."""
        size = SLICES * self._machine.slice_bytes
        return Costs(
            token=3 * 2 * self._machine.hidden * self._machine.intermediate / (self._rates.flop_per_ns * 0.7),
            hbm_read=size / (self._rates.dram_bytes_per_ns * 0.9),
            link_read=size / self._rates.link_bytes_per_ns,
            hop=2 * HOP_LATENCY,
        )

    def replicas(self, layer: int) -> IntArray:
        """Return 1 where a die is the home of an expert or has a copy of one of its slices, [experts, dies]."""
        replicas: IntArray = _replicas(self._memories.copies[layer], self.primary_die)
        return replicas

    def sources(self, layer: int, expert: IntArray, die: IntArray) -> IntArray:
        """Return where tasks read from, [tasks]: the die itself if it has a copy of all slices, else the home."""
        sources: IntArray = _sources(expert, die, self.primary_die, self._memories.copies[layer])
        return sources

    def lower_bound(self, tokens: int, active: int) -> float:
        """Return a lower bound (s), as in `wss.metrics.bounds`, from the slices that the LLCs cannot hold.

        *tokens* is their number over all experts, *active* that of the experts with tokens.
        """
        dies = self._wafer.num_dies
        flop = 6.0 * self._machine.hidden * self._machine.intermediate
        compute = math.ceil(tokens / dies) * flop / (self._rates.flop_per_ns / NS)
        slices = max(0, SLICES * active - dies * WAYS * self._machine.llc_sets)
        return max(compute, math.ceil(slices / dies) * self._machine.slice_bytes / (self._rates.dram_bytes_per_ns / NS))

    def run(self, layer: int, plan: Plan) -> PaperOutcome:
        """Run *plan*, in the order of its tasks; it keeps what it fetches for tasks with `Plan.copy`."""
        tasks = np.stack((plan.expert, plan.die, plan.tokens), axis=1)
        counts = self._simulate(self._machine, self._memories, layer, tasks, plan.copy)
        slice_bytes, slices = self._machine.slice_bytes, counts.remote_slices
        home, num_links = self.primary_die[plan.expert], self._wafer.num_links
        data = _carried(self._wafer.routes, home, plan.die, slices, slice_bytes, num_links)
        request = _carried(self._wafer.routes, plan.die, home, slices, REQUEST_BYTES, num_links)
        links = LinkLoad(data=data, request=request, busy=np.multiply(counts.edge_busy[self._edges], NS))
        ends, computes = counts.die_end.tolist(), counts.die_compute.tolist()
        return PaperOutcome(
            time=counts.time * NS,
            mean_die_time=sum(ends) / len(ends) * NS,
            compute=np.multiply(counts.die_compute, NS),
            links=links,
            measures={
                "compute_time_s": max(computes) * NS,
                "remote_reads": int(slices.sum()),
                "hops": counts.hops,
                "byte_hops": float(data.sum()),
                "remote_read_bytes": float(counts.remote_bytes),
                "local_read_bytes": float(counts.local_bytes),
                "local_write_bytes": float(counts.written_bytes),
                "request_bytes": float(request.sum()),
                "max_link_bytes": float((data + request).max(initial=0.0)),
                "llc_hits": counts.llc_hits,
                "llc_hit_bytes": counts.llc_hits * float(slice_bytes),
                "prefetched_bytes": 0.0,
                "evictions": 0,
                "hbm_used_bytes": float((self._placed + self._memories.num_copies * self._copy_bytes).max()),
            },
        )


def _in_python(machine: Machine, memories: Memories, layer: int, tasks: IntArray, wanted: BoolArray) -> Counts:
    """Simulate a layer run as `compiled_paper_layer` does, with the readable engine."""
    return PaperLayerRun(machine, memories, layer, tasks, wanted).run()


@numba.njit(cache=True, nogil=True)
def _replicas(copies, home):  # type: ignore[no-untyped-def]
    """Return `PaperLayer.replicas`; *copies* are the layer's, [experts, slices, dies]."""
    experts, slices, dies = copies.shape
    replicas = np.zeros((experts, dies), np.int64)
    for expert in range(experts):
        for part in range(slices):
            for die in range(dies):
                replicas[expert, die] |= copies[expert, part, die]
        replicas[expert, home[expert]] = 1
    return replicas


@numba.njit(cache=True, nogil=True)
def _sources(expert, die, home, copies):  # type: ignore[no-untyped-def]
    """Return `PaperLayer.sources`; *copies* are the layer's, [experts, slices, dies]."""
    sources = np.empty(expert.size, np.int64)
    for k in range(expert.size):
        sources[k] = die[k] if copies[expert[k], :, die[k]].all() else home[expert[k]]
    return sources


@numba.njit(cache=True, nogil=True)
def _carried(routes, source, target, slices, nbytes, num_links):  # type: ignore[no-untyped-def]
    """Return the bytes per link of *slices* times *nbytes* over the routes from *source* to *target*, [tasks] each."""
    amounts = np.zeros(num_links)
    for k in range(source.size):
        for link in routes[source[k], target[k]]:
            if link < 0:
                break
            amounts[link] += slices[k] * nbytes
    return amounts
