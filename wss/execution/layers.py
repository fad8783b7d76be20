"""Which layers to run, where a sample of them is asked for: drawn by how skewed each is, known before the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from wss.config import Experiment, TraceFile
from wss.config.experiment import DrawnLayers, LayerSample
from wss.metrics.sampling import Sample, draw
from wss.records import FloatArray
from wss.traces import RoutingSource
from wss.traces.synthetic.tables import popularity

Replayed = Callable[[Experiment], RoutingSource]


def draw_layers(experiment: Experiment, replayed: Replayed) -> tuple[Experiment, Sample | None]:
    """Return *experiment* with its sample of layers drawn, and the sample; None if all layers, or given ones, are run.

    *replayed* replays the batch of an experiment for the skew of recorded routing; that of synthetic routing is in its
    parameters. The seed draws.
    """
    asked, layers = experiment.layers, experiment.model.moe_layers
    if not isinstance(asked, LayerSample):
        return experiment, None
    everything = replace(experiment, layers="all")
    if asked.sample >= len(layers):
        return everything, None
    sample = draw(layers, skew_of(everything, replayed), asked.sample, experiment.seed)
    return replace(experiment, layers=DrawnLayers(sample=asked.sample, layers=sample.layers)), sample


def skew_of(everything: Experiment, replayed: Replayed) -> FloatArray:
    """Return most over mean tokens of an expert over the decode steps, [layers]; expected, if routing is synthetic."""
    model = everything.model
    if isinstance(everything.trace, TraceFile):
        tokens = np.zeros((len(model.moe_layers), model.num_experts))
        for layer_run in replayed(everything).layer_runs():
            if layer_run.step > 0:
                tokens[layer_run.layer] += layer_run.counts
    else:
        tokens = popularity(everything.trace, model, everything.seed)[:, : model.num_experts]
    skew: FloatArray = tokens.max(axis=1) / tokens.mean(axis=1)
    return skew
