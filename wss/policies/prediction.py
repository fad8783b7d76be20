"""Prediction: which experts each die will use again, from past routing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Le

from wss.compiling import borrowing, compiled
from wss.policies.parts import Forecasting, Prediction
from wss.policies.signals import Signal
from wss.policies.views import PredictionView
from wss.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Never(Prediction):
    """Keep no copies."""

    def predict(self, view: PredictionView) -> BoolArray:
        """Return all False."""
        return np.zeros(len(view.plan.expert), np.bool_)


@dataclass(frozen=True, kw_only=True)
class Always(Prediction):
    """Keep every fetched expert; the caching rule decides what stays."""

    def predict(self, view: PredictionView) -> BoolArray:
        """Return the remote tasks."""
        return view.plan.remote


@dataclass(frozen=True, kw_only=True)
class TokenHeatmap(Forecasting):
    """The paper's: the experts that most often follow those that a die computes now.

    These are the top of the heatmap rows of the experts that it computes.

    Parameters
    ----------
    share
        Size of a row's top, as a share of all experts (rounded up). Experts with a count of zero are in it only if
        `unseen` is set. Ties: the lower expert.
    """

    signals = frozenset({Signal.TRANSITIONS})
    unseen: ClassVar[bool] = False

    share: Annotated[float, Gt(0), Le(1)] = 0.2

    def predict(self, view: PredictionView) -> BoolArray:
        """Return the remote tasks whose expert is at the top of any row of their die, [tasks]."""
        counts, plan = self.transitions(view), view.plan
        top = math.ceil(self.share * len(counts))
        selected: BoolArray = np.zeros(len(plan.expert), np.bool_)
        by_die = np.argsort(plan.die, kind="stable")
        _select_tops(counts, top, self.unseen, plan.expert, plan.die, plan.remote, by_die, selected)
        return selected

    def expected_tokens(self, view: PredictionView) -> FloatArray:
        """Return the tokens of each expert predicted to follow those that each die computes now, [dies, experts]."""
        plan = view.plan
        expected: FloatArray = followed_by(self.transitions(view), plan.expert, plan.die, plan.tokens, view.num_dies)
        return expected

    def transitions(self, view: PredictionView) -> IntArray | FloatArray:
        """Return the transitions that it predicts by, those of its only signal, [experts, experts]."""
        (signal,) = self.signals
        transitions: IntArray | FloatArray = view.signals[signal]
        return transitions


@dataclass(frozen=True, kw_only=True)
class PaperHeatmap(TokenHeatmap):
    """The token heatmap as in the paper's own simulator, which also admits experts never seen; for its physics only."""

    unseen = True


@dataclass(frozen=True, kw_only=True)
class PrefillHeatmap(TokenHeatmap):
    """The token heatmap of the prefill alone, as it is at the start of decode.

    The paper's insight 1.
    """

    signals = frozenset({Signal.PREFILL_TRANSITIONS})


@dataclass(frozen=True, kw_only=True)
class DecayingHeatmap(TokenHeatmap):
    """The token heatmap, in which a pair counts half after `half_life` steps.

    The prefill is one step.
    """

    signals = frozenset({Signal.DECAYED_TRANSITIONS})

    half_life: Annotated[float, Gt(0), Le(1e6)] = 4.0


@dataclass(frozen=True, kw_only=True)
class Oracle(Forecasting):
    """An oracle: the experts that the die computes again in the next step."""

    signals = frozenset({Signal.NEXT_STEP})

    def predict(self, view: PredictionView) -> BoolArray:
        """Return the remote tasks whose expert their die computes in the next step, [tasks]."""
        plan = view.plan
        return plan.remote & (view.next_step[plan.die, plan.expert] > 0)

    def expected_tokens(self, view: PredictionView) -> FloatArray:
        """Return 1 if the die computes the expert in the next step, else 0, [dies, experts]."""
        return view.next_step.astype(np.float64)


@borrowing
def _is_top(row, entry, count, unseen):  # type: ignore[no-untyped-def]
    """Whether an entry is among the *count* largest of a *row*, and above zero or *unseen*; ties: from the left."""
    mine = row[entry]
    if mine <= 0 and not unseen:
        return False
    before = 0
    for j in range(row.size):
        before += row[j] > mine or (row[j] == mine and j < entry)
    return before < count


@borrowing
def _select_tops(transitions, count, unseen, expert, die, remote, by_die, result):  # type: ignore[no-untyped-def]
    """Set *result* for *remote* tasks with an expert in the top *count* of any row that their die computes, [tasks].

    Only entries of fetched experts are ranked: a die fetches few experts, and most are in the top of the first row.
    """
    for first in range(expert.size):
        task = by_die[first]
        if not remote[task]:
            continue
        start = first
        while start > 0 and die[by_die[start - 1]] == die[task]:
            start -= 1
        i = start
        while i < expert.size and die[by_die[i]] == die[task] and not result[task]:
            result[task] = _is_top(transitions[expert[by_die[i]]], expert[task], count, unseen)
            i += 1


@compiled
def followed_by(transitions, expert, die, tokens, num_dies):  # type: ignore[no-untyped-def]
    """Return, for each die, the sum over its tasks of tokens · transitions' row / the row's sum, [dies, experts]."""
    num_experts = transitions.shape[0]
    expected = np.zeros((num_dies, num_experts))
    for task in range(expert.size):
        row = transitions[expert[task]]
        total = row.sum()
        if total > 0:
            each = tokens[task] / total
            for j in range(num_experts):
                expected[die[task], j] += each * row[j]
    return expected
