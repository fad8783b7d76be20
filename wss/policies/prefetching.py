"""Prefetching: which experts of the next layer each idle die reads into its LLC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numba
import numpy as np

from wss.errors import CHECKED
from wss.records import BoolArray, FloatArray, IntArray

PREFETCHING_NEEDS = ("tokens", "layers")


class Prefetching(Protocol):
    """Selects the experts of the next layer that a die should have in its LLC; a pure function."""

    def ahead(self, seen: IntArray | FloatArray, holders: BoolArray, slots: int) -> IntArray:
        """Return experts of the next layer for each die, highest priority first, padded with -1, [dies, any].

        Parameters
        ----------
        seen
            Tokens of each expert of the next layer so far, [experts]. If the class attribute `needs` is "layers":
            tokens predicted for each in the next layer run, by `followers`.
        holders
            The dies that hold each of them in their HBM, [experts, dies]; a die can only prefetch what it holds.
        slots
            Number of experts that fit in an LLC.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class NoPrefetch:
    """Prefetch nothing."""

    __pydantic_config__ = CHECKED

    def ahead(self, seen: IntArray | FloatArray, holders: BoolArray, slots: int) -> IntArray:
        """Return no expert for any die."""
        return np.zeros((holders.shape[1], 0), np.int64)


@dataclass(frozen=True, kw_only=True)
class Popular:
    """The experts of the die with the most tokens so far; ties: the lower expert."""

    __pydantic_config__ = CHECKED

    def ahead(self, seen: IntArray | FloatArray, holders: BoolArray, slots: int) -> IntArray:
        """Return the *slots* most popular experts that each die holds, [dies, slots]."""
        score = np.where(holders.T, seen, 0)
        best = np.argsort(-score, axis=1, kind="stable")[:, :slots]
        return np.where(np.take_along_axis(score, best, axis=1) > 0, best, -1)


@dataclass(frozen=True, kw_only=True)
class LayerHeatmap(Popular):
    """The experts of the die with the most predicted tokens, from the transitions to the next layer.

    After the last layer, and if no transitions are recorded yet, the popular experts.
    """

    needs: ClassVar[str] = "layers"


def followers(counts: IntArray, heat: IntArray, seen: IntArray) -> FloatArray:
    """Return the predicted tokens of each expert of the next layer, [experts].

    Of the *counts*[i] tokens of expert i of this layer, heat[i, j] / sum of heat[i] go to expert j.

    Parameters
    ----------
    counts
        Tokens of each expert in this layer run, [experts].
    heat
        How often a token of expert i of this layer was sent to expert j of the next one, [experts, experts].
    seen
        Tokens of each expert of the next layer so far, [experts]; returned if *heat* has no entry for any of *counts*.
    """
    expected: FloatArray = _followers(counts, heat)
    return expected if expected.any() else seen.astype(np.float64)


@numba.njit(cache=True, nogil=True)
def _followers(counts, heat):  # type: ignore[no-untyped-def]
    """Return the sum over i of counts[i] · heat[i] / the sum of heat[i], [experts]."""
    expected = np.zeros(heat.shape[1])
    for i in range(counts.size):
        total = heat[i].sum()
        if counts[i] > 0 and total > 0:
            expected += counts[i] / total * heat[i]
    return expected


PREFETCHINGS: dict[str, type[Prefetching]] = {"none": NoPrefetch, "popular": Popular, "layer_heatmap": LayerHeatmap}
