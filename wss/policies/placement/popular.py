"""Insight 4 of the paper: duplicate popular experts."""

from __future__ import annotations

from dataclasses import dataclass

from wss.policies.placement.dup import Replicating
from wss.policies.placement.packing import heaviest_first
from wss.policies.views import PlacementView
from wss.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class PopularEverywhere(Replicating):
    """Contiguous, and replicas of the busiest experts of the prefill on every die.

    Parameters
    ----------
    extra
        Number of experts replicated, limited by free slots.
    """

    def add(self, tokens: FloatArray, held: BoolArray, free: IntArray, view: PlacementView) -> None:
        """Add those of one layer."""
        for rank, expert in enumerate(heaviest_first(tokens)[: self.extra]):
            held[expert] |= rank < free
