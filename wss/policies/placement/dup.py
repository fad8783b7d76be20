"""The paper's Dup for GPUs: the contiguous layout, plus R replicas per GPU that lower the largest load most."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from wss.arrays import copy
from wss.compiling import borrowing, compiled
from wss.policies.parts import Placement
from wss.policies.placement.basic import Contiguous, Extra
from wss.policies.signals import Signal
from wss.policies.views import PlacementView
from wss.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Replicating(Placement):
    """Contiguous, and replicas on up to `extra` free slots of each die and layer; subclasses add them."""

    signals = frozenset({Signal.PREFILL_LOAD})

    extra: Extra = 1

    def place(self, view: PlacementView) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        holders = Contiguous().place(view)
        free = np.clip(view.capacity // view.num_layers - holders.sum(axis=1), 0, self.extra)
        for layer, tokens in enumerate(view.expected):
            self.add(tokens, holders[layer], free[layer], view)
        return holders

    @abstractmethod
    def add(self, tokens: FloatArray, held: BoolArray, free: IntArray, view: PlacementView) -> None:
        """Add to *held* [experts, dies] replicas of experts with *tokens* [experts], in *free* slots [dies]."""


@borrowing
def _add(seconds, held, load):  # type: ignore[no-untyped-def]
    """Add *seconds* to the *load* of each die that holds an expert, [dies] each."""
    for die in range(load.size):
        if held[die]:
            load[die] += seconds


@compiled
def _best_pair(cost, held, free, load):  # type: ignore[no-untyped-def]
    """Return the expert and the die of the next replica that `duplicate` adds, -1 if none is possible."""
    rest = np.empty(load.size)  # load with one more holder, but without what that one computes
    best_expert, best_die = -1, -1
    best_most, best_squares = np.inf, np.inf
    for expert in range(held.shape[0]):
        now = held[expert].sum()
        if now == free.size:
            continue
        share = cost[expert, now + 1]
        copy(load, rest)
        _add(share - cost[expert, now], held[expert], rest)
        largest, squares = 0.0, 0.0
        for die in range(free.size):
            largest = max(largest, rest[die])
            squares += rest[die] * rest[die]
        for die in range(free.size):
            if free[die] <= 0 or held[expert, die]:
                continue
            then = rest[die] + share
            most = max(largest, then)
            if most > best_most:
                continue
            squared = squares + then * then - rest[die] * rest[die]
            if most < best_most * (1 - 1e-12) or squared < best_squares * (1 - 1e-12):
                best_expert, best_die, best_most, best_squares = expert, die, most, squared
    return best_expert, best_die


@compiled
def duplicate(cost, held, free):  # type: ignore[no-untyped-def]
    """Add replicas to *held* [experts, dies], in place, one by one, until no die has a free slot.

    Each step selects the (expert, die) with the smallest largest load, even if that is no smaller than before. Ties:
    the smallest sum of squared loads, then the lower expert, then the lower die.

    Parameters
    ----------
    cost
        Seconds of each expert on each of its n holders, [experts, n], n = 0, 1, ... dies.
    held
        Whether each die holds each expert, [experts, dies].
    free
        Free slots of each die, [dies]; modified.
    """
    load = np.zeros(free.size)
    for expert in range(held.shape[0]):
        _add(cost[expert, held[expert].sum()], held[expert], load)
    for _ in range(free.sum()):
        expert, die = _best_pair(cost, held, free, load)
        if expert < 0:  # every die with a free slot holds every expert
            break
        now = held[expert].sum()
        _add(cost[expert, now + 1] - cost[expert, now], held[expert], load)
        load[die] += cost[expert, now + 1]
        held[expert, die] = True
        free[die] -= 1


@dataclass(frozen=True, kw_only=True)
class Dup(Replicating):
    """The paper's Dup: contiguous, and R replicas per die that lower the top load.

    Loads are roofline costs. Costs are those of the prefill. The tokens of a replicated expert count as evenly split.
    All replicas are made, even if they lower nothing.

    Parameters
    ----------
    extra
        R: replicas on each die in each layer, limited by free slots.
    """

    def add(self, tokens: FloatArray, held: BoolArray, free: IntArray, view: PlacementView) -> None:
        """Add those of one layer by `duplicate`."""
        parts = np.maximum(np.arange(view.num_dies + 1), 1)
        duplicate(view.seconds(tokens[:, None] / parts), held, free)
