"""Does a placement serve the traffic that it was made for? The rank correlation of two loads.

A layout made from one workload's loads and judged on another's tells nothing of how good it is. So a run compares the
loads behind each placement (of the prefill, of a history, of a file of loads) with those that its decode serves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wss.policies import Policy
from wss.policies.placement.layout_file import LayoutFile
from wss.policies.views import PlacementView
from wss.records import FloatArray, IntArray
from wss.traces.analysis.counts import spearman

LOW = 0.5  # a correlation below which the layout is said to be judged on other traffic


def loads_behind(policy: Policy, needs: str, history: PlacementView) -> FloatArray | None:
    """Return the loads that *policy*'s placement goes by, [all MoE layers, experts]; None if it goes by none.

    An oracle goes by the loads to come, and a layout that names its slots does not say what it was made from.
    """
    if isinstance(policy.placement, LayoutFile):
        return policy.placement.loads(history)
    if needs in ("prefill", "pairs") and history.load.any():
        return history.load.astype(np.float64)
    return None


@dataclass(frozen=True)
class Agreement:
    """How far two loads agree.

    Attributes
    ----------
    correlation
        Spearman's, the mean over layers.
    reach
        What it could come to if both were drawn from one distribution: so few tokens leave their order partly to
        chance. Of counts of mean m and variance v a share m / v of the variance is chance (Poisson). Loads that are no
        whole numbers, such as shares, do not say how many tokens they are of, and are taken for exact.
    layers
        How many layers have any order in both.
    """

    correlation: float
    reach: float
    layers: int

    @property
    def is_low(self) -> bool:
        """Whether it is lower than chance explains."""
        return self.correlation < LOW * self.reach


def agreement(behind: FloatArray | None, served: IntArray) -> Agreement | None:
    """Return how far loads [layers, experts] agree, over layers that have any order in both; None if there are none."""
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
    """Return the correlation of *counts* [experts] with what they are counts of, as far as chance is Poisson's."""
    if (counts % 1 != 0).any():
        return 1.0
    return math.sqrt(max(0.0, 1.0 - float(counts.mean()) / float(counts.var())))


def agreement_note(policy: Policy, found: Agreement | None) -> list[str]:
    """Return what to say of the loads of *policy*'s placement and those served."""
    if found is None:
        return []
    said = f"{policy.name}: rank correlation of the loads behind its placement and those it serves in decode: "
    said += f"{found.correlation:.2f} (mean over {found.layers} layers)"
    if found.correlation >= LOW:
        return [said]
    if not found.is_low:
        return [f"{said}; so few tokens cannot tell more"]
    if policy.history is None and not isinstance(policy.placement, LayoutFile):
        mend = f"its prefill says little of this decode; give policies.{policy.name}.history"
    else:
        mend = "it is judged on traffic that it was not made for; give trace.path of the same workload, or its loads "
        mend += "as trace.synth.loads and trace.synth.workload"
    return [f"{said}: {mend}"]
