"""Rank correlation between the loads that a placement was computed from and the loads it serves in decode.

A placement computed from one workload and evaluated on another says little about its quality. A run therefore compares
the loads behind each placement (from the prefill, a load history or a file of loads) with the loads served in decode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wss.policies import Policy, Signal
from wss.policies.placement.layout_file import LayoutFile
from wss.policies.views import PlacementView
from wss.records import FloatArray, IntArray
from wss.traces.analysis.counts import spearman

LOW = 0.5  # below this correlation a note says that the placement is evaluated on other traffic


def loads_behind(policy: Policy, view: PlacementView) -> FloatArray | None:
    """Return the past loads that *policy*'s placement is computed from, [all MoE layers, experts]; None if unknown.

    None also for oracles, which use future loads. Layout files that list slots do not record the loads behind them.
    """
    if isinstance(policy.placement, LayoutFile):
        return policy.placement.loads(view)
    if Signal.PREFILL_LOAD in view.signals and view.prefill_load.any():
        return view.prefill_load.astype(np.float64)
    return None


@dataclass(frozen=True)
class Agreement:
    """Agreement of two loads.

    Attributes
    ----------
    correlation
        Spearman's rank correlation, mean over layers.
    reach
        Expected correlation if both loads were drawn from one distribution. It is below 1 because few tokens leave the
        order partly to chance: for counts with mean m and variance v, a share m / v of the variance is Poisson noise.
        Loads that are not whole numbers, such as shares, do not give a number of tokens and are treated as exact.
    layers
        Number of layers where neither load is uniform.
    """

    correlation: float
    reach: float
    layers: int

    @property
    def is_low(self) -> bool:
        """Whether the correlation is lower than chance explains."""
        return self.correlation < LOW * self.reach


def agreement(behind: FloatArray | None, served: IntArray) -> Agreement | None:
    """Return the agreement of two loads [layers, experts] over layers where neither is uniform; None without any."""
    if behind is None:
        return None
    pairs = [
        (before, after)
        for before, after in zip(behind, served, strict=True)
        if before.min() < before.max() and after.min() < after.max()
    ]
    if not pairs:
        return None
    return Agreement(
        correlation=float(np.mean([spearman(before, after) for before, after in pairs])),
        reach=float(np.mean([_order(before) * _order(after) for before, after in pairs])),
        layers=len(pairs),
    )


def _order(counts: FloatArray | IntArray) -> float:
    """Return the correlation of *counts* [experts] with their expected values, assuming Poisson noise."""
    if (counts % 1 != 0).any():
        return 1.0
    return math.sqrt(max(0.0, 1.0 - float(counts.mean()) / float(counts.var())))


def agreement_note(policy: Policy, found: Agreement | None) -> list[str]:
    """Return a note that compares the loads behind *policy*'s placement with those served, as a list."""
    if found is None:
        return []
    said = f"{policy.name}: rank correlation of the loads used for its placement with those of decode: "
    said += f"{found.correlation:.2f} (mean over {found.layers} layers)"
    if found.correlation >= LOW:
        return [said]
    if not found.is_low:
        return [f"{said}; with so few tokens this is inconclusive"]
    if policy.history is None and not isinstance(policy.placement, LayoutFile):
        mend = f"its prefill does not predict this decode; give policies.{policy.name}.history"
    else:
        mend = "its layout is judged on traffic that it was not made for; give trace.path of the same workload, "
        mend += "or its loads as trace.synth.loads and trace.synth.workload"
    return [f"{said}: {mend}"]
