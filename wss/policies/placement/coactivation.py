"""Insight 5 of the paper: place experts that are used by the same tokens on different dies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.compiling import compiled
from wss.policies.parts import Placement
from wss.policies.placement.basic import holders_of
from wss.policies.placement.packing import heaviest_first
from wss.policies.signals import Signal
from wss.policies.views import PlacementView
from wss.records import BoolArray


@compiled
def separate(order, tokens, pairs, num_dies, room):  # type: ignore[no-untyped-def]
    """Place the experts in *order*, each on the die whose experts share the fewest tokens with it.

    Dies that hold *room* experts are full. Ties: the die with the fewest tokens, then the lowest. *pairs* is
    [experts, experts]. Return the die of each expert, [experts].
    """
    homes = np.empty(order.size, np.int64)
    load, held = np.zeros(num_dies), np.zeros(num_dies, np.int64)
    for place in range(order.size):
        expert = order[place]
        met = np.zeros(num_dies)
        for other in order[:place]:
            met[homes[other]] += pairs[expert, other]
        best = -1
        for d in range(num_dies):
            if held[d] < room and (best < 0 or (met[d], load[d]) < (met[best], load[best])):
                best = d
        homes[expert] = best
        load[best] += tokens[expert]
        held[best] += 1
    return homes


@dataclass(frozen=True, kw_only=True)
class Separated(Placement):
    """Experts that the same tokens used in the prefill go to different dies.

    The expert with the most tokens comes first, and goes to the die whose experts shared the fewest tokens with it.
    """

    signals = frozenset({Signal.PREFILL_LOAD, Signal.COACTIVATION})

    def place(self, view: PlacementView) -> BoolArray:
        """Return the layout, [layers, experts, dies]; no die holds more than E/D of a layer, rounded up."""
        homes = [
            separate(heaviest_first(tokens), tokens, own, view.num_dies, view.share)
            for tokens, own in zip(view.expected, view.coactivation, strict=True)
        ]
        return holders_of(np.array(homes), view.num_dies)
