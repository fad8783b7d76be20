"""Rebalancing: when experts are placed anew while decode runs, and by which of the load seen so far.

The policy's placement is asked again with that load. Three rules keep what has to move small, and all are pure
functions of what has happened: a new layout may be a renumbering of the old one (`matched`), a layer moves only where
that is foreseen to be worth it (`worthwhile`), and an expert that lies where it should is not moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from annotated_types import Ge, Le

from wss.errors import CHECKED
from wss.policies.views import PlacementView
from wss.records import FloatArray, IntArray
from wss.traces.load_history import LoadHistorySpec

Steps = Annotated[int, Ge(1), Le(10**6)]
How = Literal["blocking", "background"]


class Rebalancing(Protocol):
    """Says, before a decode step, whether to place experts anew, and by which load.

    Attributes of a class, where it has them, say how weights move: ``how``, "blocking" (all before the step, which
    waits; so it is without the attribute) or "background" (with what layer runs leave of HBMs and links), and ``gain``,
    by which share of the largest die's time a layer has to get better to be moved at all (0: any layer that changes). A
    class with a ``history`` (`LoadHistorySpec`) is handed its loads, [layers, experts], after *counts*.
    """

    def look_back(self, counts: IntArray) -> IntArray | None:
        """Return the load to place by, [layers, experts], or None to leave experts where they are.

        *counts* is the tokens of each expert in the decode steps so far, the first first, [steps, layers, experts];
        layers are those that are run.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class NoRebalancing:
    """Experts stay where they were placed before decode."""

    __pydantic_config__ = CHECKED

    def look_back(self, counts: IntArray) -> IntArray | None:
        """Return None."""
        return None


@dataclass(frozen=True, kw_only=True)
class Every:
    """Every so many decode steps, by the load of the last ones.

    Parameters
    ----------
    steps
        Decode steps from one rebalancing to the next.
    window
        Decode steps looked back on, as far as there have been so many.
    how, gain
        As in `Rebalancing`.
    """

    __pydantic_config__ = CHECKED

    steps: Steps = 16
    window: Steps = 32
    how: How = "background"
    gain: Annotated[float, Ge(0), Le(1)] = 0.0

    def look_back(self, counts: IntArray) -> IntArray | None:
        """Return the tokens of the last *window* steps, [layers, experts], when *steps* more have been done."""
        if len(counts) % self.steps:
            return None
        load: IntArray = counts[-self.window :].sum(axis=0)
        return load


@dataclass(frozen=True, kw_only=True)
class Coming:
    """Once, for a workload that is known to come: by the loads of what was served of it before.

    Parameters
    ----------
    at
        The decode step before which experts set out for their new places.
    history
        What was served before.
    how, gain
        As in `Rebalancing`.
    """

    __pydantic_config__ = CHECKED

    at: Annotated[int, Ge(2), Le(10**6)]
    history: LoadHistorySpec
    how: How = "background"
    gain: Annotated[float, Ge(0), Le(1)] = 0.0

    def look_back(self, counts: IntArray, earlier: IntArray | None = None) -> IntArray | None:
        """Return *earlier*, the load that the history tells, [layers, experts], when step *at* is next."""
        return earlier if len(counts) == self.at - 1 else None


REBALANCINGS: dict[str, type[Rebalancing]] = {"none": NoRebalancing, "every": Every, "coming": Coming}


def matched(now: IntArray, then: IntArray) -> IntArray:
    """Renumber the dies of *then*, layer by layer, so that most experts lie where they do *now*.

    Both are replicas on each die, [layers, experts, dies]. Only for layouts to which one die is as good as another.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - slow to import, and seldom needed

    renumbered = np.empty_like(then)
    for layer, (old, new) in enumerate(zip(now, then, strict=True)):
        stay = (new > 0).T.astype(np.int64) @ (old > 0)  # experts that stay if die i of new is die j of old
        columns, dies = linear_sum_assignment(stay, maximize=True)
        renumbered[layer][:, dies] = new[:, columns]
    return renumbered


def worthwhile(now: IntArray, then: IntArray, tokens: FloatArray, history: PlacementView, gain: float) -> IntArray:
    """Return *then* for the layers in which it makes the largest die's time less by the share *gain*, else *now*.

    Parameters
    ----------
    now, then
        Replicas on each die, [layers, experts, dies].
    tokens
        Expected tokens of each expert in a layer run, [layers, experts], in equal parts on all its replicas.
    history
        Knows what tokens cost.
    gain
        0 for any layer.
    """
    if gain == 0:
        return then

    def longest(replicas: IntArray) -> FloatArray:
        parts = (tokens / replicas.sum(axis=2))[:, :, None] * replicas
        most: FloatArray = history.seconds(parts).sum(axis=1).max(axis=1)
        return most

    better = longest(then) <= (1.0 - gain) * longest(now)
    chosen: IntArray = np.where(better[:, None, None], then, now)
    return chosen
