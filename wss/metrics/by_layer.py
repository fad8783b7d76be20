"""The figures of a run by layer: sums over layers, or ratios of such sums, so that sampled layers can stand for all.

Figures that are neither are estimated to first order. The estimate decides which steps a percentile lies between, which
link is the busiest, and the order of the links in the Gini coefficient. Few layers use links less evenly than many do,
so the bias of the last two is subtracted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wss.hardware.wafer import Wafer
from wss.metrics.ledger import Ledger
from wss.metrics.sampling import Sample
from wss.metrics.summary import gini
from wss.records import FloatArray, LayerRow


class Figure(NamedTuple):
    """A numerator and an optional denominator, both summed over layers, [layers run], and the bias to subtract."""

    above: FloatArray
    below: FloatArray | None = None
    bias: float = 0.0


# Figures of `summarise` that are neither sums nor ratios of sums over layers: they have no interval.
WITHOUT = ("busiest_link", "hbm_peak_bytes", "kernels", "placement_load_correlation", "rebalances")
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


def by_layer(ledger: Ledger, wafer: Wafer, sample: Sample, all_layers: int, decode_tokens: int) -> dict[str, Figure]:
    """Return numerator and denominator, [layers run] each, of every figure of `summarise` except `WITHOUT`.

    Parameters
    ----------
    ledger
        The policy's ledger.
    wafer
        The wafer it ran on.
    sample
        The layers that were run.
    all_layers
        Number of MoE layers of the model.
    decode_tokens
        Tokens decoded in the steps run.
    """
    decode = {name: _column(ledger.decode, name, sample) for name in (*_SUMS, "time_s", "mean_die_time_s")}
    prefill = [row for row in ledger.rows if row.phase == "prefill"]
    time = decode["time_s"]
    return {
        **{name: Figure(decode[name]) for name in _SUMS},
        "decode_time_s": Figure(time),
        "prefill_time_s": Figure(_column(prefill, "time_s", sample)),
        "prefill_hops": Figure(_column(prefill, "hops", sample)),
        "throughput_tokens_per_s": Figure(np.full(len(time), decode_tokens / all_layers), time),
        "imbalance": Figure(time, decode["mean_die_time_s"]),
        "bound_ratio": Figure(time, decode["lower_bound_s"]),
        "compute_share": Figure(np.array([ledger.layer_compute[layer].mean() for layer in sample.layers]), time),
        **(_exchange(ledger, sample, time) if ledger.exchanges else {}),
        **_steps(ledger, sample),
        **_links(ledger, wafer, sample, time),
        **_planning(ledger, sample),
        **_moves(ledger, sample),
    }


def _planning(ledger: Ledger, sample: Sample) -> dict[str, Figure]:
    """Return the figures of waiting for plans, where planning time is charged."""
    waited = _column(ledger.decode, "planning_s", sample)
    return {"planning_time_s": Figure(waited)} if waited.any() else {}


def link_utilization(ledger: Ledger, wafer: Wafer, sample: Sample) -> FloatArray:
    """Return the utilization of each link, estimated for all layers, [links]."""
    carried = np.array([ledger.layer_links[layer] for layer in sample.layers])
    time = float(sample.weights @ _column(ledger.decode, "time_s", sample))
    used: FloatArray = sample.weights @ (carried / wafer.link_bandwidth) / time
    return used


def _moves(ledger: Ledger, sample: Sample) -> dict[str, Figure]:
    """Return the cost of rebalancing, where the policy rebalances."""
    if ledger.rebalances is None:
        return {}
    rows = [row for row in ledger.rows if row.phase == "rebalance"]
    return {
        "moved_bytes": Figure(_column(rows, "local_write_bytes", sample)),
        "rebalance_time_s": Figure(_column(rows, "time_s", sample)),
    }


def _column(rows: list[LayerRow], name: str, sample: Sample) -> FloatArray:
    """Sum a column of *rows* by layer, [layers run]."""
    place = {layer: i for i, layer in enumerate(sample.layers)}
    at = np.array([place[row.layer] for row in rows], np.int64)
    return np.bincount(at, [getattr(row, name) for row in rows], len(place)).astype(np.float64)


def _exchange(ledger: Ledger, sample: Sample, time: FloatArray) -> dict[str, Figure]:
    """Return the figures of the all-to-all of token activations."""
    columns = ("dispatch_s", "combine_s", "activation_bytes")
    there, back, nbytes = (_column(ledger.decode, name, sample) for name in columns)
    return {
        "dispatch_time_s": Figure(there),
        "combine_time_s": Figure(back),
        "exchange_share": Figure(there + back, time),
        "activation_bytes": Figure(nbytes),
    }


def _steps(ledger: Ledger, sample: Sample) -> dict[str, Figure]:
    """Return mean and percentiles of the step times."""
    place = {layer: i for i, layer in enumerate(sample.layers)}
    rows = ledger.decode
    times = np.zeros((max(row.step for row in rows), len(place)))
    for row in rows:
        times[row.step - 1, place[row.layer]] += row.time_s
    ascending = times[np.argsort(times @ sample.weights, kind="stable")]
    figures: dict[str, Figure] = {"step_time_mean_s": Figure(times.mean(axis=0))}
    for percent in (50, 95, 99):
        at = percent / 100 * (len(times) - 1)
        low, high = ascending[int(at)], ascending[min(int(at) + 1, len(times) - 1)]
        figures[f"step_time_p{percent}_s"] = Figure(low + (at - int(at)) * (high - low))
    return figures


def _links(ledger: Ledger, wafer: Wafer, sample: Sample, time: FloatArray) -> dict[str, Figure]:
    """Return the bytes on links, and how evenly they are spread."""
    carried = np.array([ledger.layer_links[layer] for layer in sample.layers])
    total = carried.sum(axis=1)
    used = carried / wafer.link_bandwidth
    links = carried.shape[1]
    if links == 0:
        nothing = np.zeros(len(time))
        shares: dict[str, Figure] = dict.fromkeys(
            ("max_link_utilization", "mean_link_utilization"), Figure(nothing, time)
        )
        return {"link_bytes": Figure(nothing), "link_gini": Figure(nothing, total), **shares}
    rank = np.argsort(np.argsort(sample.weights @ carried, kind="stable"), kind="stable")
    unevenness = sample.bias(lambda weights: gini(weights @ carried))
    excess = sample.bias(lambda weights: float((weights @ used).max() / (weights @ time)))
    return {
        "link_bytes": Figure(total),
        "max_link_utilization": Figure(used[:, int((sample.weights @ used).argmax())], time, excess),
        "mean_link_utilization": Figure(used.mean(axis=1), time),
        "link_gini": Figure(carried @ ((2 * rank + 1 - links) / links), total, unevenness),
    }
