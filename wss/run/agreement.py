"""Does a placement serve the traffic that it was made for? The rank correlation of two loads.

A layout made from one workload's loads and judged on another's tells nothing of how good it is. So a run compares the
loads behind each placement (of the prefill, of a history, of a file of loads) with those that its decode serves.
"""

from __future__ import annotations

import numpy as np

from wss.policies import Policy
from wss.policies.history import History
from wss.records import FloatArray, IntArray
from wss.traces.counting import spearman

LOW = 0.5  # a correlation below which the layout is said to be judged on other traffic


def loads_behind(policy: Policy, needs: str, history: History) -> FloatArray | None:
    """Return the loads that *policy*'s placement goes by, [all MoE layers, experts]; None if it goes by none.

    An oracle goes by the loads to come, and a layout that names its slots does not say what it was made from.
    """
    own = getattr(policy.placement, "loads", None)
    if callable(own):
        loads: FloatArray | None = own(history)
        return loads
    if needs in ("prefill", "pairs") and history.load.any():
        return history.load.astype(np.float64)
    return None


def rank_correlation(behind: FloatArray | None, served: IntArray) -> float | None:
    """Return Spearman's correlation of loads [layers, experts], the mean over layers that have any order in both."""
    if behind is None:
        return None
    own = [
        spearman(before, after)
        for before, after in zip(behind, served, strict=True)
        if before.min() < before.max() and after.min() < after.max()
    ]
    return float(np.mean(own)) if own else None


def agreement_note(policy: Policy, correlation: float | None, layers: int) -> list[str]:
    """Return what to say of a *correlation* over so many *layers*."""
    if correlation is None:
        return []
    said = f"{policy.name}: rank correlation of the loads behind its placement and those it serves in decode: "
    said += f"{correlation:.2f} (mean over {layers} layers)"
    if correlation >= LOW:
        return [said]
    if policy.history is None and not callable(getattr(policy.placement, "loads", None)):
        mend = f"its prefill says little of this decode; give policies.{policy.name}.history"
    else:
        mend = "it is judged on traffic that it was not made for; give trace.path of the same workload, or its loads "
        mend += "trace.synth.loads and trace.synth.workload"
    return [f"{said}: {mend}"]
