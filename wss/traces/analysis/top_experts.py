"""The most used experts: how far two counts agree on them, and those of each subject (the paper's figure 8b)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from wss.records import FloatArray, IntArray

MOST = 10  # experts compared per subject
SHOWN_LAYER = 7  # the layer of the paper's figure 8


def nearest(layers: Sequence[int], wanted: int) -> int:
    """Return the index in *layers*, ascending, of the layer nearest to *wanted*; ties go to the lower layer."""
    return min(range(len(layers)), key=lambda at: abs(layers[at] - wanted))


def top_overlap(x: IntArray | FloatArray, y: IntArray | FloatArray, n: int) -> float:
    """Return |top-n of x and of y| / n; ties go to the lower expert; n is at most the number of experts."""
    n = min(n, len(x))
    return len(_top(x, n) & _top(y, n)) / n


def _top(counts: IntArray | FloatArray, n: int) -> set[int]:
    return set(np.argsort(-counts, kind="stable")[:n].tolist())


def top_experts(uses: IntArray, n: int = MOST) -> list[int]:
    """Return the *n* most used experts of *uses* [experts], most used first; fewer if fewer are used at all."""
    return [expert for expert in np.argsort(-uses, kind="stable")[:n].tolist() if uses[expert] > 0]


def overlap(by_group: Mapping[str, IntArray]) -> dict[str, Any]:
    """Return the overlap of the top-10 experts of several groups, over all layers; empty for one group."""
    if len(by_group) < 2:
        return {}
    n = min(MOST, next(iter(by_group.values())).shape[1])
    tops = {name: [_top(row, n) for row in freq] for name, freq in by_group.items()}
    pairs = [np.mean([len(a & b) / n for a, b in zip(tops[x], tops[y], strict=True)]) for x, y in combinations(tops, 2)]
    common = [len(set.intersection(*layer)) for layer in zip(*tops.values(), strict=True)]
    return {
        "groups": len(tops),
        "top_10_overlap": float(np.mean(pairs)),
        "in_every_top_10": float(np.mean(common)),
    }


def of_subjects(by_subject: Mapping[str, IntArray], layers: Sequence[int]) -> dict[str, Any]:
    """Return `overlap`, and each subject's top-10 in the layer nearest to `SHOWN_LAYER`; empty for one subject."""
    if len(by_subject) < 2:
        return {}
    at = nearest(layers, SHOWN_LAYER)
    tops = {name: top_experts(by_subject[name][at]) for name in sorted(by_subject)}
    return {
        **overlap(by_subject),
        "layer": layers[at],
        "in_every_top_10_of_the_layer": sorted(set.intersection(*map(set, tops.values()))),
        "top_10": tops,
    }
