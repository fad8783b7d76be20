"""The figures of one row from runs with several seeds: means, and 95% intervals over the seeds.

A figure is the mean over seeds; for a ratio such as a speedup this is the mean of ratios. The interval over seeds is
Student's t, with one degree of freedom fewer than there are seeds. If each seed also draws its layers, the draws are
independent: the half-width of the mean's interval over layers is the root of the sum of squared half-widths, divided by
the number of seeds. The interval over seeds includes this variation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from wss.metrics.figures import Interval, Value, facts


def merged(every: Sequence[Mapping[str, Value]]) -> Mapping[str, Value]:
    """Return the figures of one policy from those of *every* seed; of one seed, they stay.

    A value that is not a number stays if all seeds agree, and is None if they do not.
    """
    if len(every) == 1:
        return every[0]
    found = {"seeds_run": Value(len(every))}
    for name, first in every[0].items():
        figures = [own.get(name, Value(None)) for own in every]
        values = [figure.value for figure in figures]
        alike = all(value == first.value for value in values)
        if name == "layers_sampled":
            continue
        if not all(map(_is_number, values)) or (name in facts() and alike):
            found[name] = Value(first.value if alike else None)
        else:
            mean, seeds = _mean([float(value) for value in values])
            found[name] = Value(mean, layers=_over_layers(figures), seeds=seeds)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mean(values: Sequence[float]) -> tuple[float, Interval]:
    """Return the mean of *values*, one per seed, and its 95% interval, which is cut off at zero."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import, and seldom needed

    mean = fmean(values)
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return mean, (max(0.0, mean - half), mean + half)


def _over_layers(figures: Sequence[Value]) -> Interval | None:
    """Return the interval over layers of the mean of *figures*, one per seed; None if one has none."""
    halves = [figure.layers[1] - figure.value for figure in figures if figure.layers]
    if len(halves) < len(figures):
        return None
    mean, half = fmean(figure.value for figure in figures), math.hypot(*halves) / len(figures)
    return max(0.0, mean - half), mean + half
