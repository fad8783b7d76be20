"""What a routing trace is: metadata, and for each request the experts of each token in each MoE layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FORMAT = "moe-routing-trace/1"
MAX_EXPERTS = 32767

_WHOLE = ("num_layers", "num_experts", "top_k", "num_requests")
_TEXT = ("model", "benchmark", "subject", "source", "note")


@dataclass(frozen=True, kw_only=True)
class TraceMeta:
    """The key/value metadata of a trace; layer numbers are absolute."""

    model: str
    benchmark: str
    subject: str
    moe_layers: tuple[int, ...]
    num_layers: int
    num_experts: int
    top_k: int
    num_requests: int
    source: str
    note: str

    @property
    def synthetic(self) -> bool:
        """Whether the trace was made up, not recorded."""
        return self.source.startswith("synthetic")

    def to_strings(self) -> dict[str, str]:
        """Return the metadata as the key/value strings of a file."""
        numbers = {key: str(getattr(self, key)) for key in _WHOLE}
        texts = {key: str(getattr(self, key)) for key in _TEXT}
        return {"format": FORMAT, **texts, "moe_layers": json.dumps(list(self.moe_layers)), **numbers}


def meta_from_strings(pairs: Mapping[str, str], faults: list[str]) -> TraceMeta | None:
    """Read a file's key/value strings; None with every fault appended to *faults* if they are not right."""
    before = len(faults)
    if pairs.get("format") != FORMAT:
        found = f"'{pairs['format']}'" if "format" in pairs else "absent"
        faults.append(f"metadata format is {found}; it should be '{FORMAT}' (see `wss trace import`)")
        return None
    numbers: dict[str, int] = {}
    for key in _WHOLE:
        text = pairs.get(key, "")
        if text.isdecimal():
            numbers[key] = int(text)
        else:
            faults.append(f"metadata {key} is '{text}'; it should be a whole number")
    for key in ("model", "source"):
        if key not in pairs:
            faults.append(f"metadata {key} is missing; it should say what the trace is of")
    layers = _layers(pairs.get("moe_layers", ""), faults)
    if len(faults) == before:
        faults.extend(_inconsistent(numbers, layers))
    if len(faults) > before:
        return None
    return TraceMeta(**{key: pairs.get(key, "") for key in _TEXT}, moe_layers=layers, **numbers)


def _layers(text: str, faults: list[str]) -> tuple[int, ...]:
    try:
        layers = json.loads(text)
    except ValueError:
        layers = None
    if not isinstance(layers, list) or not all(isinstance(layer, int) for layer in layers):
        faults.append(f"metadata moe_layers is '{text[:40]}'; it should be a JSON list of layer numbers")
        return ()
    return tuple(layers)


def _inconsistent(numbers: Mapping[str, int], layers: tuple[int, ...]) -> list[str]:
    faults = []
    if not 1 <= numbers["num_experts"] <= MAX_EXPERTS:
        faults.append(f"metadata num_experts is {numbers['num_experts']}; it should be 1 to {MAX_EXPERTS}")
    if not 1 <= numbers["top_k"] <= numbers["num_experts"]:
        faults.append(f"metadata top_k is {numbers['top_k']}; it should be 1 to num_experts {numbers['num_experts']}")
    ascending = list(layers) == sorted(set(layers))
    if not layers or not ascending or layers[0] < 0 or layers[-1] >= numbers["num_layers"]:
        faults.append(f"metadata moe_layers should be ascending layers of 0..{numbers['num_layers'] - 1}, at least one")
    return faults


@dataclass(frozen=True, eq=False, kw_only=True)
class RequestRouting:
    """One request.

    Attributes
    ----------
    request
        Its number.
    position
        Of each token in the sequence, ascending, int32 [tokens].
    num_prefill
        So many of the first tokens are prefill; the rest are decode.
    experts
        The experts of each token in each MoE layer, int16 [tokens, moe_layers, top_k].
    """

    request: int
    position: npt.NDArray[np.int32]
    num_prefill: int
    experts: npt.NDArray[np.int16] = field(repr=False)

    @property
    def num_decode(self) -> int:
        """How many decode tokens there are."""
        return len(self.position) - self.num_prefill
