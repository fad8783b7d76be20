"""Rebalancing: when to place experts again during decode, and by which past load.

The policy's placement is computed again from that load. Three rules limit how much moves, all pure functions of the
past: a new layout may be a renumbering of the old one (`matched`), a layer moves only if the predicted gain is worth it
(`worthwhile`), and an expert that already lies where it should is not moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from wss.policies.parts import How, Rebalancing
from wss.policies.views import LoadView, PlacementView
from wss.records import FloatArray, IntArray
from wss.traces.load_history import LoadHistorySpec

Steps = Annotated[int, Ge(1), Le(10**6)]


@dataclass(frozen=True, kw_only=True)
class NoRebalancing(Rebalancing):
    """Experts stay where they were placed before decode."""

    def rebalance(self, view: LoadView) -> IntArray | None:
        """Return None."""
        return None


@dataclass(frozen=True, kw_only=True)
class Every(Rebalancing):
    """Every `steps` decode steps, by the load of the last `window` steps.

    Parameters
    ----------
    steps
        Decode steps from one rebalancing to the next.
    window
        Decode steps whose load is used, or all so far if there are fewer.
    how, gain
        As in `Rebalancing`.
    """

    steps: Steps = 16
    window: Steps = 32
    how: How = "background"
    gain: Annotated[float, Ge(0), Le(1)] = 0.0

    def rebalance(self, view: LoadView) -> IntArray | None:
        """Return the tokens of the last *window* steps, [layers, experts], after every *steps* steps; else None."""
        if len(view.counts) % self.steps:
            return None
        load: IntArray = view.counts[-self.window :].sum(axis=0)
        return load


@dataclass(frozen=True, kw_only=True)
class Coming(Rebalancing):
    """Once, for a workload that is known to come, by the loads of its earlier requests.

    Parameters
    ----------
    at
        The decode step before which experts begin to move.
    history
        The load history.
    how, gain
        As in `Rebalancing`.
    """

    at: Annotated[int, Ge(2), Le(10**6)]
    history: LoadHistorySpec
    how: How = "background"
    gain: Annotated[float, Ge(0), Le(1)] = 0.0

    def load_history(self) -> LoadHistorySpec:
        """Return the load history."""
        return self.history

    def rebalance(self, view: LoadView) -> IntArray | None:
        """Return the loads of the history, [layers, experts], if step *at* is next; else None."""
        return view.history if len(view.counts) == self.at - 1 else None


def matched(now: IntArray, then: IntArray) -> IntArray:
    """Renumber the dies of *then*, layer by layer, so that as many experts as possible stay where they are *now*.

    This is a linear assignment per layer. Both arrays are replicas on each die, [layers, experts, dies]. Only for
    layouts in which dies are interchangeable.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - slow to import, and rarely needed

    renumbered = np.empty_like(then)
    for layer, (old, new) in enumerate(zip(now, then, strict=True)):
        stay = (new > 0).T.astype(np.int64) @ (old > 0)  # experts that stay if die i of new is die j of old
        columns, dies = linear_sum_assignment(stay, maximize=True)
        renumbered[layer][:, dies] = new[:, columns]
    return renumbered


def worthwhile(now: IntArray, then: IntArray, tokens: FloatArray, view: PlacementView, gain: float) -> IntArray:
    """Return *then* for layers in which it shortens the largest die's time by at least the share *gain*, else *now*.

    Parameters
    ----------
    now, then
        Replicas on each die, [layers, experts, dies].
    tokens
        Expected tokens of each expert in a layer run, [layers, experts], split equally over all its replicas.
    view
        The view that gives the costs of tokens.
    gain
        0 to return *then* for all layers.
    """
    if gain == 0:
        return then

    def longest(replicas: IntArray) -> FloatArray:
        parts = (tokens / replicas.sum(axis=2))[:, :, None] * replicas
        most: FloatArray = view.seconds(parts).sum(axis=1).max(axis=1)
        return most

    better = longest(then) <= (1.0 - gain) * longest(now)
    return np.where(better[:, None, None], then, now)
