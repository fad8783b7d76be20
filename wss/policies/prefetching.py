"""Prefetching: which experts of the next layer each idle die reads into its LLC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.policies.parts import Prefetching
from wss.policies.prediction import followed_by
from wss.policies.signals import Signal
from wss.policies.views import PrefetchView
from wss.records import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class NoPrefetch(Prefetching):
    """Prefetch nothing."""

    def prefetch(self, view: PrefetchView) -> IntArray:
        """Return no expert for any die."""
        return np.zeros((view.holders.shape[1], 0), np.int64)


@dataclass(frozen=True, kw_only=True)
class Popular(Prefetching):
    """The experts of the die that had the most tokens so far.

    Ties: the lower expert.
    """

    signals = frozenset({Signal.POPULARITY})

    def prefetch(self, view: PrefetchView) -> IntArray:
        """Return the experts with the most tokens that each die holds, [dies, slots]."""
        score = np.where(view.holders.T, self.tokens(view), 0)
        best = np.argsort(-score, axis=1, kind="stable")[:, : view.slots]
        return np.where(np.take_along_axis(score, best, axis=1) > 0, best, -1)

    def tokens(self, view: PrefetchView) -> IntArray | FloatArray:
        """Return the tokens that rank the experts of the next layer, [experts]."""
        return view.popularity


@dataclass(frozen=True, kw_only=True)
class LayerHeatmap(Popular):
    """The experts of the die that tokens most likely use in the next layer.

    By the transitions to the next layer so far. After the last layer, and if no transitions are recorded yet, the
    popular experts.
    """

    signals = frozenset({Signal.POPULARITY, Signal.LAYER_TRANSITIONS})

    def tokens(self, view: PrefetchView) -> FloatArray:
        """Return the tokens predicted by `followers`, [experts]."""
        return followers(view.counts, view.layer_transitions, view.popularity)


def followers(counts: IntArray, transitions: IntArray, popularity: IntArray) -> FloatArray:
    """Return the predicted tokens of each expert of the next layer, [experts].

    Of the *counts*[i] tokens of expert i of this layer, transitions[i, j] / sum of transitions[i] go to expert j.

    Parameters
    ----------
    counts
        Tokens of each expert in this layer run, [experts].
    transitions
        How often a token of expert i of this layer was sent to expert j of the next one, [experts, experts].
    popularity
        Tokens of each expert of the next layer so far, [experts]; returned if *transitions* has no entry for any of
        *counts*.
    """
    experts = np.flatnonzero(counts)
    expected: FloatArray = followed_by(transitions, experts, np.zeros_like(experts), counts[experts], 1)[0]
    return expected if expected.any() else popularity.astype(np.float64)
