"""Sizes of kernels as arrays, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wss.errors import ConfigError
from wss.records import FloatArray


def sizes(**given: npt.ArrayLike) -> list[FloatArray]:
    """Return the *given* sizes as float arrays of one common shape, in order.

    Raises ConfigError, one line each, for a size that is negative or not a finite number, and for shapes that differ.
    """
    arrays = {name: _floats(name, value) for name, value in given.items()}
    faults = [f"{name}: {bad} is not a size; give a number from 0" for name, a in arrays.items() for bad in _bad(a)]
    if faults:
        raise ConfigError(*faults)
    try:
        return [np.array(array) for array in np.broadcast_arrays(*arrays.values())]
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ConfigError(f"sizes differ in shape: {shapes}; give arrays of one shape, or single numbers") from None


def _floats(name: str, value: Any) -> FloatArray:
    """Return *value* as a float array; raises ConfigError if it is not numbers."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: {str(value)[:60]!r} is not a size; give a number or an array of numbers") from None


def _bad(array: FloatArray) -> list[float]:
    """Return the first element that is not a size, if any."""
    return [float(bad) for bad in array[~((array >= 0) & np.isfinite(array))][:1]]
