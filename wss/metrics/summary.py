"""The figures of one policy, from the table of figures."""

from __future__ import annotations

from wss.metrics import figures
from wss.metrics.figures import Figure, Value
from wss.metrics.measures import Measure, Totals


def summarise(totals: Totals) -> dict[str, Value]:
    """Return the figures of one policy by name; where layers are sampled, estimates for all layers."""
    measured = [(figure, figure.measure) for figure in figures.FIGURES if figure.measure and figure.only(totals)]
    return {figure.name: _value(figure, measure, totals) for figure, measure in measured}


def _value(figure: Figure, measure: Measure, totals: Totals) -> Value:
    """Return the value of a figure; a count is an integer unless it is estimated."""
    sample = totals.ledger.sample
    if measure.value is not None and (sample is None or measure.above is None):
        value = measure.value(totals)
        return Value(int(value) if figure.unit == "count" else value)
    assert measure.above is not None
    above, below = measure.above(totals), None if measure.below is None else measure.below(totals)
    if sample is None:
        value = float(above[0] if below is None else above[0] / below[0])
        return Value(int(value) if figure.unit == "count" else value)
    if measure.rare and below is not None:
        value, low, high = sample.speedup(below if totals.baseline is None else above, below)
    else:
        value, low, high = sample.estimate(above, below, measure.bias(totals, sample) if measure.bias else 0.0)
    return Value(value, layers=(low, high))
