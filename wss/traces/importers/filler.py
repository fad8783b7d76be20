"""Filler: data in a recording where no router chose.

There are three kinds.

* A token without routing: the same id in all its slots, or the lowest ids, in every layer (a cached prefix, padding,
  a failed capture). Such tokens are left out and counted; a request of nothing else is refused. Shorter runs, and
  other ids, are found from the whole trace (`edges`).
* A layer without routing: one set of experts in all tokens (a dense layer). It is refused if two or more layers are
  constant, beyond chance. A single one is kept: Llama-4's layer 45 sends nearly all tokens to one expert.
* An expert that every token uses in every layer: a shared expert that was fused with the routed ones.

"Beyond chance" assumes that real routing repeats a token's experts half of the time, more than any known recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.records import BoolArray
from wss.traces.schema import RequestRouting, TraceMeta

REPEATS = 0.5  # probability assumed for routing to repeat the experts of another token
BEYOND = 3.0  # least -log10 of the probability of routing that counts as filler
BLANK_CELLS = 20  # tokens times layers of a run of the lowest ids that count as filler
LEFT_OUT = "tokens without routing left out (a cached prefix, padding or a failed capture)"
MEND = "name the MoE layers with --moe-layers {}, or the model with --model"


def shared_fault(experts: Sequence[int]) -> str:
    """Return the message for experts that every token uses in every layer."""
    return (
        f"{names_of(experts)} is used by every token in every layer: a shared expert fused with the routed ones; leave "
        "its column out of the recording"
    )


def without_filler(routing: RequestRouting, meta: TraceMeta) -> tuple[RequestRouting, str | None]:
    """Return *routing* without tokens that have no routing, and any other error in it, or None."""
    experts = routing.experts
    if experts.ndim != 3 or 0 in experts.shape:
        return routing, None
    blank = _blank(experts, meta)
    out = blank.all(axis=1) | lowest_runs(experts, meta)
    if out.all():
        return routing, lost_all(routing)
    if out.any():
        routing = kept(routing, ~out)
    places = np.flatnonzero(blank[~out].all(axis=0)).tolist()
    if places:
        fill = _fill(routing.experts[0, places[0]])
        return routing, layers_fault([meta.moe_layers[at] for at in places], f"every token has {fill}", meta)
    return routing, _shared_beyond(routing.experts, meta)


def lost_all(routing: RequestRouting) -> str:
    """Return the message for a request that is nothing but filler."""
    what = f"{_fill(routing.experts[0, 0])} in every token and layer"
    return f"request {routing.request} holds no routing: {what}; the capture failed, record it anew"


def kept(routing: RequestRouting, keep: BoolArray) -> RequestRouting:
    """Return *routing* with only the tokens to *keep*."""
    return RequestRouting(
        request=routing.request,
        position=routing.position[keep],
        num_prefill=int(keep[: routing.num_prefill].sum()),
        experts=routing.experts[keep],
    )


def _blank(experts: npt.NDArray[np.int16], meta: TraceMeta) -> BoolArray:
    """Return where one id fills all slots of a token, so that none was chosen, [tokens, layers]."""
    first = experts[:, :, 0]
    is_no_choice = (first < 0) | (first >= meta.num_choices)
    if experts.shape[2] == 1:
        return is_no_choice
    result: BoolArray = (experts == first[:, :, None]).all(axis=2)
    return result


def lowest_runs(experts: npt.NDArray[np.int16], meta: TraceMeta) -> BoolArray:
    """Return which tokens are in a run with the lowest ids in every layer that is too long to be chance, [tokens]."""
    layers, top_k = experts.shape[1:]
    none = np.zeros(len(experts), np.bool_)
    if layers < 2 or top_k == meta.num_choices:
        return none
    lowest = (np.sort(experts, axis=2) == np.arange(top_k)).all(axis=(1, 2))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lowest, [False]])))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        none[start:end] = (end - start) * layers >= BLANK_CELLS
    return none


def _shared_beyond(experts: npt.NDArray[np.int16], meta: TraceMeta) -> str | None:
    """Return an error if every token uses, in every layer, one expert with an id beyond the model's."""
    beyond = sorted({int(e) for e in experts[0, 0] if e >= meta.num_choices})
    everywhere = [e for e in beyond if (experts == e).any(axis=2).all()]
    return shared_fault(everywhere) if everywhere and experts.shape[2] > 1 else None


def check_dense(path: Path, rows: npt.NDArray[Any], layers: Sequence[int], of: str) -> None:
    """Check that only *layers* have varying ids of their own in *rows* [tokens, all layers, k].

    A dense layer whose buffer still has another layer's ids has none of its own.

    Raises
    ------
    TraceError
        If others do, which *of* thereby declares dense.
    """
    dense = [layer for layer in range(rows.shape[1]) if layer not in layers]
    differing = [layer for layer in dense if len(rows) and (rows[:, layer] != rows[0, layer]).any()]
    if wrong := [layer for layer in differing if (rows == rows[:, [layer]]).all(axis=(0, 2)).sum() == 1]:
        raise TraceError(f"{path}: {dense_fault(wrong, of)}")


def dense_fault(layers: Sequence[int], of: str) -> str:
    """Return the message for *layers* that route tokens although *of* declares them dense."""
    what = "has differing experts" if len(layers) == 1 else "have differing experts"
    kind = "a dense layer" if len(layers) == 1 else "dense layers"
    return f"{_layers(layers)} {what}, and {of} says {kind}; give both alike"


def layers_fault(layers: Sequence[int], what: str, meta: TraceMeta) -> str:
    """Return the message for *layers* in which no router chose, with how to leave them out."""
    rest = _ranges([layer for layer in meta.moe_layers if layer not in layers])
    mend = MEND.format(rest) if rest else "the capture failed, record it anew"
    return f"{_layers(layers)}: {what}, which no router does (dense layers, or a failed capture); {mend}"


def _layers(layers: Sequence[int]) -> str:
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {_ranges(layers)}"


def _ranges(layers: Sequence[int]) -> str:
    """Return numbers in the form of --moe-layers: 0,2,4 or 3-60."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def names_of(experts: Sequence[int]) -> str:
    """Return *experts* as text."""
    return f"expert {experts[0]}" if len(experts) == 1 else f"experts {', '.join(map(str, experts))}"


def _fill(row: npt.NDArray[np.int16]) -> str:
    ids = row.tolist()
    return f"id {ids[0]}" if len(set(ids)) == 1 else f"ids {ids}"
