"""Records, copies and sorts for compiled code, where numba's own take seconds to compile.

Assigning a whole row or slice also compiles an error message about shapes (4 s); a sort takes 2 to 3 s per array type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wss.compiling import borrowing, compiled, switched_off

_SHORT = 16  # elements sorted by insertion


def records(shape: int | tuple[int, int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return records of zeros. Fields are attributes in compiled code, and also where compiling is switched off."""
    array = np.zeros(shape, dtype)
    return array.view(np.recarray) if switched_off() else array


@borrowing
def copy(source, target):  # type: ignore[no-untyped-def]
    """Copy *source* to *target*, [same size]."""
    for i in range(source.size):
        target[i] = source[i]


@borrowing
def largest(values):  # type: ignore[no-untyped-def]
    """Return the largest of *values*, one at least."""
    found = values[0]
    for i in range(1, values.size):
        found = max(found, values[i])
    return found


@borrowing
def sort_front(values, count):  # type: ignore[no-untyped-def]
    """Sort the first *count* of *values* in place, by insertion."""
    for i in range(1, count):
        value, at = values[i], i
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value


@compiled
def stable_order(keys):  # type: ignore[no-untyped-def]
    """Return the indices that sort *keys*, none of them NaN; equal keys stay in their order, [keys]."""
    order, merged = np.arange(keys.size), np.empty(keys.size, np.int64)
    for first in range(0, keys.size, _SHORT):
        for i in range(first + 1, min(first + _SHORT, keys.size)):
            entry, at = order[i], i
            while at > first and keys[order[at - 1]] > keys[entry]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = entry
    width = _SHORT
    while width < keys.size:
        for first in range(0, keys.size, 2 * width):
            middle, end = min(first + width, keys.size), min(first + 2 * width, keys.size)
            left, right = first, middle
            for at in range(first, end):
                if left < middle and (right == end or keys[order[left]] <= keys[order[right]]):
                    merged[at] = order[left]
                    left += 1
                else:
                    merged[at] = order[right]
                    right += 1
        order, merged = merged, order
        width *= 2
    return order
