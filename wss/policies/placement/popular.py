"""Insight 4 of the paper: duplicate popular experts."""

from __future__ import annotations

from dataclasses import dataclass

from wss.policies.parts import Placement
from wss.policies.placement.basic import Extra
from wss.policies.placement.dup import contiguous_with_space
from wss.policies.placement.packing import heaviest_first
from wss.policies.signals import Signal
from wss.policies.views import PlacementView
from wss.records import BoolArray


@dataclass(frozen=True, kw_only=True)
class PopularEverywhere(Placement):
    """Contiguous, and replicas on every die of the experts of each layer that had the most tokens in the prefill.

    Parameters
    ----------
    extra
        Number of experts replicated, limited by free slots.
    """

    signals = frozenset({Signal.PREFILL_LOAD})

    extra: Extra = 1

    def place(self, view: PlacementView) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        holders, free = contiguous_with_space(view, self.extra)
        for layer, tokens in enumerate(view.expected):
            for rank, expert in enumerate(heaviest_first(tokens)[: self.extra]):
                holders[layer, expert] |= rank < free[layer]
        return holders
