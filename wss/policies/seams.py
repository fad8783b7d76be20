"""The table of seams: the six parts of a policy, their base classes, methods, signals, and classes by YAML name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wss.policies.allocation.basic import Algorithm1, Chunked, Even, Home, InTurn
from wss.policies.allocation.nearest_replica import Nearest
from wss.policies.balanced.policy import Balanced
from wss.policies.caching import Belady, Heatmap, Lfu, Lru
from wss.policies.parts import Allocation, Caching, Placement, Prediction, Prefetching, Rebalancing
from wss.policies.placement.basic import Contiguous, Random, Strided
from wss.policies.placement.coactivation import Separated
from wss.policies.placement.dup import Dup
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.hop_replication import Near
from wss.policies.placement.layout_file import LayoutFile
from wss.policies.placement.popular import PopularEverywhere
from wss.policies.placement.remap import OracleBest, OracleWorst, Remap
from wss.policies.prediction import Always, DecayingHeatmap, Never, Oracle, PrefillHeatmap, TokenHeatmap
from wss.policies.prefetching import LayerHeatmap, NoPrefetch, Popular
from wss.policies.rebalancing import Coming, Every, NoRebalancing
from wss.policies.signals import Signal


@dataclass(frozen=True, kw_only=True)
class Seam:
    """What a configuration chooses by the name of a class.

    Attributes
    ----------
    name
        Its key in a configuration.
    base
        The class that all its classes derive from.
    method
        The method that they define.
    classes
        The classes by their names in a configuration.
    default
        The class used if none is given; None if one must be given.
    signals
        The signals that they may declare.
    """

    name: str
    base: type[Any]
    method: str
    classes: Mapping[str, type[Any]]
    default: Any
    signals: frozenset[Signal] = frozenset()

    @property
    def group(self) -> str:
        """The entry-point group of its plug-ins."""
        return f"wss.{self.name}s"

    def fault(self, cls: type[Any]) -> str | None:
        """Return why *cls* does not keep the contract, as the end of an error message; None if it does."""
        if not issubclass(cls, self.base):
            return f"is no {self.name}; derive it from wss.policies.{self.base.__name__}"
        if not callable(getattr(cls, self.method, None)) or self.method in getattr(cls, "__abstractmethods__", ()):
            return f"has no method '{self.method}'; it is no {self.name}"
        declared: Any = getattr(cls, "signals", frozenset())
        if isinstance(declared, frozenset) and declared <= self.signals:
            return None
        right = ", ".join(f"Signal.{signal.name}" for signal in Signal if signal in self.signals) or "none"
        return f"declares the signals {declared!r}; it should be a frozenset of {right}"


SEAMS: dict[str, Seam] = {
    seam.name: seam
    for seam in (
        Seam(
            name="placement",
            base=Placement,
            method="place",
            classes={
                "contiguous": Contiguous,
                "strided": Strided,
                "random": Random,
                "eplb": Eplb,
                "remap": Remap,
                "dup": Dup,
                "popular": PopularEverywhere,
                "separated": Separated,
                "near": Near,
                "oracle_best": OracleBest,
                "oracle_worst": OracleWorst,
                "file": LayoutFile,
            },
            default=Contiguous,
            signals=frozenset({Signal.PREFILL_LOAD, Signal.COACTIVATION, Signal.DECODE_LOAD}),
        ),
        Seam(
            name="allocation",
            base=Allocation,
            method="allocate",
            classes={
                "home": Home,
                "even": Even,
                "nearest": Nearest,
                "in_turn": InTurn,
                "chunked": Chunked,
                "algorithm1": Algorithm1,
                "balanced": Balanced,
            },
            default=None,
        ),
        Seam(
            name="prediction",
            base=Prediction,
            method="predict",
            classes={
                "never": Never,
                "always": Always,
                "token_heatmap": TokenHeatmap,
                "prefill_heatmap": PrefillHeatmap,
                "decaying_heatmap": DecayingHeatmap,
                "oracle": Oracle,
            },
            default=Never,
            signals=frozenset(
                {Signal.TRANSITIONS, Signal.PREFILL_TRANSITIONS, Signal.DECAYED_TRANSITIONS, Signal.NEXT_STEP}
            ),
        ),
        Seam(
            name="caching",
            base=Caching,
            method="evict",
            classes={"lru": Lru, "lfu": Lfu, "heatmap": Heatmap, "belady": Belady},
            default=Lru,
            signals=frozenset({Signal.EXPECTED_TOKENS, Signal.NEXT_USE}),
        ),
        Seam(
            name="prefetching",
            base=Prefetching,
            method="prefetch",
            classes={"none": NoPrefetch, "popular": Popular, "layer_heatmap": LayerHeatmap},
            default=NoPrefetch,
            signals=frozenset({Signal.POPULARITY, Signal.LAYER_TRANSITIONS}),
        ),
        Seam(
            name="rebalancing",
            base=Rebalancing,
            method="rebalance",
            classes={"none": NoRebalancing, "every": Every, "coming": Coming},
            default=NoRebalancing,
        ),
    )
}
