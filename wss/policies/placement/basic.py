"""Placement: on which dies the experts of each layer lie before the run; the placements that need no history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Ge, Le

from wss.errors import CHECKED
from wss.policies.views import PlacementView
from wss.records import BoolArray, IntArray
from wss.rng import permutation, stream

Extra = Annotated[int, Ge(0), Le(4096)]  # slots per die and layer beyond the even share


class Placement(Protocol):
    """Places every expert of every layer on at least one die.

    An expert may have several replicas, on different dies or on one. Each replica takes a slot of a die's HBM.

    The class attribute ``needs`` selects what the view contains: "prefill" the loads of the prefill; "pairs" its
    co-activations too; "decode", for oracles only, the loads of the decode to come. If the class attribute
    ``dies_alike`` is true, the dies of a layout may be renumbered.
    """

    def place(self, history: PlacementView, hops: IntArray) -> IntArray | BoolArray:
        """Return the number of replicas of each expert on each die, [layers, experts, dies]; *hops* is [dies, dies].

        The array may be bool if no die holds two replicas of one expert.
        """
        ...


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
class Contiguous:
    """Equal numbers of experts per die, neighbours in number together, the same in every layer.

    Expert e lies on die e // floor(E/D). The remaining experts go to die e mod D, one each. This is the layout of
    expert parallelism and of the paper's simulator.
    """

    __pydantic_config__ = CHECKED

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        homes = contiguous_homes(history.num_experts, len(hops))
        return holders_of(np.tile(homes, (history.num_layers, 1)), len(hops))


@dataclass(frozen=True, kw_only=True)
class Strided:
    """Expert e on die e mod D, the same in every layer."""

    __pydantic_config__ = CHECKED

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        homes = np.arange(history.num_experts) % len(hops)
        return holders_of(np.tile(homes, (history.num_layers, 1)), len(hops))


@dataclass(frozen=True, kw_only=True)
class Random:
    """Equal numbers of experts per die, drawn separately for every layer from `seed`."""

    __pydantic_config__ = CHECKED

    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        keys = [stream(self.seed, "placement", layer) for layer in history.layers]
        places = np.array([permutation(key, history.num_experts) for key in keys])
        return holders_of(places % len(hops), len(hops))
