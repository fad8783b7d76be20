"""Synthetic routing: a trace of any model from a few named parameters, for when no real one is at hand.

The model, for each MoE layer l on its own:

* popularity: expert of rank r has weight 1 / (r + shift)^a_l; the ranks are a random order of the experts, and the
  exponents a_l lie evenly spread over skew · (1 ± skew_spread), in random order over the layers;
* subjects: a request is of one subject; its popularity is (1 - subject_share) · common + subject_share · the subject's
  own, of the same form with another order of ranks;
* prefill and decode: decode's popularity is agreement · prefill's + (1 - agreement) · another of the same form;
* stickiness: each of a token's k experts is kept by the next token of the request with a probability that grows
  linearly with depth from sticky_first to sticky_last; what is not kept is drawn from the popularity, distinct.

Layers are independent of one another. The parameters of the presets are plausible, not calibrated.

Every draw is a hash of (seed, request, position, layer, number of the draw), so a shorter trace, or one of fewer
requests, is exactly the beginning of a longer one. Sampling is by whole numbers only: equal on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numba
import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from wss.errors import CHECKED
from wss.models import ModelShape
from wss.rng import mix, permutation, stream, uniform
from wss.traces.schema import RequestRouting, TraceMeta

Share = Annotated[float, Ge(0), Le(1)]
Tokens = Annotated[int, Ge(1), Le(100_000)]

_ONE = 1 << 24  # popularity is counted in parts of this
_CHUNK = 256  # requests made at a time
_MAX_DRAWS = 1000  # then the most popular experts left are taken

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SynthSpec:
    """The parameters of a synthetic trace; the module says what they do.

    Attributes
    ----------
    skew, skew_spread, shift
        Exponent of the popularity, its relative spread over layers, and the shift of the ranks.
    sticky_first, sticky_last
        Chance that an expert is kept by the next token, at the first and the last MoE layer.
    agreement
        Share of prefill's popularity in decode's.
    subjects, subject_share
        How many subjects there are, and how much of a request's popularity is its subject's own.
    requests, prompt_min, prompt_max, decode_tokens
        Size: requests, prefill tokens of a request (evenly spread), decode tokens of each.
    """

    __pydantic_config__ = CHECKED

    skew: Annotated[float, Ge(0), Le(8)] = 0.8
    skew_spread: Share = 0.3
    shift: Annotated[float, Gt(0), Le(1000)] = 2.0
    sticky_first: Share = 0.05
    sticky_last: Share = 0.3
    agreement: Share = 0.8
    subjects: Annotated[int, Ge(1), Le(1000)] = 8
    subject_share: Share = 0.3
    requests: Annotated[int, Ge(1), Le(10**6)] = 4096
    prompt_min: Tokens = 8
    prompt_max: Tokens = 24
    decode_tokens: Tokens = 128

    def __post_init__(self) -> None:
        if self.prompt_min > self.prompt_max:
            raise ValueError(f"prompt_min {self.prompt_min} exceeds prompt_max {self.prompt_max}; give a range")


SYNTHS: dict[str, SynthSpec] = {
    "deepseek_v3": SynthSpec(),
    "gpt_oss_20b": SynthSpec(skew=0.7, subjects=6),
    "kimi_k2": SynthSpec(skew=0.8),
    "llama4_maverick": SynthSpec(skew=1.6, skew_spread=0.6, shift=1.0, sticky_last=0.4, subject_share=0.2),
    "qwen3_235b": SynthSpec(skew=0.9, skew_spread=0.4),
}


def synth_meta(spec: SynthSpec, model: ModelShape, seed: int, requests: int) -> TraceMeta:
    """Return the metadata of a synthetic trace; its source says that it is synthetic, and all parameters."""
    parameters = ", ".join(f"{key}={value}" for key, value in asdict(spec).items())
    return TraceMeta(
        model=model.name,
        benchmark="synthetic",
        subject="*" if spec.subjects > 1 else "synthetic",
        moe_layers=model.moe_layers,
        num_layers=model.num_layers,
        num_experts=model.num_experts,
        top_k=model.top_k,
        num_requests=requests,
        source=f"synthetic: wss trace synth, seed {seed}",
        note=f"made up, not recorded; {parameters}",
    )


def synthesise(
    spec: SynthSpec, model: ModelShape, seed: int, *, requests: int | None = None, decode_tokens: int | None = None
) -> Iterator[RequestRouting]:
    """Yield the requests of a synthetic trace, by default all of *spec*; fewer are the beginning of the same trace."""
    count = spec.requests if requests is None else requests
    decode = spec.decode_tokens if decode_tokens is None else decode_tokens
    tables = np.stack([_popularity(spec, model, seed, layer) for layer in range(len(model.moe_layers))])
    sticky = np.linspace(spec.sticky_first, spec.sticky_last, len(model.moe_layers))
    keep = np.rint(sticky * _ONE).astype(np.int64)
    key = stream(seed, "synth", "routing")
    subject = (uniform(stream(seed, "synth", "subject"), count) * spec.subjects).astype(np.int64)
    spread = spec.prompt_max - spec.prompt_min + 1
    prompt = spec.prompt_min + (uniform(stream(seed, "synth", "prompt"), count) * spread).astype(np.int64)
    for first in range(0, count, _CHUNK):
        numbers = np.arange(first, min(first + _CHUNK, count))
        lengths = prompt[numbers] + decode
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        experts = np.zeros((offsets[-1], len(model.moe_layers), model.top_k), np.int16)
        route(key, numbers, offsets, prompt[numbers], subject[numbers], tables, keep, experts)
        for i, number in enumerate(numbers.tolist()):
            yield RequestRouting(
                request=number,
                position=np.arange(lengths[i], dtype=np.int32),
                num_prefill=int(prompt[number]),
                experts=experts[offsets[i] : offsets[i + 1]],
            )


def _popularity(spec: SynthSpec, model: ModelShape, seed: int, layer: int) -> IntArray:
    """Return one layer's popularity, cumulated in parts of 2^24, [phases, subjects, experts]."""
    place = permutation(stream(seed, "synth", "skew"), len(model.moe_layers))[layer]
    across = 2.0 * (place + 0.5) / len(model.moe_layers) - 1.0
    exponent = spec.skew * (1.0 + spec.skew_spread * across)
    weight = (np.arange(model.num_experts) + spec.shift) ** -exponent
    weight /= weight.sum()

    def shuffled(*names: object) -> npt.NDArray[np.float64]:
        return weight[permutation(stream(seed, "synth", "popularity", layer, *names), model.num_experts)]

    common = shuffled("common")
    drifted = shuffled("decode")
    phases = []
    for base in (common, spec.agreement * common + (1 - spec.agreement) * drifted):
        own = [shuffled("subject", s) for s in range(spec.subjects)]
        phases.append([(1 - spec.subject_share) * base + spec.subject_share * mine for mine in own])
    parts = np.rint(np.array(phases) * _ONE).astype(np.int64)
    return np.cumsum(np.maximum(parts, 1), axis=2)


_mix: Callable[[Any], Any] = numba.njit(cache=True)(mix)


@numba.njit(cache=True)
def route(key, numbers, offsets, prompt, subject, tables, keep, experts):  # type: ignore[no-untyped-def]
    """Fill in *experts* [tokens, layers, k] for the requests *numbers* [requests].

    Token t of request i is row offsets[i] + t; the first prompt[i] are prefill. *tables* is cumulated popularity,
    [layers, phases, subjects, experts]; *keep* is the chance of each layer that an expert is kept, of 2^24, [layers].
    `route.py_func` is the same in plain Python.
    """
    num_layers, top_k, num_experts = experts.shape[1], experts.shape[2], tables.shape[3]
    golden = np.uint64(0x9E3779B97F4A7C15)
    low = np.uint64(24)
    taken = np.zeros(num_experts, np.int64)
    mark = 0
    for i in range(numbers.size):
        for layer in range(num_layers):
            own = _mix(key ^ _mix(np.uint64(numbers[i]) * np.uint64(1000003) + np.uint64(layer) * golden))
            for t in range(offsets[i + 1] - offsets[i]):
                row = offsets[i] + t
                table = tables[layer, 1 if t >= prompt[i] else 0, subject[i]]
                whole = np.uint64(table[num_experts - 1])
                token = _mix(own + np.uint64(t + 1) * golden)
                mark += 1
                found = 0
                draw = np.uint64(0)
                if t > 0:
                    for k in range(top_k):
                        draw += np.uint64(1)
                        before = experts[row - 1, layer, k]
                        if np.int64(_mix(token + draw * golden) >> np.uint64(40)) < keep[layer]:
                            experts[row, layer, found] = before
                            taken[before] = mark
                            found += 1
                while found < top_k and draw < np.uint64(_MAX_DRAWS):
                    draw += np.uint64(1)
                    # a number below 2^40 scaled to the table: high bits, so that the scaling is even to one in 2^16
                    at = ((_mix(token + draw * golden) >> low) * whole) >> np.uint64(40)
                    expert = np.searchsorted(table, np.int64(at), side="right")
                    if taken[expert] != mark:
                        experts[row, layer, found] = expert
                        taken[expert] = mark
                        found += 1
                while found < top_k:
                    best, most = -1, -1
                    for expert in range(num_experts):
                        part = table[expert] - (table[expert - 1] if expert > 0 else 0)
                        if taken[expert] != mark and part > most:
                            best, most = expert, part
                    experts[row, layer, found] = best
                    taken[best] = mark
                    found += 1
