"""The data model of a routing trace: its metadata, one request, and the rules of a valid request.

A trace is a list of requests. A request is a list of tokens, prefill before decode. A token has *top_k* distinct
experts in every MoE layer. Layer indices are absolute (as in the checkpoint); expert ids count from 0 in each layer.
Ids from *num_experts* on are zero-computation experts, without weights, in models that have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wss.compiling import compiled
from wss.errors import TraceError

FORMAT = "moe-routing-trace/1"
MAX_EXPERTS = 32767
LARGEST_NUMBER = 2**31 - 1  # of a request

_TEXTS = ("model", "benchmark", "subject", "source", "note")
_NUMBERS = ("num_layers", "num_experts", "top_k", "num_requests")
_LAYERS = msgspec.json.Decoder(list[int])


class Label(msgspec.Struct, frozen=True):
    """Benchmark and subject of one request, in a trace of several subjects."""

    request: int
    benchmark: str = ""
    subject: str = ""


_LABELS = msgspec.json.Decoder(tuple[Label, ...])


@dataclass(frozen=True, kw_only=True)
class TraceMeta:
    """What the trace was recorded from.

    Attributes
    ----------
    model, benchmark, subject
        Names; subject is ``*`` if there are several.
    moe_layers
        Absolute indices of the MoE layers, ascending.
    num_layers
        All layers of the model, dense ones included.
    num_experts, top_k
        Routed experts per layer that have weights, and experts per token.
    num_requests
        Number of requests as counted by the trace's producer; a part of a trace may still have the number of the whole.
    source, note
        Origin of the trace, and a note for the reader.
    requests
        Benchmark and subject of each request, if there are several; empty otherwise.
    zero_experts
        Zero-computation experts per layer, with ids from num_experts on; choosing one costs nothing.
    """

    model: str
    benchmark: str = "*"
    subject: str = "*"
    moe_layers: tuple[int, ...]
    num_layers: int
    num_experts: int
    top_k: int
    num_requests: int
    source: str
    note: str = ""
    requests: tuple[Label, ...] = ()
    zero_experts: int = 0

    @property
    def num_choices(self) -> int:
        """Experts per layer that the router chooses among, zero-computation experts included."""
        return self.num_experts + self.zero_experts

    @property
    def synthetic(self) -> bool:
        """Whether the trace is synthetic rather than recorded."""
        return self.source.startswith("synthetic")

    @cached_property
    def labels(self) -> dict[int, Label]:
        """The labels of `requests`, by request number."""
        return {label.request: label for label in self.requests}

    def to_keys(self) -> dict[str, str]:
        """Return the key/value metadata of a trace file."""
        texts = {name: getattr(self, name) for name in _TEXTS}
        numbers = {name: str(getattr(self, name)) for name in _NUMBERS}
        layers = msgspec.json.encode(self.moe_layers).decode()
        labels = {"requests": msgspec.json.encode(self.requests).decode()} if self.requests else {}
        zero = {"zero_experts": str(self.zero_experts)} if self.zero_experts else {}
        return {"format": FORMAT, **texts, "moe_layers": layers, **numbers, **zero, **labels}

    @classmethod
    def from_keys(cls, keys: Mapping[str, str], path: Path) -> TraceMeta:
        """Return the metadata in a trace file's key/value pairs; unknown keys are ignored.

        Raises
        ------
        TraceError
            With every error in *keys*, each beginning with *path*.
        """
        if keys.get("format") != FORMAT:
            found = f"its format is '{keys['format']}'" if "format" in keys else "it names no format"
            raise TraceError(f"{path}: is not a routing trace ({found}); the metadata key 'format' must be '{FORMAT}'")
        faults = [
            f"metadata key '{name}' is missing; add it"
            for name in ("model", "source", "moe_layers", *_NUMBERS)
            if name not in keys
        ]
        numbers = {name: _number(name, keys[name], faults) for name in (*_NUMBERS, "zero_experts") if name in keys}
        layers = _layers(keys["moe_layers"], faults) if "moe_layers" in keys else ()
        if not faults:
            faults = _contradictions(layers, numbers)
        if faults:
            raise TraceError(*(f"{path}: {fault}" for fault in faults))
        given: dict[str, Any] = {**numbers, **{name: keys[name] for name in _TEXTS if name in keys}}
        return cls(moe_layers=layers, requests=_labels(keys.get("requests", "[]")), **given)


def _number(name: str, text: str, faults: list[str]) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1):
        faults.append(f"metadata key '{name}' is '{text}'; it must be a whole number, at least 1")
        return 0
    return int(text)


def _labels(text: str) -> tuple[Label, ...]:
    """Read the labels of requests; a list of another form is ignored."""
    try:
        return _LABELS.decode(text)
    except msgspec.DecodeError:
        return ()


def _layers(text: str, faults: list[str]) -> tuple[int, ...]:
    try:
        layers = _LAYERS.decode(text)
    except msgspec.DecodeError:
        layers = []
    if not layers:
        faults.append(f"metadata key 'moe_layers' is '{text}'; it must be a JSON list of layer numbers, such as [1, 3]")
    return tuple(layers)


def _contradictions(layers: tuple[int, ...], numbers: Mapping[str, int]) -> list[str]:
    """Return the contradictions between values that are each well formed."""
    faults = []
    last = numbers["num_layers"] - 1
    if list(layers) != sorted(set(layers)):
        faults.append("moe_layers are not ascending and distinct; list each MoE layer once, lowest first")
    if min(layers) < 0 or max(layers) > last:
        faults.append(f"moe_layers leave the model of {last + 1} layers; they must lie in 0..{last}")
    choices = numbers["num_experts"] + numbers.get("zero_experts", 0)
    if numbers["top_k"] > choices:
        faults.append(f"top_k {numbers['top_k']} exceeds num_experts; it must be at most {choices}")
    if choices > MAX_EXPERTS:
        faults.append(f"num_experts {choices} exceeds what a trace can hold; at most {MAX_EXPERTS}")
    return faults


@dataclass(frozen=True, eq=False, kw_only=True)
class RequestRouting:
    """The experts of every token of one request.

    Attributes
    ----------
    request
        Its number.
    position
        Position of each token in its sequence, ascending, int32 [tokens].
    num_prefill
        Number of prefill tokens, which come first; the rest are decode.
    experts
        Expert ids, int16 [tokens, moe_layers, top_k].
    """

    request: int
    position: npt.NDArray[np.int32]
    num_prefill: int
    experts: npt.NDArray[np.int16] = field(repr=False)

    @property
    def num_decode(self) -> int:
        """Number of decode tokens of the request."""
        return len(self.position) - self.num_prefill


def fault_of(routing: RequestRouting, meta: TraceMeta) -> str | None:
    """Return the first error of a request in a trace of *meta*, or None."""
    where = f"request {routing.request}"
    if not 0 <= routing.request <= LARGEST_NUMBER:
        return f"{where}: its number is out of range; numbers lie in 0..{LARGEST_NUMBER}"
    tokens = len(routing.position)
    shape = (tokens, len(meta.moe_layers), meta.top_k)
    if tokens == 0 or not 0 <= routing.num_prefill <= tokens:
        return f"{where} has {tokens} tokens, {routing.num_prefill} of them prefill; it must have 1 or more"
    if routing.experts.shape != shape:
        return f"{where} has experts of shape {routing.experts.shape}; [tokens, moe_layers, top_k] here is {shape}"
    steps = np.diff(routing.position.astype(np.int64), prepend=-1)
    if (steps <= 0).any():
        place = int(np.argmax(steps <= 0))
        before = "is negative" if place == 0 else f"follows {routing.position[place - 1]}"
        return f"{where}, position {routing.position[place]}: {before}; positions count up from 0 within a request"
    return _expert_fault(routing, meta, where)


def _expert_fault(routing: RequestRouting, meta: TraceMeta, where: str) -> str | None:
    experts = routing.experts
    if experts.min() < 0 or experts.max() >= meta.num_choices:
        token, layer, k = np.argwhere((experts < 0) | (experts >= meta.num_choices))[0]
        what = f"expert {experts[token, layer, k]} does not exist; ids lie in 0..{meta.num_choices - 1}"
    elif meta.top_k > 1 and (twice := repeated(experts)).any():
        token, layer = np.argwhere(twice)[0]
        what = f"experts {experts[token, layer].tolist()} repeat; a token's experts in a layer are distinct"
    else:
        return None
    return f"{where}, position {routing.position[token]}, layer {meta.moe_layers[layer]}: {what}"


def repeated(experts: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which tokens have an expert twice, [...], of *experts* [..., top_k]."""
    rows = np.ascontiguousarray(experts).reshape(-1, experts.shape[-1])
    twice = np.zeros(len(rows), np.bool_)
    _mark_repeats(rows, twice)
    return twice.reshape(experts.shape[:-1])


@compiled
def _mark_repeats(rows, twice):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        for a in range(1, rows.shape[1]):
            for b in range(a):
                if rows[i, a] == rows[i, b]:
                    twice[i] = True
