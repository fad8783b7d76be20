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


def _policy(about: str, allocation: Allocation, **parts: Any) -> Policy:
    return Policy(name="", about=about, allocation=allocation, **parts)


_PRESETS = {
    "base": _policy(
        "location-oblivious: whole experts round-robin over the dies, weights read from their homes", InTurn()
    ),
    "base_even": _policy(
        "location-oblivious, as in the paper's text: an equal stretch of the tokens on each die", Chunked()
    ),
    "ep": _policy("expert parallelism: every expert is computed at its home", Home()),
    "pred": _policy("base, with a predictor that keeps copies of remote experts", InTurn(), prediction=TokenHeatmap()),
    "allo": _policy("Algorithm 1: tokens in blocks to dies near the weights", Algorithm1()),
    "allo_pred": _policy(
        "Algorithm 1, with the copies of the predictor in its view", Algorithm1(), prediction=TokenHeatmap()
    ),
    "remap": _policy("the paper's Remap: ep on experts placed evenly by the prefill load", Home(), placement=Remap()),
    "dup": _policy(
        "the paper's Dup: ep with one replica per die, each where it lowers the largest prefill load most",
        Even(),
        placement=Dup(),
    ),
    "eplb": _policy(
        "DeepSeek's EPLB on the prefill load: popular experts replicated, all packed evenly", Even(), placement=Eplb()
    ),
    "eplb_nearest": _policy(
        "eplb, but each die sends its tokens to the nearest replica, whatever its load", Nearest(), placement=Eplb()
    ),
    "eplb_online": _policy(
        "eplb repeated every 16 steps on the load of the last 32, weights moved in the background",
        Even(),
        placement=Eplb(),
        rebalancing=Every(),
    ),
    "remap_online": _policy(
        "remap repeated every 16 steps on the load of the last 32, weights moved in the background",
        Home(),
        placement=Remap(),
        rebalancing=Every(),
    ),
    "popular": _policy(
        "insight 4: ep, with the most popular expert of the prefill on every die", Even(), placement=PopularEverywhere()
    ),
    "separated": _policy(
        "insight 5: ep, with experts that shared tokens in the prefill on different dies", Home(), placement=Separated()
    ),
    "prefill_guided": _policy(
        "Algorithm 1 on experts placed evenly by the prefill load", Algorithm1(), placement=Remap()
    ),
    "near": _policy(
        "Algorithm 1, with replicas where they save the most byte-hops of the prefill load",
        Algorithm1(),
        placement=Near(),
    ),
    "oracle_best": _policy(
        "an oracle, no policy: Remap on the load of the decode to come", Home(), placement=OracleBest()
    ),
    "oracle_worst": _policy(
        "an oracle, no policy: the costliest experts of the decode together on few dies",
        Home(),
        placement=OracleWorst(),
    ),
    "balanced": _policy("ours: experts at home, only surplus tokens move, within budgets", Balanced()),
    "balanced_pred": _policy(
        "ours: balanced, reading from any copy of the predictor",
        Balanced(),
        prediction=TokenHeatmap(),
        copies=CopyRules(serve="all_dies"),
    ),
    "pred_prefill": _policy(
        "insight 1: pred with the heatmap of the prefill only", InTurn(), prediction=PrefillHeatmap()
    ),
    "pred_decaying": _policy(
        "pred with a heatmap in which older pairs count less", InTurn(), prediction=DecayingHeatmap()
    ),
    "pred_lfu": _policy(
        "pred that evicts the copy its die has used least, held or new",
        InTurn(),
        prediction=TokenHeatmap(),
        caching=Lfu(),
    ),
    "pred_heatmap": _policy(
        "pred that evicts the copy with the least predicted use, held or new",
        InTurn(),
        prediction=TokenHeatmap(),
        caching=Heatmap(),
    ),
    "cross_hierarchy": _policy(
        "insight 2: allo_pred with the token heatmap for the HBM and the layer heatmap for the LLC",
        Algorithm1(),
        prediction=TokenHeatmap(),
        caching=Heatmap(),
        prefetching=LayerHeatmap(),
    ),
    "pred_oracle": _policy(
        "an oracle, no policy: pred that keeps the experts its die computes again in the next step",
        InTurn(),
        prediction=Oracle(),
    ),
    "belady": _policy(
        "an oracle, no policy: base that keeps the copies used again soonest; no caching rule fetches less",
        InTurn(),
        prediction=Always(),
        caching=Belady(),
    ),
}
POLICIES: Presets[Policy] = Presets("POLICIES", {name: replace(policy, name=name) for name, policy in _PRESETS.items()})
