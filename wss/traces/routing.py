"""The sampling loop of synthetic routing: whole numbers only, no state but what it writes.

Each function is written once. The compiled form is called; ``route.py_func`` (with `_choose.py_func` and so on in
place of the compiled helpers) is the same as plain Python: the readable twin, equal to the last bit.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from wss import rng

WHOLE = 1 << 24  # a popularity is counted in parts of this
TRIES = 64  # draws of one expert before it is drawn from what is left

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_HIGH = np.uint64(40)  # leaves 24 bits of 64
_mix: Any = numba.njit(cache=True)(rng.mix)


@numba.njit(cache=True)
def _hash(key, number):  # type: ignore[no-untyped-def]
    """Return the *number*-th hash of *key*."""
    return _mix(key + _GOLDEN * (np.uint64(number) + _ONE))


@numba.njit(cache=True)
def _find(table, part):  # type: ignore[no-untyped-def]
    """Return the first expert whose running sum exceeds *part*."""
    low, high = 0, table.size - 1
    while low < high:
        middle = (low + high) // 2
        if table[middle] > part:
            high = middle
        else:
            low = middle + 1
    return low


@numba.njit(cache=True)
def _is_in(expert, chosen):  # type: ignore[no-untyped-def]
    for other in chosen:  # noqa: SIM110 - numba compiles no generator here
        if other == expert:
            return True
    return False


@numba.njit(cache=True)
def _draw_rest(token, draw, table, chosen):  # type: ignore[no-untyped-def]
    """Return an expert drawn from the popularity of those not in *chosen*, by walking through all."""
    left = 0
    for expert in range(table.size):
        if not _is_in(expert, chosen):
            left += table[expert] - (table[expert - 1] if expert > 0 else 0)
    part = np.int64(_hash(token, draw) >> _ONE) % left
    for expert in range(table.size):
        if not _is_in(expert, chosen):
            part -= table[expert] - (table[expert - 1] if expert > 0 else 0)
            if part < 0:
                return expert
    return -1


@numba.njit(cache=True)
def _choose(token, table, keep, before, chosen):  # type: ignore[no-untyped-def]
    """Fill in *chosen* [k], which holds -1: some of *before* [k] stay where they are, the rest are drawn.

    Draw r of rank r says whether it keeps its expert; the draws after those are of new experts.
    """
    top_k = chosen.size
    if keep > 0:
        for rank in range(before.size):
            if np.int64(_hash(token, rank) >> _HIGH) < keep:
                chosen[rank] = before[rank]
    draw = top_k
    for rank in range(top_k):
        tries = 0
        while chosen[rank] < 0:
            if tries < TRIES:
                expert = _find(table, np.int64(_hash(token, draw) >> _HIGH))
                if not _is_in(expert, chosen):
                    chosen[rank] = expert
            else:
                chosen[rank] = _draw_rest(token, draw, table, chosen)
            draw += 1
            tries += 1


@numba.njit(cache=True)
def route(key, numbers, offsets, prompt, subject, layers, tables, keep, experts):  # type: ignore[no-untyped-def]
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
    tables
        Cumulated popularity in parts of `WHOLE`, [layers, phases, subjects, experts].
    keep
        Chance of each layer that an expert is kept, in parts of `WHOLE`, [layers].
    experts
        Written; holds -1 everywhere, [rows, layers, k].
    """
    for i in range(numbers.size):
        request = _hash(key, numbers[i])
        for layer in range(layers.size):
            own = _hash(request, layers[layer])
            for t in range(offsets[i + 1] - offsets[i]):
                row = offsets[i] + t
                before = experts[row - 1, layer] if t > 0 else experts[row, layer, :0]
                table = tables[layer, 1 if t >= prompt[i] else 0, subject[i]]
                _choose(_hash(own, t), table, keep[layer], before, experts[row, layer])
