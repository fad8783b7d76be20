"""The figures of one row from runs with several seeds: means, and 95% intervals over the seeds.

A figure is the mean over seeds; for a ratio such as a speedup this is the mean of ratios. The interval over seeds is
Student's t, with one degree of freedom fewer than there are seeds. If each seed also draws its layers, the draws are
independent: the half-width of the mean's interval over layers is the root of the sum of squared half-widths, divided by
the number of seeds. The interval over seeds includes this variation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from wss.metrics.figures import facts

Row = dict[str, Any]
Interval = list[float]


def over_seeds(rows: Sequence[Row]) -> Row:
    """Return one row for *rows* of one policy, one row per seed, at least two.

    A value that is not a number stays if all seeds agree, and is None if they do not. `ci95_seeds` has each figure's
    interval over seeds; `ci95` has that over layers if layers were sampled.
    """
    first = rows[0]
    found: Row = {"seeds_run": len(rows)}
    over: dict[str, Interval] = {}
    for key, value in first.items():
        values: list[Any] = [row.get(key) for row in rows]
        alike = all(other == value for other in values)
        if key in ("ci95", "layers_sampled"):
            continue
        if not all(_is_number(other) for other in values):
            found[key] = value if alike else None
        elif key in facts() and alike:
            found[key] = value
        else:
            found[key], over[key] = _mean([float(other) for other in values])
    if all("ci95" in row for row in rows):
        found["ci95"] = {
            key: _over_layers([row[key] for row in rows], [row["ci95"][key] for row in rows])
            for key in first["ci95"]
            if key in first
        }
    return {**found, "ci95_seeds": over}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mean(values: Sequence[float]) -> tuple[float, Interval]:
    """Return the mean of *values*, one per seed, and its 95% interval, which is cut off at zero."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import, and seldom needed

    mean = fmean(values)
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return mean, [max(0.0, mean - half), mean + half]


def _over_layers(values: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """Return the interval over layers of the mean of *values*, given their *intervals*."""
    mean = fmean(values)
    half = math.hypot(*(high - value for value, (_, high) in zip(values, intervals, strict=True))) / len(values)
    return [max(0.0, mean - half), mean + half]
