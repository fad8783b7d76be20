"""Policies by name: the paper's five, and others. A policy has one value for each of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from wss.policies.allocation.basic import Algorithm1, Chunked, Even, Home, InTurn
from wss.policies.allocation.nearest_replica import Nearest
from wss.policies.balanced.policy import Balanced
from wss.policies.caching import Belady, Heatmap, Lfu
from wss.policies.copy_rules import CopyRules
from wss.policies.parts import Allocation, Caching, Placement, Prediction, Prefetching, Rebalancing
from wss.policies.placement.coactivation import Separated
from wss.policies.placement.dup import Dup
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.hop_replication import Near
from wss.policies.placement.popular import PopularEverywhere
from wss.policies.placement.remap import OracleBest, OracleWorst, Remap
from wss.policies.prediction import Always, DecayingHeatmap, Oracle, PrefillHeatmap, TokenHeatmap
from wss.policies.prefetching import LayerHeatmap
from wss.policies.rebalancing import Every
from wss.policies.seams import SEAMS
from wss.policies.signals import FUTURE
from wss.presets import Presets
from wss.traces.load_history import LoadHistorySpec


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy: its placement, allocation, prediction, caching, prefetching and rebalancing.

    *copies* are the rules for copies. *history* is the load history of the first placement; None: the prefill of the
    batch.
    """

    name: str
    placement: Placement = field(default_factory=SEAMS["placement"].default)
    allocation: Allocation
    prediction: Prediction = field(default_factory=SEAMS["prediction"].default)
    caching: Caching = field(default_factory=SEAMS["caching"].default)
    copies: CopyRules = field(default_factory=CopyRules)
    prefetching: Prefetching = field(default_factory=SEAMS["prefetching"].default)
    rebalancing: Rebalancing = field(default_factory=SEAMS["rebalancing"].default, metadata={"option": True})
    history: LoadHistorySpec | None = field(default=None, metadata={"option": True})
    about: str = "given in the configuration"

    @property
    def is_oracle(self) -> bool:
        """Whether one of its parts sees the future, so that no system can run it."""
        parts = (self.placement, self.allocation, self.prediction, self.caching, self.prefetching, self.rebalancing)
        return any(part.signals & FUTURE for part in parts)


def _policy(about: str, allocation: Allocation, **parts: Any) -> Policy:
    return Policy(name="", about=about, allocation=allocation, **parts)


_PRESETS = {
    # The paper's five.
    "base": _policy("experts dealt to dies in turn, so that most weights are read from other dies", InTurn()),
    "ep": _policy("expert parallelism: each expert is computed on the die that holds its weights", Home()),
    "pred": _policy("base, and each die keeps copies of the experts it will likely need again", InTurn(),
                    prediction=TokenHeatmap()),
    "allo": _policy("tokens go, in blocks, to the die near the weights that would finish first", Algorithm1()),
    "allo_pred": _policy("allo and pred together; tokens also go to dies that hold a copy", Algorithm1(),
                         prediction=TokenHeatmap()),
    # Ours.
    "balanced": _policy("ep, but dies that would finish late hand tokens to others where that saves time", Balanced()),
    "balanced_pred": _policy("balanced, with pred's copies, which any die may read", Balanced(),
                             prediction=TokenHeatmap(), copies=CopyRules(serve="all_dies")),
    # Experts placed once, by their load in the prefill.
    "remap": _policy("the paper's Remap: ep, with experts placed for equal loads in the prefill", Home(),
                     placement=Remap()),
    "dup": _policy("the paper's Dup: ep, with one replica per die, of busy experts of the prefill", Even(),
                   placement=Dup()),
    "eplb": _policy("DeepSeek's EPLB: busy experts of the prefill get replicas, dies get equal loads", Even(),
                    placement=Eplb()),
    "eplb_nearest": _policy("eplb, but each die sends tokens to the nearest replica, however busy it is", Nearest(),
                            placement=Eplb()),
    "popular": _policy("ep, with the busiest expert of the prefill replicated on every die", Even(),
                       placement=PopularEverywhere()),
    "separated": _policy("ep, with experts that the same tokens used in the prefill on different dies", Home(),
                         placement=Separated()),
    "prefill_guided": _policy("allo, on experts placed as remap does", Algorithm1(), placement=Remap()),
    "near": _policy("allo, with replicas where they shorten the most remote reads, by prefill loads", Algorithm1(),
                    placement=Near()),
    # Experts placed again during decode.
    "eplb_online": _policy("eplb recomputed every 16 steps from the loads of the last 32, in background", Even(),
                           placement=Eplb(), rebalancing=Every()),
    "remap_online": _policy("remap recomputed every 16 steps from the loads of the last 32, in background", Home(),
                            placement=Remap(), rebalancing=Every()),
    # Variants of base, pred and allo_pred.
    "base_even": _policy("base as in the paper's text: the same number of tokens on each die", Chunked()),
    "pred_prefill": _policy("pred, predicting from the prefill alone", InTurn(), prediction=PrefillHeatmap()),
    "pred_decaying": _policy("pred, where older tokens count less in the prediction", InTurn(),
                             prediction=DecayingHeatmap()),
    "pred_lfu": _policy("pred that evicts the copy its die has used least often", InTurn(), prediction=TokenHeatmap(),
                        caching=Lfu()),
    "pred_heatmap": _policy("pred that evicts the copy that is least likely to be used next", InTurn(),
                            prediction=TokenHeatmap(), caching=Heatmap()),
    "cross_hierarchy": _policy("allo_pred that also prefetches the next layer's experts into idle dies' caches",
                               Algorithm1(), prediction=TokenHeatmap(), caching=Heatmap(), prefetching=LayerHeatmap()),
    # Oracles.
    "oracle_best": _policy("remap by the loads of the coming decode, not of the prefill", Home(),
                           placement=OracleBest()),
    "oracle_worst": _policy("ep, with the busiest experts of the decode together on few dies", Home(),
                            placement=OracleWorst()),
    "pred_oracle": _policy("pred that keeps exactly the experts its die computes in the next step", InTurn(),
                           prediction=Oracle()),
    "belady": _policy("base, keeping the copies that are used again soonest (Belady's rule)", InTurn(),
                      prediction=Always(), caching=Belady()),
}  # fmt: skip
POLICIES: Presets[Policy] = Presets("POLICIES", {name: replace(policy, name=name) for name, policy in _PRESETS.items()})
# The policies by kind, in the order of lists and of colours.
KINDS: dict[str, tuple[str, ...]] = {
    "the paper's": ("base", "ep", "pred", "allo", "allo_pred"),
    "ours": ("balanced", "balanced_pred"),
    "experts placed by their load in the prefill": (
        "eplb", "eplb_nearest", "remap", "dup", "popular", "separated", "prefill_guided", "near",
    ),
    "experts placed again during decode": ("eplb_online", "remap_online"),
    "variants of base, pred and allo_pred": (
        "base_even", "pred_prefill", "pred_decaying", "pred_lfu", "pred_heatmap", "cross_hierarchy",
    ),
    "oracles: they use future routing, which no real system has": (
        "oracle_best", "oracle_worst", "pred_oracle", "belady",
    ),
}  # fmt: skip
