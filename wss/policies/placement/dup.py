"""The paper's Dup for GPUs: the contiguous layout, and so many copies a GPU, each where the largest load gains most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from wss.errors import CHECKED
from wss.policies.placement.basic import Contiguous, Extra
from wss.policies.views import PlacementView
from wss.records import BoolArray, IntArray


def contiguous_with_room(history: PlacementView, hops: IntArray, extra: int) -> tuple[BoolArray, IntArray]:
    """Return the contiguous layout, [layers, experts, dies], and how many more experts each die may hold in each layer.

    These are *extra* at most, as far as there is room, [layers, dies].
    """
    holders = Contiguous().place(history, hops)
    free: IntArray = np.clip(history.room // history.num_layers - holders.sum(axis=1), 0, extra)
    return holders, free


@numba.njit(cache=True, nogil=True)
def _best_pair(cost, held, free, load):  # type: ignore[no-untyped-def]
    """Return the expert and the die of the next copy as `duplicate` takes them, -1 where none is possible."""
    best_expert, best_die = -1, -1
    best_most, best_squares = np.inf, np.inf
    for expert in range(held.shape[0]):
        now = held[expert].sum()
        if now == free.size:
            continue
        share = cost[expert, now + 1]
        rest = load + held[expert] * (share - cost[expert, now])
        largest, squares = rest.max(), (rest * rest).sum()
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


@numba.njit(cache=True, nogil=True)
def duplicate(cost, held, free):  # type: ignore[no-untyped-def]
    """Add to *held* [experts, dies], in place, one (expert, die) after another until no die has room.

    Each time the pair is taken that gives the smallest largest load, even if that is no smaller than before; of equal
    ones that with the smallest sum of squared loads, then the lower expert, then the lower die.

    Parameters
    ----------
    cost
        Seconds of each expert on each of its n holders, [experts, n], n = 0, 1, ... dies.
    held
        Who holds what, [experts, dies].
    free
        How many more experts each die may hold, [dies]; used up.
    """
    load = np.zeros(free.size)
    for expert in range(held.shape[0]):
        load += held[expert] * cost[expert, held[expert].sum()]
    for _ in range(free.sum()):
        expert, die = _best_pair(cost, held, free, load)
        if expert < 0:  # where there is room, every expert lies already
            break
        now = held[expert].sum()
        load += held[expert] * (cost[expert, now + 1] - cost[expert, now])
        load[die] += cost[expert, now + 1]
        held[expert, die] = True
        free[die] -= 1


@dataclass(frozen=True, kw_only=True)
class Dup:
    """The paper's Dup: contiguous, and R copies a die of what lowers the largest roofline cost of the prefill most.

    A replicated expert's tokens count as evenly split. All copies are made, also those that lower nothing.

    Parameters
    ----------
    extra
        R: copies on each die in each layer, as far as there is room.
    """

    __pydantic_config__ = CHECKED
    needs: ClassVar[str] = "prefill"

    extra: Extra = 1

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        holders, free = contiguous_with_room(history, hops, self.extra)
        parts = np.maximum(np.arange(len(hops) + 1), 1)
        for layer, tokens in enumerate(history.expected):
            duplicate(history.seconds(tokens[:, None] / parts), holders[layer], free[layer])
        return holders
