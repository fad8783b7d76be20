"""The paper's Remap for GPUs, and two bounds on it, oracles that use the decode to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.policies.parts import Placement
from wss.policies.placement.basic import holders_of
from wss.policies.placement.packing import pack
from wss.policies.signals import Signal
from wss.policies.views import PlacementView
from wss.records import BoolArray, IntArray


def costliest_first(view: PlacementView, layer: int) -> IntArray:
    """Return the experts of a layer by descending cost; ties: most tokens, then the lowest expert."""
    tokens = view.expected[layer]
    return np.lexsort((-tokens, -view.seconds(tokens)))


@dataclass(frozen=True, kw_only=True)
class Remap(Placement):
    """The paper's Remap: busiest expert first, each to the die with the least load.

    Loads are roofline costs of the prefill.
    """

    signals = frozenset({Signal.PREFILL_LOAD})
    dies_interchangeable = True

    def place(self, view: PlacementView) -> BoolArray:
        """Return the layout, [layers, experts, dies]; no die holds more than E/D of a layer, rounded up."""
        cost, layers = view.seconds(view.expected), range(view.num_layers)
        homes = [pack(cost[layer], costliest_first(view, layer), view.num_dies, view.share) for layer in layers]
        return holders_of(np.array(homes), view.num_dies)


@dataclass(frozen=True, kw_only=True)
class OracleBest(Remap):
    """An oracle: remap by the loads of the decode itself."""

    signals = frozenset({Signal.DECODE_LOAD})
    dies_interchangeable = False


@dataclass(frozen=True, kw_only=True)
class OracleWorst(Placement):
    """An oracle: the busiest experts of the decode fill one die after another."""

    signals = frozenset({Signal.DECODE_LOAD})

    def place(self, view: PlacementView) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        homes = np.empty((view.num_layers, view.num_experts), np.int64)
        for layer in range(view.num_layers):
            homes[layer, costliest_first(view, layer)] = np.arange(view.num_experts) // view.share
        return holders_of(homes, view.num_dies)
