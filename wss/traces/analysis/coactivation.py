"""Co-activation: how unevenly pairs of experts share tokens, and how much more often than by chance.

There are two baselines. *Uniform* is the paper's (figure 9): every one of the n(n-1)/2 pairs has the same chance,
2/(n(n-1)). *Independent* is the chance from the popularity of the two experts alone: two popular experts often share
tokens without being related. Only what exceeds this is true co-activation.
"""

from __future__ import annotations

import math

import numpy as np

from wss.records import FloatArray, IntArray

PAIR_SHARE = 0.1  # of all pairs
MIN_PAIR_USES = 5  # expected co-activations below which a ratio to independence is noise
KEYS = (
    "pairs_top_10_percent_hold",
    "pairs_if_independent",
    *(f"pair_over_uniform_{name}" for name in ("p99", "p999", "most")),
    *(f"pair_lift_{name}" for name in ("p99", "p999", "most")),
)


def over_uniform(pairs: IntArray) -> FloatArray:
    """Return each pair's co-activations relative to uniform chance, [pairs], from *pairs* [experts, experts]."""
    met = pairs[np.triu_indices(len(pairs), 1)]
    times: FloatArray = met / (met.sum() / len(met))
    return times


def over_independent(pairs: IntArray, freq: IntArray) -> FloatArray:
    """Return co-activations relative to independent experts, [pairs expected often enough]."""
    upper = np.triu_indices(len(pairs), 1)
    met, product = pairs[upper], _products(freq)[upper]
    expected = product / product.sum() * met.sum()
    sure = expected >= MIN_PAIR_USES
    times: FloatArray = met[sure] / expected[sure]
    return times


def pair_figures(pairs: IntArray, freq: IntArray) -> dict[str, float]:
    """Return the figures of one layer: *pairs* [experts, experts], i < j, and uses *freq* [experts].

    All are NaN if there are no co-activations.
    """
    upper = np.triu_indices(len(pairs), 1)
    met = pairs[upper]
    if not met.sum():
        return dict.fromkeys(KEYS, math.nan)
    n = math.ceil(PAIR_SHARE * len(met))
    values = (
        _top_share(met, n),
        _top_share(_products(freq)[upper], n),
        *_upper_end(over_uniform(pairs)),
        *_upper_end(over_independent(pairs, freq)),
    )
    return dict(zip(KEYS, values, strict=True))


def _products(freq: IntArray) -> FloatArray:
    uses = freq.astype(np.float64)
    return uses[:, None] * uses


def _upper_end(times: FloatArray) -> tuple[float, float, float]:
    if not times.size:
        return math.nan, math.nan, math.nan
    return float(np.percentile(times, 99)), float(np.percentile(times, 99.9)), float(times.max())


def _top_share(values: IntArray | FloatArray, n: int) -> float:
    return float(np.sort(values)[::-1][:n].sum() / values.sum())
