"""The distributions of synthetic routing: for every layer and cluster, how often its tokens use each expert.

For each MoE layer:

* the rank-frequency curve gives log2 of an expert's share over the mean, at the ranks of `KNOTS`; a layer's curve is
  that, times skew · (1 ± skew_spread), and the ranks are assigned to experts at random;
* each cluster has the affinity 2^(focus · z) to each expert, z random with standard deviation 1, within `group_limit`
  of the model's `groups` of experts (DeepSeek's group-limited routing);
* the shares of clusters in experts are scaled until clusters have their frequencies, experts have the popularity of
  the curve, and no token uses an expert twice (Sinkhorn's iteration, entries capped).

Everything here is rounded the same on every machine: sums run in one order, and powers use only operations that
IEEE 754 rounds the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wss.compiling import borrowing
from wss.errors import ConfigError, TraceError
from wss.models import ModelShape
from wss.records import FloatArray, IntArray
from wss.rng import permutation, stream, uniform
from wss.traces.loads import read_dumps
from wss.traces.synthetic.sampler import CELLS, WHOLE, Tables, guide_of

if TYPE_CHECKING:
    from wss.traces.synthetic.spec import SynthSpec

# Ranks, as shares of all experts (the hottest first), at which a curve is given; linear in between.
KNOTS = (0.002, 0.006, 0.014, 0.03, 0.08, 0.16, 0.32, 0.5, 0.7, 0.86, 0.95, 0.985, 0.998)
ROUNDS = 60  # of Sinkhorn's iteration
MOST_CHOSEN = (2**31 - 1) // WHOLE  # experts per token, so that running sums fit into 32 bits
DRIFTED = ("drifted",)  # part of the names of the random streams of popularity and affinity after a drift
_ROOTS = np.empty(40)  # 2^(1/2), 2^(1/4), ...: one for each binary digit of an exponent
_root = 2.0
for _digit in range(_ROOTS.size):
    _root = _ROOTS[_digit] = float(np.sqrt(_root))


def exp2(x: FloatArray) -> FloatArray:
    """Return 2^x, [...], to about 10 digits, the same on every machine: only square roots and products."""
    whole = np.floor(x)
    rest, result = x - whole, np.ones_like(x)
    for root in _ROOTS:  # for each binary digit of the rest
        rest *= 2.0
        digit = rest >= 1.0
        rest -= digit
        np.multiply(result, root, out=result, where=digit)
    return np.ldexp(result, np.clip(whole, -1000, 1000).astype(np.int64))


def curve_at(curve: tuple[float, ...], num_experts: int) -> FloatArray:
    """Return log2 of share over mean at each rank, [experts], interpolated; constant beyond the first and last knot."""
    rank = (np.arange(num_experts) + 0.5) / num_experts
    knots, values = np.array(KNOTS), np.array(curve)
    right = np.clip(np.searchsorted(knots, rank), 1, len(knots) - 1)
    x0, x1, y0, y1 = knots[right - 1], knots[right], values[right - 1], values[right]
    part = np.clip((rank - x0) / (x1 - x0), 0.0, 1.0)
    result: FloatArray = y0 + part * (y1 - y0)
    return result


def layer_shares(spec: SynthSpec, model: ModelShape, seed: int, layer: int, era: tuple[str, ...] = ()) -> FloatArray:
    """Return the share of each expert in one layer, [experts], sum 1; *era* is `DRIFTED` after a drift."""
    num_layers = len(model.moe_layers)
    place = int(permutation(stream(seed, "synth", "skew"), num_layers)[layer])
    factor = spec.skew * (1.0 + spec.skew_spread * ((2 * place + 1) / num_layers - 1.0))
    weight = exp2(curve_at(spec.curve, model.num_choices) * factor)
    order = permutation(stream(seed, "synth", *era, "popularity", layer), model.num_choices)
    mine = weight[order]
    result: FloatArray = mine / _sum(mine)
    return result


def popularity(
    spec: SynthSpec, model: ModelShape, seed: int, era: tuple[str, ...] = (), layers: Sequence[int] | None = None
) -> FloatArray:
    """Return the share of each expert in *layers* (indices into the MoE layers; None: all), [layers, experts].

    Each layer's sum is 1. The shares are recorded, or from `layer_shares`.

    Raises
    ------
    TraceError
        If recorded loads cannot be read, have another shape, lack the dump, or have too few experts in a layer.
    """
    layers = range(len(model.moe_layers)) if layers is None else layers
    if spec.loads and model.zero_experts:
        raise TraceError(f"{spec.loads}: loads do not count zero-computation experts; leave trace.synth.loads out")
    if spec.loads:
        name = spec.drift_to if era else spec.workload
        (load,) = read_dumps(Path(spec.loads), model, [name]).values()
        few = np.flatnonzero(np.count_nonzero(load, axis=1) < model.top_k)
        if few.size:
            raise TraceError(
                f"{spec.loads}: {name}: layer {model.moe_layers[few[0]]} has tokens on fewer than {model.top_k} "
                "experts, so that no token can have as many; give loads of more tokens"
            )
        return np.stack([load[layer] / _sum(load[layer]) for layer in layers])
    return np.stack([layer_shares(spec, model, seed, layer, era) for layer in layers])


def _sum(values: FloatArray) -> float:
    """Sum from left to right."""
    return float(np.cumsum(values)[-1])


@borrowing
def scaled(base, rows, columns, top_k, rounds, totals):  # type: ignore[no-untyped-def]
    """Scale *base* [clusters, experts] in place to row sums *rows* and, as far as caps allow, column sums *columns*.

    An entry is at most rows / k: a token uses an expert once. After the last round rows are exact. *totals* is scratch,
    [experts].
    """
    num_rows, num_columns = base.shape
    for _ in range(rounds):
        for e in range(num_columns):
            totals[e] = 0.0
        for c in range(num_rows):
            for e in range(num_columns):
                totals[e] += base[c, e]
        for e in range(num_columns):
            totals[e] = columns[e] / totals[e] if totals[e] > 0.0 else 1.0
        for c in range(num_rows):
            for e in range(num_columns):
                base[c, e] *= totals[e]
        for c in range(num_rows):
            cap = rows[c] / top_k
            total = 0.0
            for e in range(num_columns):
                total += base[c, e]
            factor = rows[c] / total
            for _again in range(top_k + 1):  # capping some entries raises the others
                over = False
                held, free = 0.0, 0.0
                for e in range(num_columns):
                    base[c, e] = min(base[c, e] * factor, cap) if base[c, e] < cap or _again == 0 else cap
                    if base[c, e] >= cap:
                        held += cap
                    else:
                        free += base[c, e]
                if free <= 0.0:
                    break
                factor = max(0.0, rows[c] - held) / free
                over = factor > 1.0 + 1e-12
                if not over:
                    break


def tables_of(spec: SynthSpec, model: ModelShape, seed: int, layers: tuple[int, ...]) -> Tables:
    """Return the distributions of synthetic routing; of experts only in *layers*, indices into the MoE layers.

    The last ones are cached: a run needs them again for the load history of its placements, a sweep for every point.
    Recorded loads are read anew, as their file may have changed.
    """
    return (_tables if spec.loads else _kept_tables)(spec, model, seed, layers)


def _tables(spec: SynthSpec, model: ModelShape, seed: int, layers: tuple[int, ...]) -> Tables:
    if model.top_k > MOST_CHOSEN:
        what = f"a token of {model.name} has {model.top_k} experts, and made-up routing has at most {MOST_CHOSEN}"
        raise ConfigError(f"trace.synth: {what}; give a trace, or a smaller top_k")
    weights = _cluster_weights(spec, seed)
    clusters = np.cumsum(_in_parts(weights, 1), axis=2, dtype=np.int64)
    frequent = np.array([_sum(column) for column in weights[1].T]) / spec.subjects
    num_layers, size, k = len(model.moe_layers), model.num_choices, model.top_k
    eras = ((), DRIFTED) if spec.drift_at else ((),)
    shape = len(eras) * num_layers, spec.clusters
    # zeros that are not written take no memory
    sums, orders = np.zeros((*shape, size), np.int32), np.zeros((*shape, size), np.int16)
    guide = np.zeros((*shape, k * CELLS), np.int16)
    for number, era in enumerate(eras):
        for layer, shares in zip(layers, popularity(spec, model, seed, era, layers), strict=True):
            base = _affinity(spec, model, seed, layer, era)
            base[~base[:, shares > 0].any(axis=1)] = 1.0  # a cluster without recorded experts may use any
            scaled(base, frequent, shares, k, ROUNDS, np.empty(size))
            order, at = permutation(_streams(spec, seed, "order", layer), size), number * num_layers + layer
            sums[at] = np.cumsum(_in_parts(np.take_along_axis(base, order, axis=1), k), axis=1)
            orders[at], guide[at] = order, guide_of(sums[at])
    return Tables(clusters, sums, orders, guide_of(clusters), guide)


_kept_tables = lru_cache(maxsize=6)(_tables)  # up to 15 MB each; a sweep has few models and seeds


def _cluster_weights(spec: SynthSpec, seed: int) -> FloatArray:
    """Return the share of each cluster, [phases, subjects, clusters]; phase 1 is decode."""
    own_curve = exp2(-10.0 * np.arange(spec.clusters) / spec.clusters)

    def shuffled(*names: object) -> FloatArray:
        mine = own_curve[permutation(stream(seed, "synth", "clusters", *names), spec.clusters)]
        result: FloatArray = mine / _sum(mine)
        return result

    weights = np.empty((2, spec.subjects, spec.clusters))
    for subject in range(spec.subjects):
        own = spec.subject_share * shuffled("subject", subject)
        weights[1, subject] = (1.0 - spec.subject_share) / spec.clusters + own
        drift = shuffled("prefill")
        weights[0, subject] = spec.agreement * weights[1, subject] + (1.0 - spec.agreement) * drift
    return weights


def _affinity(spec: SynthSpec, model: ModelShape, seed: int, layer: int, era: tuple[str, ...]) -> FloatArray:
    """Return the affinity of each cluster to each expert, before scaling, [clusters, experts]."""
    size = model.num_choices
    groups = min(spec.groups, size)
    allowed = permutation(_streams(spec, seed, *era, "groups", layer), groups)[:, : spec.group_limit]
    chosen = np.zeros((spec.clusters, groups), np.bool_)
    np.put_along_axis(chosen, allowed, True, axis=1)
    inside = chosen[:, np.arange(size) * groups // size]
    inside[inside.sum(axis=1) < model.top_k] = True
    # twice the sum of three uniform numbers, minus its mean: standard deviation 1, nearly normal
    draws = uniform(_streams(spec, seed, *era, "liking", layer), 3 * size).reshape(-1, 3, size)
    liking = 2.0 * (draws[:, 0] + draws[:, 1] + draws[:, 2] - 1.5)
    base = np.zeros((spec.clusters, size))
    base[inside] = exp2(spec.focus * liking[inside])
    base[:, ~base.any(axis=0)] = 1.0  # experts that no cluster may use are open to all
    return base


def _streams(spec: SynthSpec, seed: int, *names: object) -> npt.NDArray[np.uint64]:
    """Return the key of each cluster's stream called *names*, [clusters]."""
    return np.array([stream(seed, "synth", *names, cluster) for cluster in range(spec.clusters)])


def _in_parts(shares: FloatArray, k: int) -> npt.NDArray[np.int32]:
    """Return *shares* as integer parts of `WHOLE`, in each row k · WHOLE in all and none above WHOLE, [..., shares]."""
    total = np.cumsum(shares, axis=-1)[..., -1:]  # from left to right
    parts = np.minimum((shares * (k / total) * WHOLE).astype(np.int64), WHOLE)
    rest = k * WHOLE - parts.sum(axis=-1, keepdims=True)  # goes to the largest, as far as there is room
    order = np.argsort(-parts, axis=-1, kind="stable")
    ordered = np.take_along_axis(parts, order, axis=-1)
    room = WHOLE - ordered
    more = np.clip(rest - (np.cumsum(room, axis=-1) - room), 0, room)
    np.put_along_axis(parts, order, ordered + more, axis=-1)
    result: npt.NDArray[np.int32] = parts.astype(np.int32)
    return result


def spread(key: np.uint64, count: int, bound: int) -> IntArray:
    """Return *count* integers, uniform in 0..bound-1, [count]."""
    return (uniform(key, count) * bound).astype(np.int64)
