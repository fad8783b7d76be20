"""The paper's Dup for GPUs: the contiguous layout, and so many copies a GPU, each where the largest load gains most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from wss.errors import CHECKED
from wss.policies.history import History
from wss.policies.placement import Contiguous, Extra
from wss.records import BoolArray, IntArray


def contiguous_with_room(history: History, hops: IntArray, extra: int) -> tuple[BoolArray, IntArray]:
    """Return the contiguous layout, [layers, experts, dies], and how many more experts each die may hold in each layer.

    These are *extra* at most, as far as there is room, [layers, dies].
    """
    holders = Contiguous().place(history, hops)
    free: IntArray = np.clip(history.room // history.num_layers - holders.sum(axis=1), 0, extra)
    return holders, free


@numba.njit(cache=True)
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
    num_experts, num_dies = held.shape
    load = np.zeros(num_dies)
    for e in range(num_experts):
        load += held[e] * cost[e, held[e].sum()]
    for _ in range(free.sum()):
        best_expert, best_die = -1, -1
        best = (np.inf, np.inf)
        for expert in range(num_experts):
            now = held[expert].sum()
            if now == num_dies:
                continue
            rest = load + held[expert] * (cost[expert, now + 1] - cost[expert, now])
            for die in np.flatnonzero((free > 0) & ~held[expert]):
                then = rest.copy()
                then[die] += cost[expert, now + 1]
                score = (then.max(), (then**2).sum())
                if score[0] < best[0] * (1 - 1e-12) or (score[0] <= best[0] and score[1] < best[1] * (1 - 1e-12)):
                    best_expert, best_die, best = int(expert), int(die), score
        if best_expert < 0:  # where there is room, every expert lies already
            break
        now = held[best_expert].sum()
        load += held[best_expert] * (cost[best_expert, now + 1] - cost[best_expert, now])
        load[best_die] += cost[best_expert, now + 1]
        held[best_expert, best_die] = True
        free[best_die] -= 1


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

    def place(self, history: History, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        holders, free = contiguous_with_room(history, hops, self.extra)
        parts = np.maximum(np.arange(len(hops) + 1), 1)
        for layer, tokens in enumerate(history.expected):
            duplicate(history.seconds(tokens[:, None] / parts), holders[layer], free[layer])
        return holders
