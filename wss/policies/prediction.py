"""Prediction: which experts each die will want again, from routing that has happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Protocol

import numba
import numpy as np
from annotated_types import Gt, Le

from wss.errors import CHECKED
from wss.records import BoolArray, IntArray, Plan


class Prediction(Protocol):
    """Says which of the experts that a die reads now are worth keeping; a pure function."""

    def wanted(self, heat: IntArray, plan: Plan) -> BoolArray:
        """Return which tasks fetch an expert that their die will want, [tasks].

        *heat*[i, j] counts how often, in this layer and up to this kernel, a token sent to expert i was followed by a
        token of the same request sent to expert j, [experts, experts].
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Never:
    """Keep nothing."""

    __pydantic_config__ = CHECKED

    def wanted(self, heat: IntArray, plan: Plan) -> BoolArray:
        """Return all False."""
        return np.zeros(len(plan.expert), np.bool_)


@dataclass(frozen=True, kw_only=True)
class TokenHeatmap:
    """The paper's predictor: the top of the heatmap rows of the experts that a die computes now.

    Parameters
    ----------
    share
        How many experts of a row count as its top, as a share of all experts (rounded up). Experts never seen to
        follow are not wanted, whatever their rank; equal counts go to the lower expert.
    """

    __pydantic_config__ = CHECKED

    share: Annotated[float, Gt(0), Le(1)] = 0.2

    def wanted(self, heat: IntArray, plan: Plan) -> BoolArray:
        """Return the remote tasks whose expert is in the union of their die's rows' tops."""
        remote = plan.remote
        if not remote.any():
            return remote
        top = top_of_rows(heat, math.ceil(self.share * len(heat)))
        wanted: BoolArray = _in_tops(top, plan.expert, plan.die, remote)
        return wanted


@numba.njit(cache=True)
def _in_tops(top, expert, die, remote):  # type: ignore[no-untyped-def]
    """Return which of the *remote* tasks have an expert in the *top* of any row that their die computes, [tasks]."""
    num_experts = top.shape[0]
    union = np.zeros((die.max() + 1, num_experts), np.bool_)
    for task in range(expert.size):
        for j in range(num_experts):
            union[die[task], j] |= top[expert[task], j]
    result = np.zeros(expert.size, np.bool_)
    for task in range(expert.size):
        result[task] = remote[task] and union[die[task], expert[task]]
    return result


def top_of_rows(heat: IntArray, count: int, *, only_seen: bool = True) -> BoolArray:
    """Mark the *count* largest entries of each row, equal ones from the left, [experts, experts].

    With *only_seen*, entries of zero are never marked.
    """
    top: BoolArray = _tops(heat, count, 1 if only_seen else np.iinfo(np.int64).min)
    return top


@numba.njit(cache=True)
def _tops(heat, count, least):  # type: ignore[no-untyped-def]
    """Mark the *count* largest entries of each row, equal ones from the left, where they are *least* or more."""
    rows, columns = heat.shape
    top = np.zeros(heat.shape, np.bool_)
    count = min(count, columns)
    for i in range(rows):
        if count == 0:
            break
        edge = np.partition(heat[i], columns - count)[columns - count]  # the smallest entry among the largest
        equal = count
        for j in range(columns):
            if heat[i, j] > edge:
                top[i, j] = heat[i, j] >= least
                equal -= 1
        for j in range(columns):
            if heat[i, j] == edge and equal > 0:
                top[i, j] = edge >= least
                equal -= 1
    return top


PREDICTIONS: dict[str, type[Prediction]] = {"never": Never, "token_heatmap": TokenHeatmap}
