"""Prediction: which experts each die will want again, from routing that has happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Protocol

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
        result = np.zeros(len(plan.expert), np.bool_)
        remote = np.flatnonzero(plan.remote)
        if remote.size == 0:
            return result
        top = top_of_rows(heat, math.ceil(self.share * len(heat)))
        for die in np.unique(plan.die[remote]):
            fetched = remote[plan.die[remote] == die]
            rows = plan.expert[plan.die == die]
            result[fetched] = top[rows][:, plan.expert[fetched]].any(axis=0)
        return result


def top_of_rows(heat: IntArray, count: int, *, only_seen: bool = True) -> BoolArray:
    """Mark the *count* largest entries of each row, equal ones from the left, [experts, experts].

    With *only_seen*, entries of zero are never marked.
    """
    rank = np.argsort(-heat, axis=1, kind="stable")[:, :count]
    top = np.zeros(heat.shape, np.bool_)
    np.put_along_axis(top, rank, True, axis=1)
    return top & (heat > 0) if only_seen else top


PREDICTIONS: dict[str, type[Prediction]] = {"never": Never, "token_heatmap": TokenHeatmap}
