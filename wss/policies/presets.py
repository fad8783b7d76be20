"""A policy is five values, one for each question; the paper's five by name."""

from __future__ import annotations

from dataclasses import dataclass, field

from wss.policies.allocation import Algorithm1, Allocation, Home, InTurn
from wss.policies.balanced import Balanced
from wss.policies.caching import Caching, Lru
from wss.policies.placement import Contiguous, Placement
from wss.policies.prediction import Never, Prediction, TokenHeatmap
from wss.policies.prefetching import NoPrefetch, Prefetching


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Where experts live, who computes them, what is worth a copy, what is given up for it, what is read ahead."""

    name: str
    placement: Placement = field(default_factory=Contiguous)
    allocation: Allocation
    prediction: Prediction = field(default_factory=Never)
    caching: Caching = field(default_factory=Lru)
    prefetching: Prefetching = field(default_factory=NoPrefetch)
    about: str = "given in the configuration"


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            name="base",
            allocation=InTurn(),
            about="location-oblivious: whole experts in turn over the dies, weights fetched from their homes",
        ),
        Policy(name="ep", allocation=Home(), about="expert parallelism: every expert computed where it lives"),
        Policy(
            name="pred",
            allocation=InTurn(),
            prediction=TokenHeatmap(),
            about="base, and a predictor keeps copies of experts fetched from afar",
        ),
        Policy(name="allo", allocation=Algorithm1(), about="Algorithm 1: tokens in blocks to dies near the weights"),
        Policy(
            name="allo_pred",
            allocation=Algorithm1(),
            prediction=TokenHeatmap(),
            about="Algorithm 1 that sees the copies of the predictor",
        ),
        Policy(
            name="balanced",
            allocation=Balanced(),
            about="ours: experts at home, only surplus tokens move, within budgets",
        ),
    )
}
