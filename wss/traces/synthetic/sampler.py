"""The sampling loop of synthetic routing: integers only, no state except its outputs.

Each function is written once. The compiled form is called; ``route.py_func`` (with the helpers' ``py_func`` in place)
runs the same code as plain Python: the readable twin, equal bit by bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wss import rng
from wss.arrays import copy
from wss.compiling import borrowing, compiled
from wss.records import IntArray

WHOLE = 1 << 24  # probability 1 in integer parts
NEVER = 1 << 62  # a position beyond any token

_CELL = 18  # one cell of a guide covers 2^18 parts
CELLS = WHOLE >> _CELL  # of a guide, per WHOLE

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_HIGH = np.uint64(40)  # leaves 24 bits of 64


class Tables(NamedTuple):
    """The distributions to sample from, as running sums of parts of `WHOLE`.

    A guide gives, for each cell of the running sums, the index of the first sum above the cell's lower end.

    Attributes
    ----------
    clusters, cluster_guide
        Distribution of the clusters, [phases, subjects, clusters], total WHOLE; [phases, subjects, cells].
    sums, guide
        Frequency of each expert in each layer's clusters, total k · WHOLE, [layers, clusters, experts];
        [layers, clusters, cells]. If routing drifts, all layers come twice: before and after. Zeros in layers in which
        no experts are drawn.
    orders
        The experts in the order of *sums*, [layers, clusters, experts].
    """

    clusters: IntArray
    sums: npt.NDArray[np.int32]
    orders: npt.NDArray[np.int16]
    cluster_guide: npt.NDArray[np.int16]
    guide: npt.NDArray[np.int16]


class Draws(NamedTuple):
    """Everything that determines the draws of a trace.

    Attributes
    ----------
    key
        Of the random stream.
    layers
        The absolute index of each MoE layer, [layers].
    tables
        `Tables`.
    sticky
        Probability in each layer that a token repeats the choice of the previous token, in parts of `WHOLE`, [layers].
    carry
        Probability that a token has the same cluster as in the previous layer, in parts of `WHOLE`.
    prompt, subject
        Prefill tokens and subject of each request, [requests].
    drift
        The position from which each request draws from the second tables, [requests].
    """

    key: np.uint64
    layers: IntArray
    tables: Tables
    sticky: IntArray
    carry: int
    prompt: IntArray
    subject: IntArray
    drift: IntArray


class NextTokens(NamedTuple):
    """The next tokens of some requests.

    Attributes
    ----------
    requests, start
        Number of each request, and the position of the first of its next tokens, [requests].
    offsets
        Request i has the rows offsets[i] to offsets[i + 1] - 1: the previous token, and the next ones, [requests + 1].
    """

    requests: IntArray
    start: IntArray
    offsets: IntArray


def guide_of(sums: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int16]:
    """Return the guide of running sums whose totals are multiples of `WHOLE`, [..., entries] to [..., cells]."""
    cells = int(sums.flat[-1]) >> _CELL
    starts = np.arange(cells, dtype=sums.dtype) << _CELL
    guide = np.empty((sums.size // sums.shape[-1], cells), np.int16)
    for table, own in enumerate(sums.reshape(len(guide), -1)):
        guide[table] = np.searchsorted(own, starts, side="right")
    return guide.reshape(*sums.shape[:-1], cells)


_mix: Any = borrowing(rng.mix)


@borrowing
def _hash(key, number):  # type: ignore[no-untyped-def]
    """Return the *number*-th hash of *key*."""
    return _mix(key + _GOLDEN * (np.uint64(number) + _ONE))


@borrowing
def _part(key, number):  # type: ignore[no-untyped-def]
    """Return the *number*-th hash of *key*, reduced to a part of `WHOLE`."""
    return np.int64(_hash(key, number) >> _HIGH)


@borrowing
def _draw_cluster(clusters, guide, phase, subject, part):  # type: ignore[no-untyped-def]
    """Return the first cluster whose running sum exceeds *part*; arrays as in `Tables`."""
    index = guide[phase, subject, part >> _CELL]
    while clusters[phase, subject, index] <= part:
        index += 1
    return index


@borrowing
def _choose(tables, layer, cluster, part, chosen):  # type: ignore[no-untyped-def]
    """Fill *chosen* [k] by systematic sampling: the experts at part, part + WHOLE, ... of the running sums.

    *tables* are sums, guide and orders of `Tables`. No expert has more than WHOLE, so none is chosen twice, and each is
    chosen exactly as often as its parts say.
    """
    sums, guide, orders = tables
    for rank in range(chosen.size):
        own = part + rank * WHOLE
        index = guide[layer, cluster, own >> _CELL]
        while sums[layer, cluster, index] <= own:
            index += 1
        chosen[rank] = orders[layer, cluster, index]


@compiled
def route(draws, low, offsets, experts):  # type: ignore[no-untyped-def]
    """Fill in the experts of whole requests.

    Parameters
    ----------
    draws
        `Draws`.
    low, offsets
        Number of the first request; number low + i has the rows offsets[i] to offsets[i + 1] - 1, [requests + 1].
    experts
        Written, [rows, layers, k].
    """
    clusters, sums, orders, cluster_guide, guide = draws.tables
    tables = (sums, guide, orders)
    for i in range(offsets.size - 1):
        request = _hash(draws.key, low + i)
        subject, prompt, drift = draws.subject[low + i], draws.prompt[low + i], draws.drift[low + i]
        rows = offsets[i + 1] - offsets[i]
        cluster = np.zeros(rows, np.int16)  # of each token, in the current layer
        for layer in range(draws.layers.size):
            own = _hash(request, draws.layers[layer])
            sticky, carry = draws.sticky[layer], draws.carry if layer else np.int64(0)
            for t in range(rows):
                row = offsets[i] + t
                token = _hash(own, t)
                if t > 0 and _part(token, 0) < sticky:
                    cluster[t] = cluster[t - 1]
                    copy(experts[row - 1, layer], experts[row, layer])
                    continue
                if _part(token, 1) >= carry:
                    phase = 1 if t >= prompt else 0
                    cluster[t] = _draw_cluster(clusters, cluster_guide, phase, subject, _part(token, 2))
                half = draws.layers.size if t >= drift else 0
                _choose(tables, half + layer, cluster[t], _part(token, 3), experts[row, layer])


@borrowing
def advance(draws, now, layer, above, cluster, last, experts):  # type: ignore[no-untyped-def]
    """Route the next tokens of some requests in one layer: the same as `route`, but in time order.

    Parameters
    ----------
    draws
        As for `route`.
    now
        `NextTokens`: whose, and which.
    layer
        Index into the MoE layers.
    above
        Clusters in the previous layer, overwritten with those in this one, [all rows of the step].
    cluster, last
        Cluster and experts of each request's last token in this layer, overwritten, [all requests], [all requests, k];
        with k = 0 only clusters are drawn.
    experts
        Of the rows of these requests, written, [rows or more, k].
    """
    requests, start, offsets = now
    clusters, sums, orders, cluster_guide, guide = draws.tables
    tables = (sums, guide, orders)
    chosen = experts.shape[1] > 0
    sticky, carry = draws.sticky[layer], draws.carry if layer else np.int64(0)
    for number in range(requests.size):
        i = requests[number]
        own = _hash(_hash(draws.key, i), draws.layers[layer])
        subject, prompt, drift = draws.subject[i], draws.prompt[i], draws.drift[i]
        at = offsets[number]
        row = at - offsets[0]
        if chosen:
            copy(last[i], experts[row])
        above[at] = cluster[i]
        for t in range(start[number], start[number] + offsets[number + 1] - at - 1):
            at += 1
            row += 1
            token = _hash(own, t)
            if t > 0 and _part(token, 0) < sticky:
                above[at] = above[at - 1]
                if chosen:
                    copy(experts[row - 1], experts[row])
                continue
            if _part(token, 1) >= carry:
                phase = 1 if t >= prompt else 0
                above[at] = _draw_cluster(clusters, cluster_guide, phase, subject, _part(token, 2))
            if chosen:
                half = draws.layers.size if t >= drift else 0
                _choose(tables, half + layer, above[at], _part(token, 3), experts[row])
        cluster[i] = above[at]
        if chosen:
            copy(experts[row], last[i])
