"""Routing statistics of a trace: the paper's observations as figures, layer by layer.

With n = ceil(0.2 · experts), and M[i, j] the number of times that expert i was followed by expert j:

* coverage: the share of the n largest entries in the row of the layer's top source (largest row sum);
* interpolated: the same at exactly 0.2 · experts entries, interpolated linearly between whole entries;
* weighted: every source's own n largest, over all of M;
* popularity: the n largest column sums over all of M, that is, what popularity alone covers;
* held-out: source and targets chosen on one half of the requests, measured on the other; the mean of both ways.

"Token" counts transitions to the next token of the same layer, "layer" those to the next MoE layer of the same token.
Prefill and decode are compared by Spearman's rank correlation, of frequencies and of both kinds of M (over all pairs,
so that few requests give noise and a low figure). As in the paper, it is strong from 0.7 on, moderate from 0.4 on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wss.records import FloatArray, IntArray
from wss.traces.analysis.coactivation import pair_figures
from wss.traces.analysis.counts import Counts, Phase, spearman
from wss.traces.analysis.top_experts import of_subjects, top_overlap
from wss.traces.load_dumps import Loads

SHARE = 0.2  # of the experts, for coverage
TOPS = (5, 10, 20)
STRONG, MODERATE = 0.7, 0.4  # least |Spearman| of the paper's classes
CORRELATED = ("spearman_frequency", "spearman_pairs", "spearman_layer_pairs")

Row = dict[str, float]


def statistics(counts: Counts) -> dict[str, Any]:
    """Return ``{pooled: {figure: mean over layers}, layers: [{layer, figure: value}], subjects: ...}``.

    Figures that the trace does not support (such as co-activation with one expert per token) are None.
    """
    layers = [_layer(counts, at) for at in range(len(counts.meta.moe_layers))]
    names = list(layers[0])
    pooled: dict[str, Any] = {name: _mean([row[name] for row in layers]) for name in names}
    pooled["max_over_mean_most"] = max(row["max_over_mean"] for row in layers)
    pooled["layers_with_spearman_at_least_0.7"] = sum(row["spearman_frequency"] >= 0.7 for row in layers)
    pooled["layers_by_correlation"] = {name: strengths([row[name] for row in layers]) for name in CORRELATED}
    dull = [at for at, row in enumerate(layers) if row["hottest_share"] > 0.9]
    if dull and len(dull) < len(layers):
        pooled["without_layers_of_one_expert"] = {
            "left_out": [counts.meta.moe_layers[at] for at in dull],
            **{name: _mean([row[name] for at, row in enumerate(layers) if at not in dull]) for name in names},
        }
    return {
        "model": counts.meta.model,
        "benchmark": counts.meta.benchmark,
        "subject": counts.meta.subject,
        "synthetic": counts.meta.synthetic,
        "main_phase": counts.main_name,
        "requests": counts.requests,
        "prefill_tokens": counts.prefill.tokens,
        "decode_tokens": counts.decode.tokens,
        "experts": counts.meta.num_choices,
        "top_k": counts.meta.top_k,
        "pooled": plain(pooled),
        "subjects": plain(of_subjects(counts.by_group, counts.meta.moe_layers)),
        "layers": [{"layer": layer, **plain(row)} for layer, row in zip(counts.meta.moe_layers, layers, strict=True)],
    }


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* with NaN replaced by None, for JSON."""
    return {
        name: plain(value)
        if isinstance(value, Mapping)
        else None
        if isinstance(value, float) and math.isnan(value)
        else value
        for name, value in values.items()
    }


def _layer(counts: Counts, at: int) -> Row:
    main, k = counts.main, counts.meta.top_k
    row: Row = {}
    row |= _following("token", main.token[:, at])
    row |= _following("layer", main.layer[:, at])  # NaN in the last layer, which nothing follows
    row |= _adjacent(main, at, k)
    row |= popularity(main.freq[at])
    row |= _phases(counts, at)
    row |= pair_figures(main.pairs[at], main.freq[at])
    uses, distances = counts.reuse[at], np.arange(1, counts.reuse.shape[1] + 1)
    total = uses.sum()
    row["reuse_distance_mean"] = float((uses * distances).sum() / total) if total else math.nan
    row["reuse_distance_median"] = float(np.searchsorted(np.cumsum(uses), total / 2) + 1) if total else math.nan
    row["distinct_experts_per_request"] = counts.distinct[at] / counts.requests
    return row


def _following(name: str, halves: IntArray) -> Row:
    """Return coverage figures of *halves* [2, experts, experts]."""
    both = halves.sum(axis=0)
    total = both.sum()
    keys = ("coverage", "interpolated", "weighted", "popularity", "held_out")
    if not total:
        return {f"{name}_{key}": math.nan for key in keys}
    exact = SHARE * len(both)
    n = math.ceil(exact)
    rows = both.sum(axis=1)
    top = np.sort(both[rows.argmax()])[::-1]
    descending = -np.sort(-both, axis=1)
    values = (
        top[:n].sum() / top.sum(),
        (top[: n - 1].sum() + top[n - 1] * (exact - (n - 1))) / top.sum(),
        descending[:, :n].sum() / total,
        np.sort(both.sum(axis=0))[::-1][:n].sum() / total,
        _held_out(halves, n),
    )
    return {f"{name}_{key}": float(value) for key, value in zip(keys, values, strict=True)}


def _held_out(halves: IntArray, n: int) -> float:
    shares = []
    for chosen, measured in ((0, 1), (1, 0)):
        source = halves[chosen].sum(axis=1).argmax()
        targets = np.argsort(-halves[chosen][source], kind="stable")[:n]
        row = halves[measured][source]
        if row.sum():
            shares.append(row[targets].sum() / row.sum())
    return float(np.mean(shares)) if len(shares) == 2 else math.nan


def _adjacent(main: Phase, at: int, k: int) -> Row:
    """Return what share of a token's experts the next token reuses, and what share if tokens were independent."""
    same = float(np.trace(main.token[:, at].sum(axis=0)))
    used = main.freq[at] / main.tokens
    return {
        "same_adjacent": same / (main.adjacent * k) if main.adjacent else math.nan,
        "same_if_independent": float((used * used).sum()) / k,
    }


def popularity(freq: IntArray | FloatArray) -> Row:
    """Return figures of how unevenly experts are used, from *freq* [experts]."""
    total = freq.sum()
    share = freq / total
    used = share[share > 0]
    ascending = np.sort(share)
    size = len(freq)
    n = math.ceil(SHARE * size)
    entropy = float(-(used * np.log2(used)).sum())
    return {
        "max_over_mean": float(share.max() * size),
        "hottest_share": float(share.max()),
        "entropy_bits": entropy,
        "entropy_share": entropy / math.log2(size) if size > 1 else math.nan,
        "gini": float((2 * np.arange(1, size + 1) - size - 1) @ ascending / size),
        "top_20_percent_hold": float(ascending[::-1][:n].sum()),
        "unused_experts": float((freq == 0).sum()),
    }


def _phases(counts: Counts, at: int) -> Row:
    """Return the similarity of prefill and decode; the last layer has no transitions to a next one."""
    names = [*CORRELATED, *(f"top_{n}_overlap" for n in TOPS)]
    if not (counts.prefill.tokens and counts.decode.tokens):
        return dict.fromkeys(names, math.nan)
    prefill, decode = counts.prefill, counts.decode
    before, after = prefill.freq[at], decode.freq[at]
    values = [
        spearman(before, after),
        correlation(prefill.token[:, at], decode.token[:, at]),
        correlation(prefill.layer[:, at], decode.layer[:, at]),
        *(top_overlap(before, after, n) for n in TOPS),
    ]
    return dict(zip(names, values, strict=True))


def correlation(before: IntArray, after: IntArray) -> float:
    """Return Spearman's correlation of two tables of transitions, each [2, experts, experts], by half."""
    return spearman(before.sum(axis=0).ravel(), after.sum(axis=0).ravel())


def strengths(rho: Sequence[float]) -> dict[str, int]:
    """Return in how many layers a correlation is strong, moderate and weak; layers without one do not count."""
    known = np.abs([value for value in rho if not math.isnan(value)])
    strong, moderate = int((known >= STRONG).sum()), int((known >= MODERATE).sum())
    return {"strong": strong, "moderate": moderate - strong, "weak": len(known) - moderate}


def load_statistics(dumps: list[Loads]) -> dict[str, Any]:
    """Return figures of each dump, and the similarity of prefill and decode of a workload (the rest of the name)."""
    rows = []
    for loads in dumps:
        layers = [popularity(counts) for counts in loads.counts]
        most = max(range(len(layers)), key=lambda at: layers[at]["max_over_mean"])
        rows.append(
            {
                "dump": loads.name,
                "tokens": float(loads.counts.sum(axis=1).mean() / loads.top_k) if loads.top_k else None,
                **{name: _mean([layer[name] for layer in layers]) for name in layers[0]},
                "max_over_mean_least": min(layer["max_over_mean"] for layer in layers),
                "max_over_mean_most": layers[most]["max_over_mean"],
                "most_skewed_layer": loads.layers[most],
                "layers": [{"layer": layer, **plain(row)} for layer, row in zip(loads.layers, layers, strict=True)],
            }
        )
    by_name = {loads.name: loads for loads in dumps}
    pairs = []
    for name, before in by_name.items():
        after = by_name.get(name.replace("prefill", "decode", 1))
        if not name.startswith("prefill") or after is None or before.layers != after.layers:
            continue
        both = list(zip(before.counts, after.counts, strict=True))
        rho = [spearman(x, y) for x, y in both]
        tops = {f"top_{n}_overlap": float(np.mean([top_overlap(x, y, n) for x, y in both])) for n in TOPS}
        pairs.append(
            {
                "workload": name.removeprefix("prefill_"),
                "spearman_mean": _mean(rho),
                "spearman_least": min((r for r in rho if not math.isnan(r)), default=math.nan),
                "layers_with_spearman_at_least_0.7": sum(r >= 0.7 for r in rho),
                **tops,
            }
        )
    return {"dumps": [plain(row) for row in rows], "prefill_and_decode": [plain(pair) for pair in pairs]}


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
