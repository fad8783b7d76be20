"""A wafer as the paper's simulator sees it: the artifact's rates, scaled by the wafer's datasheet over Dojo's.

A wafer with twice Dojo's peak FLOP/s, HBM bandwidth or link bandwidth computes, reads or sends twice as fast as the
artifact's machine. Its latencies, its LLC and its achieved shares of peak remain those of the artifact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wss.engine.paper.machine import (
    DRAM_BYTES_PER_NS,
    FLOP_PER_NS,
    LINK_BYTES_PER_NS,
    LINK_SHARE,
    SHARES,
    SLICES,
    Machine,
)
from wss.hardware import WAFERS, SystemSpec, Wafer
from wss.models import ModelShape
from wss.policies.placement.basic import contiguous_homes
from wss.records import IntArray


class Rates(NamedTuple):
    """Speed of a wafer relative to the artifact's machine: compute, HBM reads, and links."""

    compute: float = 1.0
    dram: float = 1.0
    link: float = 1.0


def rates_of(spec: SystemSpec) -> Rates:
    """Return the rates of a wafer: its datasheet over Dojo's."""
    dojo = WAFERS["dojo"]
    return Rates(
        compute=spec.die.flops["fp16"] / dojo.die.flops["fp16"],
        dram=spec.die.hbm.bandwidth / dojo.die.hbm.bandwidth,
        link=spec.link.bandwidth / dojo.link.bandwidth,
    )


def edges_of(wafer: Wafer) -> IntArray:
    """Return the edge of each link, [links]; both directions share one edge."""
    pairs = [tuple(sorted(link)) for link in wafer.links.tolist()]
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    return np.array([number[pair] for pair in pairs], np.int64)


def build_machine(model: ModelShape, wafer: Wafer) -> Machine:
    """Return wafer and model in the paper's simulator."""
    edges, rates = edges_of(wafer), rates_of(wafer.spec)
    resource = (SLICES * wafer.num_dies + edges).tolist()
    shares, dram_share = SHARES[model.name]
    return Machine(
        hidden=model.hidden_size,
        intermediate=model.moe_intermediate_size,
        home=contiguous_homes(model.num_experts, wafer.num_dies).tolist(),
        routes=[[[resource[link] for link in route if link >= 0] for route in row] for row in wafer.routes.tolist()],
        num_edges=len(np.unique(edges)),
        compute_shares=tuple((tokens, share * rates.compute) for tokens, share in shares),
        dram_share=dram_share * rates.dram,
        flop_per_ns=FLOP_PER_NS * rates.compute,
        dram_bytes_per_ns=DRAM_BYTES_PER_NS * rates.dram,
        link_rate=LINK_BYTES_PER_NS * rates.link * LINK_SHARE,
    )
