"""Insight 5 of the paper: place experts that are used by the same tokens on different dies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from wss.errors import CHECKED
from wss.policies.placement.basic import holders_of
from wss.policies.placement.packing import heaviest_first
from wss.policies.views import PlacementView
from wss.records import BoolArray, IntArray


@numba.njit(cache=True, nogil=True)
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
class Separated:
    """Most tokens first, each expert to the die whose experts shared the fewest tokens of the prefill with it."""

    __pydantic_config__ = CHECKED
    needs: ClassVar[str] = "pairs"

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]; no die holds more than E/D of a layer, rounded up."""
        size = history.num_experts
        pairs = np.zeros((history.num_layers, size, size), np.int64) if history.pairs is None else history.pairs
        homes = [
            separate(heaviest_first(tokens), tokens, own, len(hops), history.share)
            for tokens, own in zip(history.expected, pairs, strict=True)
        ]
        return holders_of(np.array(homes), len(hops))
