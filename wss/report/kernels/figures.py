"""Figures of the relative error of predictions: predicted / measured - 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wss.records import FloatArray


class Figures(NamedTuple):
    """Errors of *rows* predictions, as fractions.

    *mean* and *p90* are of absolute errors, *worst* is the error of the largest absolute value, *bias* the mean error.
    """

    rows: int
    mean: float
    p90: float
    worst: float
    bias: float


def figures_of(predicted: FloatArray, measured: FloatArray) -> Figures:
    """Return the figures of *predicted* against *measured* seconds, [rows], of which there is at least one."""
    error = predicted / measured - 1
    size = np.abs(error)
    worst = error[size.argmax()]
    return Figures(len(error), float(size.mean()), float(np.quantile(size, 0.9)), float(worst), float(error.mean()))
