"""Balancedness: mean over largest number of tokens per GPU, the figure that SGLang prints while it serves.

SGLang takes (mean + 1e-5) / (max + 1e-5) in every layer and forward pass, and averages over the layers
(``compute_utilization_rate`` in sglang/srt/eplb/expert_distribution.py). 1 is even; 1 / GPUs is all on one GPU. The
small terms only decide a layer without tokens, which is left out here. The tokens of an expert are split evenly over
its replicas.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wss.errors import ConfigError, TraceError
from wss.models import ModelShape
from wss.policies.placement.layout_engines import Target
from wss.policies.placement.layout_formats import replicas_of, slots_of
from wss.records import FloatArray, IntArray
from wss.traces import TraceReader
from wss.traces.analysis.counts import count_uses
from wss.traces.content import read_content
from wss.traces.load_history import check_shape
from wss.traces.loads import fitted_passes, is_loads, read_loads

MOST_GPUS = 1024


def tokens_per_gpu(counts: FloatArray | IntArray, placed: IntArray) -> FloatArray:
    """Return the tokens of each GPU, [..., GPUs].

    *counts* are the tokens of each expert, [..., experts]; *placed* its replicas on each GPU, [..., experts, GPUs].
    """
    shares = placed / placed.sum(axis=-1, keepdims=True)
    tokens: FloatArray = np.einsum("...e,...eg->...g", counts, shares)
    return tokens


def balancedness(tokens: FloatArray) -> FloatArray:
    """Return mean over largest of *tokens* [..., GPUs], [...]; NaN where there are none."""
    most = tokens.max(axis=-1)
    ratio: FloatArray = np.divide(tokens.mean(axis=-1), most, out=np.full(most.shape, np.nan), where=most > 0)
    return ratio


@dataclass(frozen=True, eq=False, kw_only=True)
class Balance:
    """Balancedness of a layout on loads.

    Attributes
    ----------
    gpus
        Number of GPUs.
    layers
        Absolute indices of the layers that have tokens.
    values
        Balancedness in each pass and layer, [passes, layers]; NaN where a pass has no tokens in a layer.
    """

    gpus: int
    layers: tuple[int, ...]
    values: FloatArray

    @property
    def overall(self) -> float:
        """Mean over all layers and passes."""
        return float(np.nanmean(self.values))

    @property
    def by_layer(self) -> FloatArray:
        """Mean and minimum over the passes, [layers, 2]."""
        return np.stack([np.nanmean(self.values, axis=0), np.nanmin(self.values, axis=0)], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        rows = zip(self.layers, self.by_layer.tolist(), strict=True)
        return {
            "gpus": self.gpus,
            "passes": len(self.values),
            "balancedness": self.overall,
            "layers": [{"layer": layer, "mean": mean, "min": least} for layer, (mean, least) in rows],
        }


def check_layout(layout: Path, loads: Path, gpus: int, model: ModelShape | None = None) -> Balance:
    """Return the balancedness of the file *layout* on *gpus* GPUs, for each pass and layer of the file *loads*.

    Without a *model*, both files must have rows for the same layers. Several dumps in a file count as passes. *loads*
    may also be a trace: one pass, of its decode or, if it has none, of its prefill.

    Raises
    ------
    WssError
        If a file cannot be read, or they are of different models or of another number of GPUs.
    """
    if not 1 <= gpus <= MOST_GPUS:
        raise ConfigError(f"--gpus {gpus}: is not right; give the number of GPUs of the layout, 1 to {MOST_GPUS}")
    if loads.is_file() and not is_loads(loads):
        target, passes = _of_trace(loads, gpus, model)
    else:
        target, passes = _with_model(loads, gpus, model) if model else _alone(loads, gpus)
    placed = read_layout(layout, target)
    values = balancedness(np.stack([tokens_per_gpu(counts, placed) for counts in passes]))
    known = np.flatnonzero(~np.isnan(values).all(axis=0))
    return Balance(gpus=gpus, layers=tuple(target.layers[at] for at in known), values=values[:, known])


def read_layout(path: Path, target: Target) -> IntArray:
    """Return the replicas on each GPU, [layers, experts, GPUs], from a layout file.

    Raises TraceError or ConfigError if it is no layout, or one for another model or number of GPUs.
    """
    right = f"give a layout of {target.experts} experts a layer for {target.dies} GPUs, or its own --gpus"
    try:
        slots = slots_of(read_content(path), target)
        if slots is None:
            raise ValueError("holds expert loads, not a layout")
        return replicas_of(slots, target)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; {right}") from None


def _of_trace(trace: Path, gpus: int, model: ModelShape | None) -> tuple[Target, list[FloatArray]]:
    """Return what a layout must match, and the tokens of each expert in a trace as one pass."""
    with TraceReader(trace) as reader:
        meta = reader.meta
        if model is not None:
            check_shape(trace, meta, model)
        counts = np.zeros((2, len(meta.moe_layers), meta.num_choices), np.int64)
        for request in reader.requests():
            count_uses(request.experts, request.num_prefill, counts)
    own = counts[int(counts[1].any()), :, : meta.num_experts].astype(np.float64)
    return Target(meta.moe_layers, meta.num_layers, meta.num_experts, gpus), [own]


def _with_model(loads: Path, gpus: int, model: ModelShape) -> tuple[Target, list[FloatArray]]:
    passes = [one for own, _ in fitted_passes(loads, model).values() for one in own]
    return Target(model.moe_layers, model.num_layers, model.num_experts, gpus), passes


def _alone(loads: Path, gpus: int) -> tuple[Target, list[FloatArray]]:
    """Return what a layout must match, and the passes, [layers, experts] each, by the file of loads alone."""
    dumps = read_loads(loads)
    first = dumps[0]
    odd = next((dump for dump in dumps if dump.layers != first.layers), None)
    if odd is not None:
        raise TraceError(f"{loads}: {odd.name} and {first.name} are not of the same layers; give loads of one model")
    filled = np.flatnonzero(np.any([dump.counts.any(axis=1) for dump in dumps], axis=0))
    layers = tuple(first.layers[row] for row in filled)
    passes = [one.counts[filled] for dump in dumps for one in dump.by_pass()]
    num_layers = 0 if first.numbered else len(first.layers)
    return Target(layers, num_layers, first.counts.shape[1], gpus), passes
