"""Replicas spread over the mesh so that weights are near: a greedy k-median."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.compiling import borrowing, compiled
from wss.policies.placement.dup import Replicating
from wss.policies.views import PlacementView
from wss.records import BoolArray, FloatArray, IntArray

FAR = np.iinfo(np.int64).max


@borrowing
def _approach(distance, hops):  # type: ignore[no-untyped-def]
    """Lower *distance*, from each die to the nearest holder, where a new holder is *hops* away, [dies] each."""
    for x in range(hops.size):
        distance[x] = min(distance[x], hops[x])


@borrowing
def _savings(tokens, distance, hops, saved):  # type: ignore[no-untyped-def]
    """Write to *saved* [dies] what a replica on each die would save in tokens · hops, summed over dies."""
    for d in range(hops.shape[0]):
        total = 0.0
        for x in range(hops.shape[0]):
            total += max(0, distance[x] - hops[d, x])
        saved[d] = tokens * total


@compiled
def bring_near(tokens, held, free, hops):  # type: ignore[no-untyped-def]
    """Add to *held* [experts, dies], in place, the replica that saves most, one by one, into *free* slots [dies].

    A replica saves tokens [experts] · hops to the nearest holder, with equal weight for all dies. Ties: the lower
    expert, then the lower die. It stops when no replica saves anything.
    """
    num_experts, num_dies = held.shape
    distance = np.full((num_experts, num_dies), FAR)
    saved = np.empty((num_experts, num_dies))
    for e in range(num_experts):
        for d in range(num_dies):
            if held[e, d]:
                _approach(distance[e], hops[d])
        _savings(tokens[e], distance[e], hops, saved[e])
    for _ in range(free.sum()):
        best_expert, best_die, best = -1, -1, 0.0
        for e in range(num_experts):
            for d in range(num_dies):
                if free[d] > 0 and saved[e, d] > best:
                    best_expert, best_die, best = e, d, saved[e, d]
        if best_expert < 0:
            break
        held[best_expert, best_die] = True
        free[best_die] -= 1
        _approach(distance[best_expert], hops[best_die])
        _savings(tokens[best_expert], distance[best_expert], hops, saved[best_expert])


@dataclass(frozen=True, kw_only=True)
class Near(Replicating):
    """Contiguous, and replicas where they shorten remote reads the most, by prefill loads.

    What is shortened is byte-hops, expected if any die may read any expert.

    Parameters
    ----------
    extra
        Replicas on each die in each layer, limited by free slots.
    """

    def add(self, tokens: FloatArray, held: BoolArray, free: IntArray, view: PlacementView) -> None:
        """Add those of one layer by `bring_near`."""
        bring_near(tokens, held, free, view.hops)
