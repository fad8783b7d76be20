"""Rebalancing: when to place experts again during decode, and by which past load.

The policy's placement is computed again from that load. Three rules limit how much moves, all pure functions of the
past: a new layout may be a renumbering of the old one (`matched`), a layer moves only if the predicted gain is worth it
(`worthwhile`), and an expert that already lies where it should is not moved.
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
    """Decides before each decode step whether to place experts again, and by which load.

    Optional class attributes define how weights move. ``how`` is "blocking" (the default; the step waits until all have
    moved) or "background" (with the HBM and link bandwidth that layer runs leave). ``gain`` is the share of the largest
    die's time by which a layer has to improve to be moved (0: any layer that changes). If a class has a ``history``
    (`LoadHistorySpec`), its loads, [layers, experts], are passed after *counts*.
    """

    def look_back(self, counts: IntArray) -> IntArray | None:
        """Return the load to place by, [layers, experts], or None to leave experts where they are.

        *counts* is the tokens of each expert in the decode steps so far, in order, [steps, layers, experts]; layers
        are those that are run.
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
    """Every *steps* decode steps, by the load of the last *window* steps.

    Parameters
    ----------
    steps
        Decode steps from one rebalancing to the next.
    window
        Decode steps whose load is used, or all so far if there are fewer.
    how, gain
        As in `Rebalancing`.
    """

    __pydantic_config__ = CHECKED

    steps: Steps = 16
    window: Steps = 32
    how: How = "background"
    gain: Annotated[float, Ge(0), Le(1)] = 0.0

    def look_back(self, counts: IntArray) -> IntArray | None:
        """Return the tokens of the last *window* steps, [layers, experts], after every *steps* steps; else None."""
        if len(counts) % self.steps:
            return None
        load: IntArray = counts[-self.window :].sum(axis=0)
        return load


@dataclass(frozen=True, kw_only=True)
class Coming:
    """Once, for a workload that is known to come: by the loads of its requests served before.

    Parameters
    ----------
    at
        The decode step before which experts begin to move.
    history
        The load history.
    how, gain
        As in `Rebalancing`.
    """

    __pydantic_config__ = CHECKED

    at: Annotated[int, Ge(2), Le(10**6)]
    history: LoadHistorySpec
    how: How = "background"
    gain: Annotated[float, Ge(0), Le(1)] = 0.0

    def look_back(self, counts: IntArray, earlier: IntArray | None = None) -> IntArray | None:
        """Return *earlier*, the load from the history, [layers, experts], if step *at* is next; else None."""
        return earlier if len(counts) == self.at - 1 else None


REBALANCINGS: dict[str, type[Rebalancing]] = {"none": NoRebalancing, "every": Every, "coming": Coming}


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


def worthwhile(now: IntArray, then: IntArray, tokens: FloatArray, history: PlacementView, gain: float) -> IntArray:
    """Return *then* for layers in which it shortens the largest die's time by at least the share *gain*, else *now*.

    Parameters
    ----------
    now, then
        Replicas on each die, [layers, experts, dies].
    tokens
        Expected tokens of each expert in a layer run, [layers, experts], split equally over all its replicas.
    history
        The view that gives the costs of tokens.
    gain
        0 to return *then* for all layers.
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
