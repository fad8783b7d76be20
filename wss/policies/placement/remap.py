"""The paper's Remap for GPUs, and two bounds on it, oracles that use the decode to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wss.errors import CHECKED
from wss.policies.placement.basic import holders_of
from wss.policies.placement.packing import pack
from wss.policies.views import PlacementView
from wss.records import BoolArray, IntArray


def costliest_first(history: PlacementView, layer: int) -> IntArray:
    """Return the experts of a layer by descending cost; ties: most tokens, then the lowest expert."""
    tokens = history.expected[layer]
    return np.lexsort((-tokens, -history.seconds(tokens)))


def remap(history: PlacementView, num_dies: int) -> BoolArray:
    """Place each expert, costliest first, on the least loaded die that holds fewer than its share."""
    cost = history.seconds(history.expected)
    homes = [
        pack(cost[layer], costliest_first(history, layer), num_dies, history.share)
        for layer in range(history.num_layers)
    ]
    return holders_of(np.array(homes), num_dies)


@dataclass(frozen=True, kw_only=True)
class Remap:
    """The paper's Remap: by descending roofline cost of the prefill loads, each expert to the least loaded die."""

    __pydantic_config__ = CHECKED
    needs: ClassVar[str] = "prefill"
    dies_alike: ClassVar[bool] = True

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]; no die holds more than E/D of a layer, rounded up."""
        return remap(history, len(hops))


@dataclass(frozen=True, kw_only=True)
class OracleBest:
    """An oracle, no policy: Remap on the loads of the decode to come."""

    __pydantic_config__ = CHECKED
    needs: ClassVar[str] = "decode"

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        return remap(history, len(hops))


@dataclass(frozen=True, kw_only=True)
class OracleWorst:
    """An oracle, no policy: the costliest experts of the decode to come together, filling one die after another."""

    __pydantic_config__ = CHECKED
    needs: ClassVar[str] = "decode"

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        homes = np.empty((history.num_layers, history.num_experts), np.int64)
        for layer in range(history.num_layers):
            homes[layer, costliest_first(history, layer)] = np.arange(history.num_experts) // history.share
        return holders_of(homes, len(hops))
