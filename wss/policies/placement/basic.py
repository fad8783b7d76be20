"""Placement: on which dies the experts of each layer lie before the run; the placements that read no signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from wss.policies.parts import Placement
from wss.policies.views import PlacementView
from wss.records import BoolArray, IntArray
from wss.rng import permutation, stream

Extra = Annotated[int, Ge(0), Le(4096)]  # slots per die and layer beyond the even share


def holders_of(homes: IntArray, num_dies: int) -> BoolArray:
    """Return the placement with one replica of each expert, at its home; *homes* is [layers, experts]."""
    holders: BoolArray = homes[:, :, None] == np.arange(num_dies)
    return holders


def contiguous_homes(num_experts: int, num_dies: int) -> IntArray:
    """Return the die of each expert, [experts]: e // floor(E/D); the remaining experts on e mod D."""
    each = num_experts // num_dies
    expert = np.arange(num_experts)
    return np.where(expert < each * num_dies, expert // max(each, 1), expert % num_dies)


@dataclass(frozen=True, kw_only=True)
class Contiguous(Placement):
    """Equally many experts per die, in order of number, the same in every layer.

    Expert e lies on die e // floor(E/D). The remaining experts go to die e mod D, one each. This is the layout of
    expert parallelism and of the paper's simulator.
    """

    def place(self, view: PlacementView) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        homes = contiguous_homes(view.num_experts, view.num_dies)
        return holders_of(np.tile(homes, (view.num_layers, 1)), view.num_dies)


@dataclass(frozen=True, kw_only=True)
class Strided(Placement):
    """Expert e on die e mod D, the same in every layer."""

    def place(self, view: PlacementView) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        homes = np.arange(view.num_experts) % view.num_dies
        return holders_of(np.tile(homes, (view.num_layers, 1)), view.num_dies)


@dataclass(frozen=True, kw_only=True)
class Random(Placement):
    """Equally many experts per die, drawn for every layer from `seed`."""

    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0

    def place(self, view: PlacementView) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        keys = [stream(self.seed, "placement", layer) for layer in view.layers]
        places = np.array([permutation(key, view.num_experts) for key in keys])
        return holders_of(places % view.num_dies, view.num_dies)
