"""The sampling loop of synthetic routing: whole numbers only, no state but what it writes.

Each function is written once. The compiled form is called; ``route.py_func`` (with the helpers' ``py_func`` in place)
is the same as plain Python: the readable twin, equal to the last bit.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from wss import rng

WHOLE = 1 << 24  # a chance is counted in parts of this

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_HIGH = np.uint64(40)  # leaves 24 bits of 64
_mix: Any = numba.njit(cache=True)(rng.mix)


@numba.njit(cache=True)
def _hash(key, number):  # type: ignore[no-untyped-def]
    """Return the *number*-th hash of *key*."""
    return _mix(key + _GOLDEN * (np.uint64(number) + _ONE))


@numba.njit(cache=True)
def _part(key, number):  # type: ignore[no-untyped-def]
    """Return the *number*-th hash of *key* as one of the parts of `WHOLE`."""
    return np.int64(_hash(key, number) >> _HIGH)


@numba.njit(cache=True)
def _find(table, part, low):  # type: ignore[no-untyped-def]
    """Return the first place from *low* on whose running sum exceeds *part*."""
    high = table.size - 1
    while low < high:
        middle = (low + high) // 2
        if table[middle] > part:
            high = middle
        else:
            low = middle + 1
    return low


@numba.njit(cache=True)
def _choose(sums, order, part, chosen):  # type: ignore[no-untyped-def]
    """Fill in *chosen* [k] by systematic sampling: the experts at part, part + WHOLE, ... of the running sums.

    As no expert has more than WHOLE, none comes twice, and each comes just as often as its parts say.
    """
    place = 0
    for rank in range(chosen.size):
        place = _find(sums, part + rank * WHOLE, place)
        chosen[rank] = order[place]


@numba.njit(cache=True)
def route(key, numbers, offsets, prompt, subject, layers, clusters, sums, orders, sticky, carry, experts):  # type: ignore[no-untyped-def]
    """Fill in the experts of whole requests.

    Parameters
    ----------
    key
        Of the random stream.
    numbers, prompt, subject
        Number, prefill tokens and subject of each request, [requests].
    offsets
        Request i has the rows offsets[i] to offsets[i + 1] - 1, [requests + 1].
    layers
        The absolute number of each MoE layer, [layers].
    clusters, sums, orders
        As `popularity.tables_of` returns them.
    sticky
        Chance of each layer that a token repeats the choice of the one before, in parts of `WHOLE`, [layers].
    carry
        Chance that a token is of the same cluster as in the layer before, in parts of `WHOLE`.
    experts
        Written, [rows, layers, k].
    """
    for i in range(numbers.size):
        request = _hash(key, numbers[i])
        rows = offsets[i + 1] - offsets[i]
        cluster = np.zeros(rows, np.int64)  # of each token, in the layer at hand
        for layer in range(layers.size):
            own = _hash(request, layers[layer])
            for t in range(rows):
                row = offsets[i] + t
                token = _hash(own, t)
                if t > 0 and _part(token, 0) < sticky[layer]:
                    cluster[t] = cluster[t - 1]
                    for rank in range(experts.shape[2]):
                        experts[row, layer, rank] = experts[row - 1, layer, rank]
                    continue
                if layer == 0 or _part(token, 1) >= carry:
                    phase = 1 if t >= prompt[i] else 0
                    cluster[t] = _find(clusters[phase, subject[i]], _part(token, 2), 0)
                c = cluster[t]
                _choose(sums[layer, c], orders[layer, c], _part(token, 3), experts[row, layer])
