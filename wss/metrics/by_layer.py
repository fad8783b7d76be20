"""The figures of a run by layer: each a sum over layers, or a ratio of two, so that sampled layers can stand for all.

Figures that are neither are taken to first order: of percentiles, which steps they lie between, of the busiest link,
which one it is, and of the Gini coefficient, the order of the links are taken as the estimate has them.
"""

from __future__ import annotations

import numpy as np

from wss.hardware.wafer import Wafer
from wss.metrics.ledger import Ledger
from wss.metrics.sampling import Sample
from wss.records import FloatArray

Pair = tuple[FloatArray, FloatArray | None]  # what is summed over layers, and what the sum is divided by's sum

# Figures of `summarise` that are no sum or ratio of sums over layers: they have no interval.
WITHOUT = ("busiest_link", "hbm_peak_bytes", "kernels")
_SUMS = (
    "remote_reads",
    "hops",
    "byte_hops",
    "request_bytes",
    "remote_read_bytes",
    "local_read_bytes",
    "local_write_bytes",
    "llc_hits",
    "llc_hit_bytes",
    "prefetched_bytes",
    "evictions",
    "lower_bound_s",
)


def by_layer(ledger: Ledger, wafer: Wafer, sample: Sample, all_layers: int, decode_tokens: int) -> dict[str, Pair]:
    """Return each figure of `summarise` but those `WITHOUT` as what is summed and what divides it, [layers run] each.

    Parameters
    ----------
    ledger
        Of the policy.
    wafer
        It ran on.
    sample
        The layers that were run.
    all_layers
        How many layers the model has.
    decode_tokens
        Tokens decoded in the steps run.
    """
    decode = {name: _column(ledger, "decode", name, sample) for name in (*_SUMS, "time_s", "mean_die_time_s")}
    time = decode["time_s"]
    return {
        **{name: (decode[name], None) for name in _SUMS},
        "decode_time_s": (time, None),
        "prefill_time_s": (_column(ledger, "prefill", "time_s", sample), None),
        "prefill_hops": (_column(ledger, "prefill", "hops", sample), None),
        "throughput_tokens_per_s": (np.full(len(time), decode_tokens / all_layers), time),
        "imbalance": (time, decode["mean_die_time_s"]),
        "bound_ratio": (time, decode["lower_bound_s"]),
        "compute_share": (np.array([ledger.layer_compute[layer].mean() for layer in sample.layers]), time),
        **_steps(ledger, sample),
        **_links(ledger, wafer, sample, time),
    }


def _column(ledger: Ledger, phase: str, name: str, sample: Sample) -> FloatArray:
    """Sum a column of the rows of *phase* by layer, [layers run]."""
    rows = [row for row in ledger.rows if row.phase == phase]
    place = {layer: i for i, layer in enumerate(sample.layers)}
    at = np.array([place[row.layer] for row in rows], np.int64)
    return np.bincount(at, [getattr(row, name) for row in rows], len(place)).astype(np.float64)


def _steps(ledger: Ledger, sample: Sample) -> dict[str, Pair]:
    """Return mean and percentiles of the steps' times."""
    place = {layer: i for i, layer in enumerate(sample.layers)}
    rows = [row for row in ledger.rows if row.phase == "decode"]
    times = np.zeros((max(row.step for row in rows), len(place)))
    for row in rows:
        times[row.step - 1, place[row.layer]] += row.time_s
    ascending = times[np.argsort(times @ sample.weights, kind="stable")]
    figures: dict[str, Pair] = {"step_time_mean_s": (times.mean(axis=0), None)}
    for percent in (50, 95, 99):
        at = percent / 100 * (len(times) - 1)
        low, high = ascending[int(at)], ascending[min(int(at) + 1, len(times) - 1)]
        figures[f"step_time_p{percent}_s"] = (low + (at - int(at)) * (high - low), None)
    return figures


def _links(ledger: Ledger, wafer: Wafer, sample: Sample, time: FloatArray) -> dict[str, Pair]:
    """Return what the links carried, and how evenly."""
    carried = np.array([ledger.layer_links[layer] for layer in sample.layers])
    total = carried.sum(axis=1)
    used = carried / wafer.link_bandwidth
    links = carried.shape[1]
    if links == 0:
        nothing = np.zeros(len(time))
        shares: dict[str, Pair] = dict.fromkeys(("max_link_utilization", "mean_link_utilization"), (nothing, time))
        return {"link_bytes": (nothing, None), "link_gini": (nothing, total), **shares}
    rank = np.argsort(np.argsort(sample.weights @ carried, kind="stable"), kind="stable")
    return {
        "link_bytes": (total, None),
        "max_link_utilization": (used[:, int((sample.weights @ used).argmax())], time),
        "mean_link_utilization": (used.mean(axis=1), time),
        "link_gini": (carried @ ((2 * rank + 1 - links) / links), total),
    }
