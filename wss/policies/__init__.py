"""Policies and their six parts: placement, allocation, prediction, caching, prefetching, rebalancing."""

from wss.policies.copy_rules import CopyRules
from wss.policies.parts import Allocation, Caching, Forecasting, Placement, Prediction, Prefetching, Rebalancing
from wss.policies.presets import KINDS, POLICIES, Policy
from wss.policies.seams import SEAMS, Seam
from wss.policies.signals import Signal
from wss.policies.views import Costs, LayerView, LoadView, PlacementView, Pool, PredictionView, PrefetchView
from wss.traces.load_history import LoadHistorySpec

__all__ = [
    "KINDS",
    "POLICIES",
    "SEAMS",
    "Allocation",
    "Caching",
    "CopyRules",
    "Costs",
    "Forecasting",
    "LayerView",
    "LoadHistorySpec",
    "LoadView",
    "Placement",
    "PlacementView",
    "Policy",
    "Pool",
    "Prediction",
    "PredictionView",
    "PrefetchView",
    "Prefetching",
    "Rebalancing",
    "Seam",
    "Signal",
]
