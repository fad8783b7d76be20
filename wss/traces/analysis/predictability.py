"""How well past routing predicts the next token's experts: predictors as pure functions, measured on a trace.

A predictor selects n experts of a layer for each decode token; hits are those that the token uses. Tables are built
from one half of the requests and used on the other, both ways (requests at even and at odd indices), so no predictor is
measured on the data it was built from. What belongs to the request itself (its prefill, its last token) comes from its
own past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wss.errors import TraceError
from wss.records import FloatArray, IntArray
from wss.traces.analysis.counts import Counts, count_trace
from wss.traces.schema import RequestRouting, TraceMeta


@dataclass(frozen=True, eq=False, kw_only=True)
class ObservedUses:
    """The data that a predictor may use for one layer of one request."""

    before: IntArray  # experts of the previous token, [tokens, k]
    above: IntArray | None  # experts of the token in the previous layer, [tokens, k]; None in the first layer
    now: IntArray  # experts of the token itself, for the oracle only, [tokens, k]
    prefill: FloatArray  # how often the request's prefill used each expert, [experts]
    # of the other half of the requests:
    token: FloatArray  # how often j followed i in the next token, [experts, experts]
    layer: FloatArray | None  # how often j followed i of the previous layer, likewise; None in the first layer
    popularity: FloatArray  # how often each expert was used, [experts]


Predictor = Callable[[ObservedUses], FloatArray]  # a score of each expert for each token, [tokens, experts]


def _popularity(seen: ObservedUses) -> FloatArray:
    return np.broadcast_to(seen.popularity, (len(seen.now), len(seen.popularity))).copy()


def _tiny(seen: ObservedUses) -> FloatArray:
    """Popularity, scaled down so that it only breaks ties."""
    score: FloatArray = _popularity(seen) / (seen.popularity.sum() + 1.0) * 1e-6
    return score


def _following(counts: FloatArray, previous: IntArray, seen: ObservedUses) -> FloatArray:
    """Score experts by the shares in which they followed those of *previous*, [tokens, k]."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    score: FloatArray = shares[previous].sum(axis=1) + _tiny(seen)
    return score


def _layer_heatmap(seen: ObservedUses) -> FloatArray:
    if seen.layer is None or seen.above is None:
        return _popularity(seen)
    return _following(seen.layer, seen.above, seen)


def _marked(ids: IntArray, seen: ObservedUses) -> FloatArray:
    score = _tiny(seen)
    np.put_along_axis(score, ids, 1.0, axis=1)
    return score


PREDICTORS: dict[str, tuple[str, Predictor]] = {
    "token_heatmap": (
        "what followed the experts of the token before, in other requests",
        lambda seen: _following(seen.token, seen.before, seen),
    ),
    "layer_heatmap": ("what followed the token's experts of the layer before, in other requests", _layer_heatmap),
    "prefill": ("what the request's own prefill used most", lambda seen: seen.prefill + _tiny(seen)),
    "last_token": ("the experts of the token before, then the popular", lambda seen: _marked(seen.before, seen)),
    "popularity": ("what other requests used most", _popularity),
    "oracle": ("the token's own experts: the most that can be reached", lambda seen: _marked(seen.now, seen)),
}


def evaluate(
    meta: TraceMeta,
    read: Callable[[], Iterable[RequestRouting]],
    budgets: tuple[float, ...],
    expert_bytes: float | None,
) -> dict[str, Any]:
    """Return hit rate, precision and recall of every predictor at each budget, over decode and all layers.

    Parameters
    ----------
    read
        Returns the requests; called three times.
    budgets
        Number of experts selected, as shares of the experts of a layer.
    expert_bytes
        Bytes of an expert, for the bytes saved per token; None if the model is unknown.

    Raises
    ------
    TraceError
        If the trace has no decode tokens.

    Notes
    -----
    recall is hits / experts used, precision hits / experts selected, hit_rate the share of tokens with any hit.
    """
    halves = [count_trace(meta, (r for i, r in enumerate(read()) if i % 2 == half), {}) for half in (0, 1)]
    sizes = tuple(max(1, int(np.ceil(share * meta.num_experts))) for share in budgets)
    sums = {name: np.zeros((len(sizes), 2)) for name in PREDICTORS}  # hits, tokens with a hit
    tokens, uses = 0, 0
    for place, request in enumerate(read()):
        first = max(request.num_prefill, 1)  # the very first token has no previous one
        if first >= len(request.position):
            continue
        tokens += len(request.position) - first
        for at in range(len(meta.moe_layers)):
            seen = _seen(request, first, at, halves[1 - place % 2], meta)
            used = np.zeros((len(seen.now), meta.num_choices), np.bool_)
            np.put_along_axis(used, seen.now, True, axis=1)
            used = used[:, : meta.num_experts]  # zero-computation experts have no weights to cache
            uses += int(used.sum())
            for name, (_, predict) in PREDICTORS.items():
                order = np.argsort(-predict(seen)[:, : meta.num_experts], axis=1, kind="stable")
                hits = np.cumsum(np.take_along_axis(used, order, axis=1), axis=1)
                for i, size in enumerate(sizes):
                    sums[name][i] += hits[:, size - 1].sum(), (hits[:, size - 1] > 0).sum()
    if not tokens:
        raise TraceError("the trace has no decode tokens; there is nothing to predict")
    cells = max(tokens * len(meta.moe_layers), 1)
    return {
        "tokens": tokens,
        "predictors": {
            name: [
                {
                    "budget_share": share,
                    "experts": size,
                    "recall": hits / max(uses, 1),
                    "precision": hits / (cells * size),
                    "hit_rate": any_ / cells,
                    "bytes_saved_per_token": None if expert_bytes is None else hits / max(tokens, 1) * expert_bytes,
                }
                for share, size, (hits, any_) in zip(budgets, sizes, sums[name].tolist(), strict=True)
            ]
            for name in PREDICTORS
        },
    }


def _seen(request: RequestRouting, first: int, at: int, other: Counts, meta: TraceMeta) -> ObservedUses:
    experts = request.experts[:, at].astype(np.int64)
    prefill = np.bincount(experts[: request.num_prefill].ravel(), minlength=meta.num_choices).astype(np.float64)
    return ObservedUses(
        before=experts[first - 1 : -1],
        above=request.experts[first:, at - 1].astype(np.int64) if at else None,
        now=experts[first:],
        prefill=prefill,
        token=other.main.token[:, at].sum(axis=0).astype(np.float64),
        layer=other.main.layer[:, at - 1].sum(axis=0).astype(np.float64) if at else None,
        popularity=other.main.freq[at].astype(np.float64),
    )
