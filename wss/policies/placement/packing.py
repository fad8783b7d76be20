"""Packing: heaviest items first, each into the lightest pack."""

from __future__ import annotations

import numpy as np

from wss.compiling import compiled
from wss.records import FloatArray, IntArray


def heaviest_first(weights: FloatArray) -> IntArray:
    """Return the indices of *weights* [items] in descending order, stable."""
    return np.argsort(-weights, kind="stable")


@compiled
def pack(weights, order, num_packs, room):  # type: ignore[no-untyped-def]
    """Put each item, in *order*, into the lightest pack that holds fewer than *room* items; ties: the lowest.

    Parameters
    ----------
    weights, order
        [items].
    num_packs, room
        num_packs · room must be at least the number of items.

    Returns
    -------
    array
        The pack of each item, [items].
    """
    packs = np.empty(weights.size, np.int64)
    load, held = np.zeros(num_packs), np.zeros(num_packs, np.int64)
    for item in order:
        best = -1
        for p in range(num_packs):
            if held[p] < room and (best < 0 or load[p] < load[best]):
                best = p
        packs[item] = best
        load[best] += weights[item]
        held[best] += 1
    return packs
