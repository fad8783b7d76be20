"""Fit of the parameters of synthetic routing to figures, either of a recorded trace or reported ones.

One parameter is changed at a time, by bisection towards the figure that it affects most, in a fixed number of sweeps.
Every step generates and measures a trace of some requests and evenly spaced layers. This needs no optimiser, and the
same figures give the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from wss.models import ModelShape
from wss.records import FloatArray
from wss.traces.analysis.counts import Counts, count_trace
from wss.traces.analysis.statistics import statistics
from wss.traces.synthetic.spec import SynthSpec, synth_meta, synthesise
from wss.traces.synthetic.tables import KNOTS

STEPS = 6  # per bisection
SWEEPS = 2
LEAST_SHARE = 2.0**-12  # lower limit of a curve, relative to the mean


class Knob(NamedTuple):
    """A parameter, the figure that it is fitted to, and its range."""

    parameter: str
    figure: str
    low: float
    high: float


KNOBS = (
    Knob("skew", "token_coverage", low=0.3, high=4.0),
    Knob("focus", "pairs_top_10_percent_hold", low=0.0, high=8.0),
    Knob("carry", "layer_coverage", low=0.0, high=0.95),
    Knob("sticky", "same_adjacent", low=0.0, high=0.95),
    Knob("agreement", "spearman_frequency", low=0.0, high=1.0),
)


def measure(spec: SynthSpec, model: ModelShape, seed: int, requests: int, layers: int) -> dict[str, Any]:
    """Return the pooled figures of a synthetic trace of *requests*, on *layers* evenly spaced layers."""
    moe = model.moe_layers
    chosen = sorted({moe[i * (len(moe) - 1) // max(layers - 1, 1)] for i in range(min(layers, len(moe)))})
    part = replace(model, moe_layers=tuple(chosen))
    small = replace(spec, requests=requests)
    found = statistics(count_trace(synth_meta(small, part, seed), synthesise(small, part, seed), {}))
    pooled: dict[str, Any] = found["pooled"]
    return pooled


def turned(spec: SynthSpec, knob: Knob, value: float) -> SynthSpec:
    """Return *spec* with the parameter of *knob* at *value*; for stickiness, its mean over depth."""
    if knob.parameter == "sticky":
        # keep the initial slope, as far as probabilities allow
        mean = (spec.sticky_first + spec.sticky_last) / 2
        first = value * spec.sticky_first / mean if mean else value
        return replace(spec, sticky_first=min(first, 1.0), sticky_last=min(2 * value - min(first, 1.0), 1.0))
    return replace(spec, **{knob.parameter: value})  # type: ignore[arg-type]


def fit(
    start: SynthSpec,
    model: ModelShape,
    targets: Mapping[str, float],
    *,
    seed: int = 0,
    requests: int = 192,
    layers: int = 12,
    on_step: Callable[[int, int], None] | None = None,
) -> SynthSpec:
    """Return *start* with the parameters fitted to the figures in *targets*.

    If a figure cannot be reached, its parameter ends at the nearer limit. A figure that *start* does not have changes
    nothing.
    """
    has = measure(start, model, seed, requests, layers)
    knobs = [knob for knob in KNOBS if targets.get(knob.figure) is not None and has[knob.figure] is not None]
    spec, done = start, 0
    for _ in range(SWEEPS):
        for knob in knobs:
            low, high = knob.low, knob.high
            for _ in range(STEPS):
                middle = (low + high) / 2
                found = measure(turned(spec, knob, middle), model, seed, requests, layers)[knob.figure]
                low, high = (middle, high) if found < targets[knob.figure] else (low, middle)
                done += 1
                if on_step is not None:
                    on_step(done, SWEEPS * STEPS * len(knobs))
            spec = turned(spec, knob, round((low + high) / 2, 4))
    return spec


def curve_of(shares: FloatArray) -> tuple[float, ...]:
    """Return the mean rank-frequency curve of *shares* [layers, experts]: log2 of share over mean at `KNOTS`."""
    descending = -np.sort(-shares / shares.mean(axis=1, keepdims=True), axis=1)
    mean = np.maximum(descending.mean(axis=0), LEAST_SHARE)
    rank = (np.arange(shares.shape[1]) + 0.5) / shares.shape[1]
    return tuple(round(float(value), 3) for value in np.interp(KNOTS, rank, np.log2(mean)))


def fit_to_counts(
    counts: Counts, model: ModelShape, *, seed: int = 0, on_step: Callable[[int, int], None] | None = None
) -> SynthSpec:
    """Return parameters fitted to a recorded trace: its curve, stickiness by depth, sizes and figures.

    The curve alone sets popularity, and skew stays 1; token coverage results from the curve and the other figures.
    """
    found = statistics(counts)
    pooled, rows = found["pooled"], found["layers"]
    shares = counts.main.freq / counts.main.freq.sum(axis=1, keepdims=True)
    tops = np.log2(shares.max(axis=1) * shares.shape[1])
    spread = float(np.clip(np.std(tops) / max(float(np.mean(tops)), 1e-9) * 3**0.5, 0.0, 1.0))
    depth = np.arange(len(rows)) / max(len(rows) - 1, 1)
    same = np.array([row["same_adjacent"] or 0.0 for row in rows])
    alone = np.array([row["same_if_independent"] for row in rows])
    sticky = np.clip((same - alone) / np.maximum(1 - alone, 1e-9), 0.0, 1.0)
    slope, level = np.polyfit(depth, sticky, 1) if len(rows) > 1 else (0.0, float(sticky[0]))
    start = SynthSpec(
        curve=curve_of(shares),
        skew_spread=round(spread, 3),
        sticky_first=round(float(np.clip(level, 0, 1)), 4),
        sticky_last=round(float(np.clip(level + slope, 0, 1)), 4),
        subjects=max(1, min(len(counts.by_group), 1000)),
        requests=counts.requests,
        prompt_min=max(1, counts.prefill.tokens // counts.requests),
        prompt_max=max(1, counts.prefill.tokens // counts.requests),
        decode_tokens=max(1, counts.decode.tokens // counts.requests),
    )
    targets = {
        key: pooled[key]
        for key in ("pairs_top_10_percent_hold", "layer_coverage", "same_adjacent", "spearman_frequency")
        if pooled[key] is not None
    }
    return fit(start, model, targets, seed=seed, on_step=on_step)
