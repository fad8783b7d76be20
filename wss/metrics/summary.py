"""The figures of one policy, from the table of figures."""

from __future__ import annotations

from wss.metrics import figures
from wss.metrics.figures import Figure, Value
from wss.metrics.measures import Totals


def summarise(totals: Totals) -> dict[str, Value]:
    """Return the figures of one policy by name; where layers are sampled, estimates for all layers."""
    return {figure.name: _value(figure, totals) for figure in figures.FIGURES if figure.measure and figure.only(totals)}


def _value(figure: Figure, totals: Totals) -> Value:
    """Return the value of a figure; a sum of counts is an integer unless it is estimated."""
    measure, sample = figure.measure, totals.ledger.sample
    assert measure is not None
    if sample is None or measure.parts is None:
        value = measure.value(totals)
        return Value(int(value) if figure.unit == "count" else value)
    above, below, bias, rare = measure.parts(totals, sample)
    if rare and below is not None:
        value, low, high = sample.speedup(above, below)
    else:
        value, low, high = sample.estimate(above, below, bias)
    return Value(value, layers=(low, high))
