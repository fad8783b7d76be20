"""How fast a wafer is under the paper's physics: the artifact's own rates, in proportion to its datasheet over Dojo's.

A wafer with twice Dojo's peak FLOP/s, HBM bandwidth or link bandwidth computes, reads or sends twice as fast as the
artifact's machine does. Its latencies, its LLC and the shares of peak that it achieves stay those of the artifact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from wss.engine.artifact_compiled import compiled_artifact, run_chains
from wss.engine.artifact_machine import (
    DRAM_BYTES_PER_NS,
    FLOP_PER_NS,
    LINK_BYTES_PER_NS,
    LINK_SHARE,
    REQUEST_BYTES,
    SLICES,
    Counts,
    Machine,
    Memories,
)
from wss.hardware import WAFERS, SystemSpec
from wss.records import BoolArray, IntArray

Run = Callable[[Machine, Memories, int, IntArray, BoolArray], Counts]


class Rates(NamedTuple):
    """How many times as fast as the artifact's machine a wafer computes, reads from HBM, and sends over a link."""

    compute: float = 1.0
    dram: float = 1.0
    link: float = 1.0

    @property
    def flop_per_ns(self) -> float:
        """Peak FLOP a ns."""
        return FLOP_PER_NS * self.compute

    @property
    def dram_bytes_per_ns(self) -> float:
        """Peak bytes a ns of one HBM."""
        return DRAM_BYTES_PER_NS * self.dram

    @property
    def link_bytes_per_ns(self) -> float:
        """Bytes a ns of a link, as far as they are achieved."""
        return LINK_BYTES_PER_NS * self.link * LINK_SHARE


def rates_of(spec: SystemSpec) -> Rates:
    """Return the rates of a wafer: what its datasheet has over what Dojo's has."""
    dojo = WAFERS["dojo"]
    return Rates(
        compute=spec.die.flops["fp16"] / dojo.die.flops["fp16"],
        dram=spec.die.hbm.bandwidth / dojo.die.hbm.bandwidth,
        link=spec.link.bandwidth / dojo.link.bandwidth,
    )


def runner(rates: Rates) -> Run:
    """Return what runs a kernel in compiled code; its links have these *rates*, the rest is the machine's."""
    return compiled_artifact if rates.link == 1.0 else partial(_compiled, rates.link_bytes_per_ns)


def _compiled(
    bytes_per_ns: float, machine: Machine, memories: Memories, layer: int, tasks: IntArray, wanted: BoolArray
) -> Counts:
    """Run a kernel as `compiled_artifact` does, over links that carry *bytes_per_ns*."""
    request, data = (math.ceil(nbytes / bytes_per_ns) for nbytes in (REQUEST_BYTES, machine.slice_bytes))
    setting = (machine.slice_bytes, machine.slice_ns, request, data)
    needs, route = machine.needs
    places = (layer, machine.homes, needs, route, machine.num_resources)
    outlives = (memories.copies, memories.num_copies, memories.llc)
    costs = machine.costs(tasks[:, 2])
    remote_slices, die_end, die_compute, busy, totals = run_chains(tasks, wanted, costs, setting, *places, *outlives)
    names = ("accesses", "llc_hits", "hops", "local_bytes", "remote_bytes", "written_bytes", "time")
    return Counts(
        remote_slices=remote_slices,
        die_end=die_end,
        die_compute=die_compute,
        edge_busy=busy[SLICES * machine.num_dies :],
        **dict(zip(names, totals.tolist(), strict=True)),
    )
