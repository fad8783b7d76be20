"""Placement: on which dies the experts of each layer are put before the run; those that need no history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Ge, Le

from wss.errors import CHECKED
from wss.policies.views import PlacementView
from wss.records import BoolArray, IntArray
from wss.rng import permutation, stream

Extra = Annotated[int, Ge(0), Le(4096)]  # slots of a die and layer beyond the even share


class Placement(Protocol):
    """Puts every expert of every layer on at least one die.

    An expert may have several replicas, on different dies or on one; each takes a slot of a die's HBM.

    A class whose attribute ``needs`` is "prefill" is handed the loads of the prefill, with "pairs" its co-activations
    too, with "decode" the loads of the decode to come, which only an oracle knows. One whose attribute ``dies_alike``
    is true gives layouts in which dies may be renumbered.
    """

    def place(self, history: PlacementView, hops: IntArray) -> IntArray | BoolArray:
        """Return how many replicas of each expert each die holds, [layers, experts, dies]; *hops* is [dies, dies].

        Where no die holds two of one expert, it may be bool.
        """
        ...


def holders_of(homes: IntArray, num_dies: int) -> BoolArray:
    """Return the placement of experts on one die each; *homes* is [layers, experts]."""
    holders: BoolArray = homes[:, :, None] == np.arange(num_dies)
    return holders


def contiguous_homes(num_experts: int, num_dies: int) -> IntArray:
    """Return the die of each expert, [experts]: e // floor(E/D); those left over on e mod D."""
    each = num_experts // num_dies
    expert = np.arange(num_experts)
    return np.where(expert < each * num_dies, expert // max(each, 1), expert % num_dies)


@dataclass(frozen=True, kw_only=True)
class Contiguous:
    """Equal numbers of experts a die, neighbours in number together, the same in every layer.

    Expert e lives on die e // floor(E/D); the experts left over go to die e mod D, one each. This is
    the layout of expert parallelism and of the paper's simulator.
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
    """Equal numbers of experts a die, drawn anew for every layer; `seed` draws."""

    __pydantic_config__ = CHECKED

    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        keys = [stream(self.seed, "placement", layer) for layer in history.layers]
        places = np.array([permutation(key, history.num_experts) for key in keys])
        return holders_of(places % len(hops), len(hops))
