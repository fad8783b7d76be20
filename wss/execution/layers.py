"""Sampling of the layers to run, by the skew of each layer, which is computed before the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from wss.config import Experiment, TraceFile
from wss.config.experiment import DrawnLayers, LayerSample
from wss.metrics.sampling import Sample, draw
from wss.records import FloatArray
from wss.serving.routing_stream import RoutingStream
from wss.traces.synthetic.tables import popularity

OpenRouting = Callable[[Experiment], RoutingStream]


def draw_layers(experiment: Experiment, open_routing: OpenRouting) -> tuple[Experiment, Sample | None]:
    """Return *experiment* with its sample of layers drawn, and the sample; None if no sample is configured.

    *open_routing* opens the layer runs of an experiment, for the skew of recorded routing. The skew of synthetic
    routing follows from its parameters. The draw depends on the experiment's seed.
    """
    asked, layers = experiment.layers, experiment.model.moe_layers
    if not isinstance(asked, LayerSample):
        return experiment, None
    everything = replace(experiment, layers="all")
    if asked.sample >= len(layers):
        return everything, None
    sample = draw(layers, skew_of(everything, open_routing), asked.sample, experiment.seed)
    return replace(experiment, layers=DrawnLayers(sample=asked.sample, layers=sample.layers)), sample


def skew_of(everything: Experiment, open_routing: OpenRouting) -> FloatArray:
    """Return the skew of each layer, [layers]: maximum over mean tokens per expert in decode; expected if synthetic."""
    model = everything.model
    if isinstance(everything.trace, TraceFile):
        tokens = np.zeros((len(model.moe_layers), model.num_experts))
        for layer_run in open_routing(everything).layer_runs():
            if layer_run.step > 0:
                tokens[layer_run.layer] += layer_run.counts
    else:
        tokens = popularity(everything.trace, model, everything.seed)[:, : model.num_experts]
    skew: FloatArray = tokens.max(axis=1) / tokens.mean(axis=1)
    return skew
