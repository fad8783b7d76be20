"""Execution of MoE layers under the rules of the paper's own simulator (``physics: paper``)."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from wss.engine.paper.chains import PaperLayerRun
from wss.engine.paper.chains_compiled import compiled_paper_layer
from wss.engine.paper.machine import (
    HOP_LATENCY,
    REQUEST_BYTES,
    SHARES,
    SLICES,
    WAYS,
    Counts,
    Machine,
    Memories,
)
from wss.engine.paper.rates import rates_of
from wss.hardware import Wafer
from wss.policies import Policy
from wss.policies.allocation.basic import Algorithm1, Chunked, Home, InTurn
from wss.policies.allocation.paper import BLOCK, Cut, Prices, allocate, at_home, by_tokens, in_turn, wanted_copies
from wss.policies.placement.basic import contiguous_homes
from wss.policies.prediction import TokenHeatmap
from wss.records import BoolArray, FloatArray, IntArray, LayerRow, LinkLoad, Recorder
from wss.serving.heatmap_counters import FullCounters
from wss.serving.planning_time import planning_notes, planning_time
from wss.serving.setup import Setup
from wss.traces import LayerTokens

NS = 1e-9


def _edges(wafer: Wafer) -> IntArray:
    """Return the edge of each link, [links]; both directions share one edge."""
    pairs = [tuple(sorted(link)) for link in wafer.links.tolist()]
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    return np.array([number[pair] for pair in pairs], np.int64)


def machine_of(setup: Setup, wafer: Wafer) -> Machine:
    """Return wafer and model in the paper's simulator; a faster die has larger shares of the simulator's peak rates."""
    edges = _edges(wafer)
    resource = (SLICES * wafer.num_dies + edges).tolist()
    routes = [[[resource[link] for link in route if link >= 0] for route in row] for row in wafer.routes.tolist()]
    shares, dram_share = SHARES[setup.model.name]
    rates = rates_of(wafer.spec)
    return Machine(
        hidden=setup.model.hidden_size,
        intermediate=setup.model.moe_intermediate_size,
        home=contiguous_homes(setup.model.num_experts, wafer.num_dies).tolist(),
        routes=routes,
        num_edges=len(np.unique(edges)),
        compute_shares=tuple((tokens, share * rates.compute) for tokens, share in shares),
        dram_share=dram_share * rates.dram,
        link_rate=rates.link_bytes_per_ns,
    )


@numba.njit(cache=True, nogil=True)
def _fetched(tasks, home, copies):  # type: ignore[no-untyped-def]
    """Return which *tasks* are neither at home nor have copies of all slices, [tasks]; *copies* are the layer's."""
    fetched = np.zeros(len(tasks), np.bool_)
    for k in range(len(tasks)):
        expert, die = tasks[k, 0], tasks[k, 1]
        fetched[k] = die != home[expert] and not copies[expert, :, die].all()
    return fetched


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


class PaperLayer:
    """Executes layer runs under one policy; holds the policy's caches, copies (without limit) and ledger."""

    def __init__(self, setup: Setup, wafer: Wafer, policy: Policy, recorder: Recorder) -> None:
        self._policy, self._wafer = policy, wafer
        self._planning, self._full = setup.planning, FullCounters()
        self._layers = setup.layers_run
        self._machine = machine_of(setup, wafer)
        self._memories = Memories(self._machine, len(self._layers))
        self._rates = rates_of(wafer.spec)
        self._layer_run = _in_python if setup.engine == "simpy" else compiled_paper_layer
        self._edges = _edges(wafer)
        size = SLICES * self._machine.slice_bytes
        self._prices = Prices(
            token=3 * 2 * self._machine.hidden * self._machine.intermediate / (self._rates.flop_per_ns * 0.7),
            dram=size / (self._rates.dram_bytes_per_ns * 0.9),
            transfer=size / self._rates.link_bytes_per_ns,
            hop=2 * HOP_LATENCY,
        )
        self.recorder = recorder
        expert_bytes = len(setup.model.moe_layers) * float(setup.model.expert_bytes("fp16"))
        self._placed = np.bincount(self._machine.homes, minlength=wafer.num_dies) * expert_bytes
        self._weights = setup.model.weight_bytes("fp16")
        self._copy_bytes = self._machine.slice_bytes / setup.layer_share  # a sampled layer stands for several

    @property
    def excess_bytes(self) -> float:
        """Bytes by which weights and copies exceed the usable HBM of all dies together; at most 0 if they fit."""
        copies = int(self._memories.num_copies.sum()) * self._copy_bytes
        return self._weights + copies - self._wafer.num_dies * self._wafer.usable_hbm

    @property
    def placement_correlation(self) -> None:
        """None: these placements do not depend on loads."""
        return None

    @property
    def planning(self) -> dict[str, Any]:
        """CPU time of planning: not measured, as these parts cannot be deployed."""
        return {}

    @property
    def notes(self) -> list[str]:
        """Notes for the reader of the result."""
        return [*self._full.notes(self._policy.name), *planning_notes(self._planning, self._policy)]

    def _fullest(self) -> float:
        """Return the bytes of copies and of experts of all layers on the fullest die."""
        return float((self._placed + self._memories.num_copies * self._copy_bytes).max())

    def run(self, layer_run: LayerTokens) -> None:
        """Plan the layer run, simulate it, and record it in the ledger."""
        tasks = self._plan(layer_run)
        wanted = self._wanted(layer_run, tasks)
        self._enter(layer_run, tasks, self._layer_run(self._machine, self._memories, layer_run.layer, tasks, wanted))

    def _plan(self, layer_run: LayerTokens) -> IntArray:
        home, num_dies, allocation = self._machine.homes, self._wafer.num_dies, self._policy.allocation
        if isinstance(allocation, InTurn):
            return in_turn(layer_run.order, layer_run.counts, num_dies, allocation.offset)
        if isinstance(allocation, Chunked):
            return by_tokens(layer_run.order, layer_run.counts, num_dies)
        if isinstance(allocation, Home):
            return at_home(layer_run.order, layer_run.counts, home)
        assert isinstance(allocation, Algorithm1)  # the experiment has no other under this physics
        cut = Cut(allocation.block or BLOCK, allocation.min_candidates, allocation.near == "holders")
        copies = self._memories.copies[layer_run.layer]
        return allocate(layer_run.order, layer_run.counts, home, self._wafer.hops, copies, self._prices, cut)

    def _wanted(self, layer_run: LayerTokens, tasks: IntArray) -> BoolArray:
        """Return which tasks' experts are worth a copy, [tasks]; only those with slices that would still be fetched."""
        prediction = self._policy.prediction
        if not isinstance(prediction, TokenHeatmap) or layer_run.step == 0:
            return np.zeros(len(tasks), np.bool_)
        self._full.take(layer_run.layer, layer_run.transitions)
        fetched = _fetched(tasks, self._machine.homes, self._memories.copies[layer_run.layer])
        return wanted_copies(layer_run.transitions, tasks, self._wafer.num_dies, prediction.share, fetched)

    def _enter(self, layer_run: LayerTokens, tasks: IntArray, counts: Counts) -> None:
        """Record the layer run's row and, in decode, its link traffic in the ledger."""
        slice_bytes, slices = self._machine.slice_bytes, counts.remote_slices
        home, die = self._machine.homes[tasks[:, 0]], tasks[:, 1]
        data = _carried(self._wafer.routes, home, die, slices, slice_bytes, self._wafer.num_links)
        request = _carried(self._wafer.routes, die, home, slices, REQUEST_BYTES, self._wafer.num_links)
        busy: FloatArray = np.multiply(counts.edge_busy[self._edges], NS)
        compute: FloatArray = np.multiply(counts.die_compute, NS)
        ends, computes = counts.die_end.tolist(), counts.die_compute.tolist()
        tokens, active = int(layer_run.counts.sum()), len(layer_run.order)
        planned = planning_time(self._planning, self._policy, len(layer_run.counts), len(tasks))
        row = LayerRow(
            policy=self._policy.name,
            phase="decode" if layer_run.step > 0 else "prefill",
            step=layer_run.step,
            layer=self._layers[layer_run.layer],
            tokens=tokens,
            active_experts=active,
            max_expert_tokens=int(layer_run.counts.max()),
            tasks=len(tasks),
            time_s=planned + counts.time * NS,
            lower_bound_s=self._bound(tokens, active),
            mean_die_time_s=planned + sum(ends) / len(ends) * NS,
            compute_time_s=max(computes) * NS,
            remote_reads=int(slices.sum()),
            hops=counts.hops,
            byte_hops=float(data.sum()),
            remote_read_bytes=float(counts.remote_bytes),
            local_read_bytes=float(counts.local_bytes),
            local_write_bytes=float(counts.written_bytes),
            request_bytes=float(request.sum()),
            max_link_bytes=float((data + request).max(initial=0.0)),
            llc_hits=counts.llc_hits,
            llc_hit_bytes=counts.llc_hits * float(slice_bytes),
            prefetched_bytes=0.0,
            evictions=0,
            hbm_used_bytes=self._fullest(),
            planning_s=planned,
        )
        self.recorder.row(row, LinkLoad(data=data, request=request, busy=busy), compute)

    def _bound(self, tokens: int, active: int) -> float:
        """Return a lower bound (s), as in `wss.metrics.bounds`, from the slices that the LLCs cannot hold."""
        dies = self._wafer.num_dies
        flop = 6.0 * self._machine.hidden * self._machine.intermediate
        compute = math.ceil(tokens / dies) * flop / (self._rates.flop_per_ns / NS)
        slices = max(0, SLICES * active - dies * WAYS * self._machine.llc_sets)
        return max(compute, math.ceil(slices / dies) * self._machine.slice_bytes / (self._rates.dram_bytes_per_ns / NS))


def _in_python(machine: Machine, memories: Memories, layer: int, tasks: IntArray, wanted: BoolArray) -> Counts:
    """Simulate a layer run as `compiled_paper_layer` does, with the readable engine."""
    return PaperLayerRun(machine, memories, layer, tasks, wanted).run()
