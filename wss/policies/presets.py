"""Policies by name: the paper's five, and others. A policy has one value for each of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field

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
from wss.policies.prediction import (
    Always,
    DecayingHeatmap,
    Oracle,
    PrefillHeatmap,
    TokenHeatmap,
)
from wss.policies.prefetching import LayerHeatmap
from wss.policies.rebalancing import Every
from wss.policies.seams import SEAMS
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


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            name="base",
            allocation=InTurn(),
            about="location-oblivious: whole experts round-robin over the dies, weights read from their homes",
        ),
        Policy(
            name="base_even",
            allocation=Chunked(),
            about="location-oblivious, as in the paper's text: an equal stretch of the tokens on each die",
        ),
        Policy(name="ep", allocation=Home(), about="expert parallelism: every expert is computed at its home"),
        Policy(
            name="pred",
            allocation=InTurn(),
            prediction=TokenHeatmap(),
            about="base, with a predictor that keeps copies of remote experts",
        ),
        Policy(name="allo", allocation=Algorithm1(), about="Algorithm 1: tokens in blocks to dies near the weights"),
        Policy(
            name="allo_pred",
            allocation=Algorithm1(),
            prediction=TokenHeatmap(),
            about="Algorithm 1, with the copies of the predictor in its view",
        ),
        Policy(
            name="remap",
            placement=Remap(),
            allocation=Home(),
            about="the paper's Remap: ep on experts placed evenly by the prefill load",
        ),
        Policy(
            name="dup",
            placement=Dup(),
            allocation=Even(),
            about="the paper's Dup: ep with one replica per die, each where it lowers the largest prefill load most",
        ),
        Policy(
            name="eplb",
            placement=Eplb(),
            allocation=Even(),
            about="DeepSeek's EPLB on the prefill load: popular experts replicated, all packed evenly",
        ),
        Policy(
            name="eplb_nearest",
            placement=Eplb(),
            allocation=Nearest(),
            about="eplb, but each die sends its tokens to the nearest replica, whatever its load",
        ),
        Policy(
            name="eplb_online",
            placement=Eplb(),
            allocation=Even(),
            rebalancing=Every(),
            about="eplb repeated every 16 steps on the load of the last 32, weights moved in the background",
        ),
        Policy(
            name="remap_online",
            placement=Remap(),
            allocation=Home(),
            rebalancing=Every(),
            about="remap repeated every 16 steps on the load of the last 32, weights moved in the background",
        ),
        Policy(
            name="popular",
            placement=PopularEverywhere(),
            allocation=Even(),
            about="insight 4: ep, with the most popular expert of the prefill on every die",
        ),
        Policy(
            name="separated",
            placement=Separated(),
            allocation=Home(),
            about="insight 5: ep, with experts that shared tokens in the prefill on different dies",
        ),
        Policy(
            name="prefill_guided",
            placement=Remap(),
            allocation=Algorithm1(),
            about="Algorithm 1 on experts placed evenly by the prefill load",
        ),
        Policy(
            name="near",
            placement=Near(),
            allocation=Algorithm1(),
            about="Algorithm 1, with replicas where they save the most byte-hops of the prefill load",
        ),
        Policy(
            name="oracle_best",
            placement=OracleBest(),
            allocation=Home(),
            about="an oracle, no policy: Remap on the load of the decode to come",
        ),
        Policy(
            name="oracle_worst",
            placement=OracleWorst(),
            allocation=Home(),
            about="an oracle, no policy: the costliest experts of the decode together on few dies",
        ),
        Policy(
            name="balanced",
            allocation=Balanced(),
            about="ours: experts at home, only surplus tokens move, within budgets",
        ),
        Policy(
            name="balanced_pred",
            allocation=Balanced(),
            prediction=TokenHeatmap(),
            copies=CopyRules(serve="all_dies"),
            about="ours: balanced, reading from any copy of the predictor",
        ),
        Policy(
            name="pred_prefill",
            allocation=InTurn(),
            prediction=PrefillHeatmap(),
            about="insight 1: pred with the heatmap of the prefill only",
        ),
        Policy(
            name="pred_decaying",
            allocation=InTurn(),
            prediction=DecayingHeatmap(),
            about="pred with a heatmap in which older pairs count less",
        ),
        Policy(
            name="pred_lfu",
            allocation=InTurn(),
            prediction=TokenHeatmap(),
            caching=Lfu(),
            about="pred that evicts the copy its die has used least, held or new",
        ),
        Policy(
            name="pred_heatmap",
            allocation=InTurn(),
            prediction=TokenHeatmap(),
            caching=Heatmap(),
            about="pred that evicts the copy with the least predicted use, held or new",
        ),
        Policy(
            name="cross_hierarchy",
            allocation=Algorithm1(),
            prediction=TokenHeatmap(),
            caching=Heatmap(),
            prefetching=LayerHeatmap(),
            about="insight 2: allo_pred with the token heatmap for the HBM and the layer heatmap for the LLC",
        ),
        Policy(
            name="pred_oracle",
            allocation=InTurn(),
            prediction=Oracle(),
            about="an oracle, no policy: pred that keeps the experts its die computes again in the next step",
        ),
        Policy(
            name="belady",
            allocation=InTurn(),
            prediction=Always(),
            caching=Belady(),
            about="an oracle, no policy: base that keeps the copies used again soonest; no caching rule fetches less",
        ),
    )
}
