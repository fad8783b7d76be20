"""Prefetching: what each die, when it is done with a kernel, should read into its LLC for the next layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wss.errors import CHECKED
from wss.records import BoolArray, IntArray


class Prefetching(Protocol):
    """Says which experts of the next layer a die should have in its LLC; a pure function."""

    def ahead(self, seen: IntArray, holders: BoolArray, slots: int) -> IntArray:
        """Return experts of the next layer for each die, most wanted first, -1 where there is none, [dies, any].

        Parameters
        ----------
        seen
            Tokens that each expert of the next layer has had up to now, [experts].
        holders
            Which dies hold each of them in their HBM, [experts, dies]; a die can only prefetch what it holds.
        slots
            How many experts an LLC has room for.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class NoPrefetch:
    """Prefetch nothing."""

    __pydantic_config__ = CHECKED

    def ahead(self, seen: IntArray, holders: BoolArray, slots: int) -> IntArray:
        """Return nothing for any die."""
        return np.zeros((holders.shape[1], 0), np.int64)


@dataclass(frozen=True, kw_only=True)
class Popular:
    """The experts of the die that have had most tokens so far; of equals the lower expert."""

    __pydantic_config__ = CHECKED

    def ahead(self, seen: IntArray, holders: BoolArray, slots: int) -> IntArray:
        """Return the *slots* most popular of what each die holds, [dies, slots]."""
        score = np.where(holders.T, seen, 0)
        best = np.argsort(-score, axis=1, kind="stable")[:, :slots]
        return np.where(np.take_along_axis(score, best, axis=1) > 0, best, -1)


PREFETCHINGS: dict[str, type[Prefetching]] = {"none": NoPrefetch, "popular": Popular}
