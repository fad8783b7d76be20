"""Filler is not routing: what stands in a recording where no router chose.

Three kinds are told from routing.

* A token without routing: the same id in all its places, or the lowest ids, in every layer (a cached prefix, padding,
  a failed capture). Such tokens are left out, and counted; a request of nothing else is refused.
* A layer without routing: one set of experts in all tokens (a dense layer). It is refused where two layers or more are
  so, beyond chance. A single one is kept: Llama-4's layer 45 sends nearly all tokens to one expert.
* An expert that every token uses in every layer: a shared expert that was fused with the routed ones.

"Beyond chance" grants routing that it repeats a token's experts in every other case, which no recording known does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import comb, log10
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wss.records import BoolArray
from wss.traces.schema import RequestRouting, TraceMeta

REPEATS = 0.5  # chance of a token to have the experts of another, granted to routing
BEYOND = 3.0  # decades by which routing must be unlikely to be called filler
BLANK_CELLS = 20  # tokens times layers of one run of the lowest ids that are filler
FEW_TOKENS = 8  # of fewer tokens nothing is said
LEFT_OUT = "tokens without routing left out (a cached prefix, padding or a failed capture)"
MEND = "name the MoE layers with --moe-layers {}, or the model with --model"


class Common(msgspec.Struct):
    """What all tokens of a trace, or of a part of it, have in common.

    Attributes
    ----------
    tokens
        How many tokens were seen.
    experts
        Of each layer, the experts that every one of them uses, ascending.
    zero_choices
        How often an expert without weights was chosen.
    """

    tokens: int = 0
    experts: list[list[int]] = msgspec.field(default_factory=list)
    zero_choices: int = 0

    def add(self, routing: RequestRouting, meta: TraceMeta) -> None:
        """Take in a valid request."""
        chosen = routing.experts
        if not self.tokens:
            self.experts = [sorted(layer) for layer in chosen[0].tolist()]
        self.tokens += len(chosen)
        if meta.zero_experts:
            self.zero_choices += int((chosen >= meta.num_experts).sum())
        for at, experts in enumerate(self.experts):
            if experts:
                self.experts[at] = [e for e in experts if (chosen[:, at] == e).any(axis=1).all()]

    def merge(self, other: Common) -> None:
        """Take in what *other* has seen."""
        if not self.tokens:
            self.experts = other.experts
        elif other.tokens:
            both = zip(self.experts, other.experts, strict=True)
            self.experts = [[e for e in ours if e in theirs] for ours, theirs in both]
        self.tokens += other.tokens
        self.zero_choices += other.zero_choices

    def constant(self, meta: TraceMeta) -> list[int]:
        """Return the places of the layers in which all tokens have the same experts; none where all are always used."""
        if meta.top_k == meta.num_choices:
            return []
        return [at for at, experts in enumerate(self.experts) if len(experts) == meta.top_k]

    def fault(self, meta: TraceMeta) -> str | None:
        """Return what shows that the trace holds filler, or None."""
        return self._shared(meta) or self._dense(meta)

    def warnings(self, meta: TraceMeta) -> list[str]:
        """Return what a reader should know of layers that are constant and kept."""
        if self.tokens < FEW_TOKENS:
            return []
        return [
            f"layer {meta.moe_layers[at]}: every token uses {_names(self.experts[at])}; kept, as a router may do so"
            for at in self.constant(meta)
        ]

    def _shared(self, meta: TraceMeta) -> str | None:
        everywhere = set.intersection(*(set(experts) for experts in self.experts)) if self.experts else set()
        if not everywhere or meta.top_k == 1 or meta.top_k == meta.num_choices or len(everywhere) == meta.top_k:
            return None
        honest = (1.0 + meta.top_k / meta.num_choices) / 2
        if -log10(honest) * (self.tokens * len(self.experts) - 1) - log10(meta.num_choices) < BEYOND:
            return None
        return shared_fault(sorted(everywhere))

    def _dense(self, meta: TraceMeta) -> str | None:
        constant = self.constant(meta)
        if len(constant) < 2 or _decades(self, constant, meta) < BEYOND:
            return None
        layers = [meta.moe_layers[at] for at in constant]
        sets = {tuple(self.experts[at]) for at in constant}
        what = _names(sets.pop()) if len(sets) == 1 else "the same experts"
        return _layers_fault(layers, f"every token uses {what}", meta)


def _decades(common: Common, constant: Sequence[int], meta: TraceMeta) -> float:
    """Return how unlikely it is that a router made layers *constant*, in decades.

    One of them is granted. Equal sets in several layers are chance among all sets, and so is the set of the lowest ids.
    """
    sets = [tuple(common.experts[at]) for at in constant]
    most = max(set(sets), key=lambda one: (sets.count(one), one == tuple(range(meta.top_k))))
    choices = log10(comb(meta.num_choices, meta.top_k))
    alike = sets.count(most) - 1 + (sets.count(most) > 1 and most == tuple(range(meta.top_k)))
    repeated = -log10(REPEATS) * (len(sets) - 1) * (common.tokens - 1)
    return repeated + alike * choices - log10(comb(len(meta.moe_layers), len(sets)))


def shared_fault(experts: Sequence[int]) -> str:
    """Return what to say of experts that every token uses in every layer."""
    return (
        f"{_names(experts)} is used by every token in every layer: a shared expert fused with the routed ones; leave "
        "its column out of the recording"
    )


def without_filler(routing: RequestRouting, meta: TraceMeta) -> tuple[RequestRouting, str | None]:
    """Return *routing* without tokens that have no routing, and what is wrong with it beside, or None."""
    experts = routing.experts
    if experts.ndim != 3 or 0 in experts.shape:
        return routing, None
    blank = _blank(experts, meta)
    out = blank.all(axis=1) | _lowest_runs(experts, meta)
    if out.all():
        what = f"holds no routing: {_fill(experts[0, 0])} in every token and layer; the capture failed, record it anew"
        return routing, f"request {routing.request} {what}"
    if out.any():
        keep = ~out
        routing = RequestRouting(
            request=routing.request,
            position=routing.position[keep],
            num_prefill=int(keep[: routing.num_prefill].sum()),
            experts=experts[keep],
        )
    places = np.flatnonzero(blank[~out].all(axis=0)).tolist()
    if places:
        fill = _fill(routing.experts[0, places[0]])
        return routing, _layers_fault([meta.moe_layers[at] for at in places], f"every token has {fill}", meta)
    return routing, _shared_beyond(routing.experts, meta)


def _blank(experts: npt.NDArray[np.int16], meta: TraceMeta) -> BoolArray:
    """Return where one id stands in all places of a token, so that none was chosen, [tokens, layers]."""
    first = experts[:, :, 0]
    is_no_choice = (first < 0) | (first >= meta.num_choices)
    if experts.shape[2] == 1:
        return is_no_choice
    result: BoolArray = (experts == first[:, :, None]).all(axis=2)
    return result


def _lowest_runs(experts: npt.NDArray[np.int16], meta: TraceMeta) -> BoolArray:
    """Return which tokens are of a run with the lowest ids in every layer, too long to be chance, [tokens]."""
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
    """Return a fault if every token uses, in every layer, one expert whose number is beyond the model's."""
    beyond = sorted({int(e) for e in experts[0, 0] if e >= meta.num_choices})
    everywhere = [e for e in beyond if (experts == e).any(axis=2).all()]
    return shared_fault(everywhere) if everywhere and experts.shape[2] > 1 else None


def filler_in(requests: Iterable[RequestRouting], meta: TraceMeta) -> list[str]:
    """Return what shows that *requests* of a trace hold filler, which an import refuses or leaves out."""
    common, lost, of = Common(), 0, 0
    for request in requests:
        common.add(request, meta)
        out = int(_lowest_runs(request.experts, meta).sum())
        lost, of = lost + out, of + (out > 0)
    found = [f"{lost} tokens of {of} requests have the lowest ids in every layer, as filler has"] if lost else []
    if fault := common.fault(meta):
        found.append(fault)
    return [f"the trace holds what is no routing: {what}; import it anew" for what in found]


def varying(rows: npt.NDArray[Any], layers: Sequence[int]) -> list[int]:
    """Return those of *layers* whose tokens have differing ids, of *rows* [tokens, all layers, k]."""
    return [layer for layer in layers if len(rows) and (rows[:, layer] != rows[0, layer]).any()]


def dense_fault(layers: Sequence[int], of: str) -> str:
    """Return what to say of *layers* that route tokens, and which *of* says have no experts."""
    what = "has differing experts" if len(layers) == 1 else "have differing experts"
    kind = "a dense layer" if len(layers) == 1 else "dense layers"
    return f"{_layers(layers)} {what}, and {of} says {kind}; give both alike"


def _layers_fault(layers: Sequence[int], what: str, meta: TraceMeta) -> str:
    rest = _ranges([layer for layer in meta.moe_layers if layer not in layers])
    mend = MEND.format(rest) if rest else "the capture failed, record it anew"
    return f"{_layers(layers)}: {what}, which no router does (dense layers, or a failed capture); {mend}"


def _layers(layers: Sequence[int]) -> str:
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {_ranges(layers)}"


def _ranges(layers: Sequence[int]) -> str:
    """Return numbers as --moe-layers takes them: 0,2,4 or 3-60."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def _names(experts: Sequence[int]) -> str:
    return f"expert {experts[0]}" if len(experts) == 1 else f"experts {', '.join(map(str, experts))}"


def _fill(row: npt.NDArray[np.int16]) -> str:
    ids = row.tolist()
    return f"id {ids[0]}" if len(set(ids)) == 1 else f"ids {ids}"
