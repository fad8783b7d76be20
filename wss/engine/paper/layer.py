"""The paper's simulator as a layer model: a wafer, its memories, and what running a plan on them gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wss.compiling import compiled
from wss.engine.paper.chains import PaperLayerRun
from wss.engine.paper.chains_compiled import compiled_paper_layer
from wss.engine.paper.machine import HOP_LATENCY, REQUEST_BYTES, SLICES, WAYS, Counts, Machine, Memories
from wss.engine.paper.rates import build_machine, edges_of
from wss.hardware import Wafer
from wss.models import ModelShape
from wss.policies import Costs, LayerView
from wss.records import BoolArray, FloatArray, IntArray, LinkLoad, Plan
from wss.traces import LayerTokens

NS = 1e-9


class PaperLayer:
    """Runs plans of *num_layers* layers; holds LLCs, and copies of slices in the HBMs, whose number is not limited.

    *share* is the share of the model's layers that are run, if they are a sample of them, else 1. With *compiled* the
    compiled engine is used, without it the one to read.
    """

    def __init__(self, model: ModelShape, wafer: Wafer, num_layers: int, share: float, *, compiled: bool) -> None:
        self._wafer, self._edges, self._machine = wafer, edges_of(wafer), build_machine(model, wafer)
        self._memories = Memories(self._machine, num_layers)
        self._simulate = compiled_paper_layer if compiled else _in_python
        expert_bytes = len(model.moe_layers) * float(model.expert_bytes("fp16"))
        self._placed = np.bincount(self._machine.homes, minlength=wafer.num_dies) * expert_bytes
        self._weights, self._copy_bytes = model.weight_bytes("fp16"), self._machine.slice_bytes / share
        self.at_home = self._machine.homes[:, None] == np.arange(wafer.num_dies)
        self._replicas: IntArray = np.repeat(self.at_home[None].astype(np.int64), num_layers, axis=0)
        self._whole: BoolArray = np.zeros(self._replicas.shape, np.bool_)  # dies with a copy of all slices
        size = SLICES * self._machine.slice_bytes
        self._costs = Costs(  # in ns; the allocator has utilisations of its own
            token=3 * 2 * self._machine.hidden * self._machine.intermediate / (self._machine.flop_per_ns * 0.7),
            hbm_read=size / (self._machine.dram_bytes_per_ns * 0.9),
            link_read=size / self._machine.link_rate,
            hop=2 * HOP_LATENCY,
        )

    @property
    def excess_bytes(self) -> float:
        """Bytes by which weights and copies exceed the usable HBM of all dies together; at most 0 if they fit."""
        copies = int(self._memories.num_copies.sum()) * self._copy_bytes
        return self._weights + copies - self._wafer.num_dies * self._wafer.usable_hbm

    def view(self, layer_run: LayerTokens) -> LayerView:
        """Return the view of *layer_run* for an allocation; a die with a copy of one slice counts as a holder."""
        return LayerView(
            layer=layer_run.layer,
            counts=layer_run.counts,
            order=layer_run.order,
            primary_die=self._machine.homes,
            replicas=self._replicas[layer_run.layer],
            sources=self.at_home,
            hops=self._wafer.hops,
            routes=self._wafer.routes,
            costs=self._costs,
        )

    def ordered(self, layer: int, plan: Plan) -> Plan:
        """Return *plan* by expert, then die; dies without a copy of all slices read from the home."""
        order = np.argsort(plan.expert * self._wafer.num_dies + plan.die)
        expert, die = plan.expert[order], plan.die[order]
        source = np.where(self._whole[layer, expert, die], die, self._machine.homes[expert])
        return Plan(expert=expert, die=die, tokens=plan.tokens[order], source=source, copy=plan.copy)

    def run(self, layer: int, plan: Plan) -> tuple[dict[str, Any], LinkLoad, FloatArray]:
        """Run *plan*, in the order of its tasks; keep what is fetched for those with `Plan.copy`.

        Return columns of the `LayerRow`, what links carried, and the seconds that each die computed, [dies].
        """
        tasks = np.stack((plan.expert, plan.die, plan.tokens), axis=1)
        counts = self._simulate(self._machine, self._memories, layer, tasks, plan.copy)
        if plan.copy.any():
            expert, die = plan.expert[plan.copy], plan.die[plan.copy]
            copies = self._memories.copies[layer, expert, :, die]
            self._replicas[layer, expert, die], self._whole[layer, expert, die] = copies.any(axis=1), copies.all(axis=1)
        slice_bytes, slices = self._machine.slice_bytes, counts.remote_slices
        home, num_links = self._machine.homes[plan.expert], self._wafer.num_links
        data = _carried(self._wafer.routes, home, plan.die, slices, slice_bytes, num_links)
        request = _carried(self._wafer.routes, plan.die, home, slices, REQUEST_BYTES, num_links)
        ends, computes = counts.die_end.tolist(), counts.die_compute.tolist()
        columns = {
            "time_s": counts.time * NS,
            "mean_die_time_s": sum(ends) / len(ends) * NS,
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
            "hbm_used_bytes": float((self._placed + self._memories.num_copies * self._copy_bytes).max()),
        }
        links = LinkLoad(data=data, request=request, busy=np.multiply(counts.edge_busy[self._edges], NS))
        return columns, links, np.multiply(counts.die_compute, NS)

    def lower_bound(self, tokens: int, active: int) -> float:
        """Return a lower bound (s) of *tokens* of *active* experts, from the slices that the LLCs cannot hold."""
        dies, machine = self._wafer.num_dies, self._machine
        flop = 6.0 * machine.hidden * machine.intermediate
        compute = math.ceil(tokens / dies) * flop / (machine.flop_per_ns / NS)
        slices = max(0, SLICES * active - dies * WAYS * machine.llc_sets)
        return max(compute, math.ceil(slices / dies) * machine.slice_bytes / (machine.dram_bytes_per_ns / NS))


def _in_python(machine: Machine, memories: Memories, layer: int, tasks: IntArray, wanted: BoolArray) -> Counts:
    """Simulate a layer run as `compiled_paper_layer` does, with the readable engine."""
    return PaperLayerRun(machine, memories, layer, tasks, wanted).run()


@compiled
def _carried(routes, source, target, slices, nbytes, num_links):  # type: ignore[no-untyped-def]
    """Return the bytes per link of *slices* times *nbytes* over the routes from *source* to *target*, [tasks] each."""
    amounts = np.zeros(num_links)
    for k in range(source.size):
        for link in routes[source[k], target[k]]:
            if link < 0:
                break
            amounts[link] += slices[k] * nbytes
    return amounts
