"""Prediction: which experts each die will use again, from past routing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numba
import numpy as np
from annotated_types import Gt, Le

from wss.arrays import stable_order
from wss.errors import CHECKED
from wss.records import BoolArray, FloatArray, IntArray, Plan

PREDICTION_NEEDS = ("nothing", "pairs", "prefill", "decayed", "next")


class Prediction(Protocol):
    """Selects the remote experts worth a copy, among those that a die reads now; a pure function.

    The class attribute `needs` selects the contents of *heat*; the default is "pairs":

    * "pairs": *heat*[i, j] counts how often, in this layer and up to this layer run, a token sent to expert i was
      followed by a token of the same request sent to expert j, [experts, experts];
    * "prefill": the same, for the prefill only;
    * "decayed": the same, but a pair of n steps ago counts 2^(-n / half_life); half_life is an attribute;
    * "next", for oracles only: the experts that each die computes in the layer's next layer run, [dies, experts], 0 or
      1;
    * "nothing": zeros, [experts, experts].
    """

    def wanted(self, heat: IntArray | FloatArray, plan: Plan) -> BoolArray:
        """Return the tasks whose expert is fetched and predicted to be used again by their die, bool [tasks]."""
        ...


class Expecting(Prediction, Protocol):
    """A prediction that also gives caching rules the predicted use of a copy."""

    def expected(self, heat: IntArray | FloatArray, plan: Plan, num_dies: int) -> FloatArray:
        """Return the predicted use of each expert on each die in the layer's next layer run, [dies, experts]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Never:
    """Keep nothing."""

    __pydantic_config__ = CHECKED

    needs: ClassVar[str] = "nothing"

    def wanted(self, heat: IntArray | FloatArray, plan: Plan) -> BoolArray:
        """Return all False."""
        return np.zeros(len(plan.expert), np.bool_)


@dataclass(frozen=True, kw_only=True)
class Always:
    """Keep every fetched expert; the caching rule decides what stays."""

    __pydantic_config__ = CHECKED

    needs: ClassVar[str] = "nothing"

    def wanted(self, heat: IntArray | FloatArray, plan: Plan) -> BoolArray:
        """Return the remote tasks."""
        return plan.remote


@dataclass(frozen=True, kw_only=True)
class TokenHeatmap:
    """The paper's predictor: the top of the heatmap rows of the experts that a die computes now.

    Parameters
    ----------
    share
        Size of a row's top, as a share of all experts (rounded up). Experts with a count of zero are never in it. Ties:
        the lower expert.
    """

    __pydantic_config__ = CHECKED

    needs: ClassVar[str] = "pairs"

    share: Annotated[float, Gt(0), Le(1)] = 0.2

    def wanted(self, heat: IntArray | FloatArray, plan: Plan) -> BoolArray:
        """Return the remote tasks whose expert is at the top of any row of their die, [tasks]."""
        top = math.ceil(self.share * len(heat))
        wanted: BoolArray = _in_tops(heat, top, plan.expert, plan.die, plan.remote)
        return wanted

    def expected(self, heat: IntArray | FloatArray, plan: Plan, num_dies: int) -> FloatArray:
        """Return the tokens of each expert predicted to follow those that each die computes now, [dies, experts]."""
        expected: FloatArray = _followers(heat, plan.expert, plan.die, plan.tokens, num_dies)
        return expected


@dataclass(frozen=True, kw_only=True)
class PrefillHeatmap(TokenHeatmap):
    """The token heatmap of the prefill, as at the start of decode (the paper's insight 1)."""

    needs: ClassVar[str] = "prefill"


@dataclass(frozen=True, kw_only=True)
class DecayingHeatmap(TokenHeatmap):
    """The token heatmap in which a pair counts half after *half_life* steps; the prefill is one step."""

    needs: ClassVar[str] = "decayed"

    half_life: Annotated[float, Gt(0), Le(1e6)] = 4.0


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What the die computes again in the layer's next layer run; an oracle: it uses the next step's routing."""

    __pydantic_config__ = CHECKED

    needs: ClassVar[str] = "next"

    def wanted(self, heat: IntArray | FloatArray, plan: Plan) -> BoolArray:
        """Return the remote tasks whose expert their die computes in the next step, [tasks]."""
        wanted: BoolArray = plan.remote & (heat[plan.die, plan.expert] > 0)
        return wanted

    def expected(self, heat: IntArray | FloatArray, plan: Plan, num_dies: int) -> FloatArray:
        """Return 1 if the die computes the expert in the next step, else 0, [dies, experts]."""
        return heat.astype(np.float64)


@numba.njit(cache=True, nogil=True)
def _is_top(row, entry, count):  # type: ignore[no-untyped-def]
    """Whether an entry is above zero and among the *count* largest of a *row*; ties: from the left."""
    mine = row[entry]
    if mine <= 0:
        return False
    before = 0
    for j in range(row.size):
        before += row[j] > mine or (row[j] == mine and j < entry)
    return before < count


@numba.njit(cache=True, nogil=True)
def _in_tops(heat, count, expert, die, remote):  # type: ignore[no-untyped-def]
    """Return which *remote* tasks have an expert in the top *count* of any row that their die computes, [tasks].

    Only entries of fetched experts are ranked: a die fetches few experts, and most are in the top of the first row.
    """
    by_die = stable_order(die)
    result = np.zeros(expert.size, np.bool_)
    for first in range(expert.size):
        task = by_die[first]
        if not remote[task]:
            continue
        start = first
        while start > 0 and die[by_die[start - 1]] == die[task]:
            start -= 1
        i = start
        while i < expert.size and die[by_die[i]] == die[task] and not result[task]:
            result[task] = _is_top(heat[expert[by_die[i]]], expert[task], count)
            i += 1
    return result


@numba.njit(cache=True, nogil=True)
def _followers(heat, expert, die, tokens, num_dies):  # type: ignore[no-untyped-def]
    """Return, for each die, the sum over its tasks of tokens · heat row / the row's sum, [dies, experts]."""
    num_experts = heat.shape[0]
    expected = np.zeros((num_dies, num_experts))
    for task in range(expert.size):
        row = heat[expert[task]]
        total = row.sum()
        if total > 0:
            each = tokens[task] / total
            for j in range(num_experts):
                expected[die[task], j] += each * row[j]
    return expected


PREDICTIONS: dict[str, type[Prediction]] = {
    "never": Never,
    "always": Always,
    "token_heatmap": TokenHeatmap,
    "prefill_heatmap": PrefillHeatmap,
    "decaying_heatmap": DecayingHeatmap,
    "oracle": Oracle,
}
