"""Insight 4 of the paper: duplicate popular experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wss.errors import CHECKED
from wss.policies.placement.basic import Extra
from wss.policies.placement.dup import contiguous_with_room
from wss.policies.placement.packing import heaviest_first
from wss.policies.views import PlacementView
from wss.records import BoolArray, IntArray


@dataclass(frozen=True, kw_only=True)
class PopularEverywhere:
    """Contiguous, and replicas on every die of the experts of each layer that had the most tokens in the prefill.

    Parameters
    ----------
    extra
        Number of experts replicated, limited by free slots.
    """

    __pydantic_config__ = CHECKED
    needs: ClassVar[str] = "prefill"

    extra: Extra = 1

    def place(self, history: PlacementView, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        holders, free = contiguous_with_room(history, hops, self.extra)
        for layer, tokens in enumerate(history.expected):
            for rank, expert in enumerate(heaviest_first(tokens)[: self.extra]):
                holders[layer, expert] |= rank < free[layer]
        return holders
