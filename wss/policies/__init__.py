"""Policies and their six parts: placement, allocation, prediction, caching, prefetching, rebalancing."""

from wss.policies.allocation.basic import ALLOCATIONS
from wss.policies.caching import CACHINGS
from wss.policies.copy_rules import CopyRules
from wss.policies.placement import PLACEMENTS
from wss.policies.prediction import PREDICTIONS
from wss.policies.prefetching import PREFETCHINGS
from wss.policies.presets import POLICIES, Policy
from wss.policies.rebalancing import REBALANCINGS
from wss.policies.views import Costs, LayerView, PlacementView
from wss.traces.load_history import LoadHistorySpec

__all__ = [
    "ALLOCATIONS",
    "CACHINGS",
    "PLACEMENTS",
    "POLICIES",
    "PREDICTIONS",
    "PREFETCHINGS",
    "REBALANCINGS",
    "CopyRules",
    "Costs",
    "LayerView",
    "LoadHistorySpec",
    "PlacementView",
    "Policy",
]
