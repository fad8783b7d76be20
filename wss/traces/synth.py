"""Synthetic routing: a trace of any model from a few named parameters, for when no real one is at hand.

The model, for each MoE layer l on its own:

* popularity: the expert of rank r = 0, 1, ... has weight 1 / (r + shift)^a_l; the ranks are a random order of the
  experts, and the exponents a_l lie evenly spread over skew · (1 ± skew_spread), in random order over the layers;
* prefill and decode: decode's popularity is agreement · prefill's + (1 - agreement) · another of the same form;
* subjects: a request is of one subject; its popularity is (1 - subject_share) · that + subject_share · the subject's
  own, of the same form with another order of ranks;
* stickiness: each of a token's k experts is kept by the next token of the request with a probability that grows
  linearly with depth from sticky_first to sticky_last; what is not kept is drawn from the popularity, distinct.

Layers are independent of one another. The parameters of the presets are plausible, not calibrated.

Every draw is a hash of (seed, request, position, layer, number of the draw), so a shorter trace, or one of fewer
requests, is exactly the beginning of a longer one. It is equal on every machine: sampling is by whole numbers only,
and the popularity comes from `powers`, which rounds the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from wss.errors import CHECKED, ConfigError
from wss.models import ModelShape
from wss.rng import permutation, stream, uniform
from wss.traces.routing import WHOLE, route
from wss.traces.schema import RequestRouting, TraceMeta

Share = Annotated[float, Ge(0), Le(1)]
Tokens = Annotated[int, Ge(1), Le(100_000)]

_CHUNK = 4_000_000  # expert ids made at a time, unless one request has more
_BITS = 40  # binary digits of a logarithm and of an exponent

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


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


def synth_meta(spec: SynthSpec, model: ModelShape, seed: int, requests: int | None = None) -> TraceMeta:
    """Return the metadata of a synthetic trace; its source says that it is synthetic, and all parameters."""
    actual = replace(spec, requests=spec.requests if requests is None else requests)
    parameters = ", ".join(f"{key}={value}" for key, value in asdict(actual).items())
    return TraceMeta(
        model=model.name,
        benchmark="synthetic",
        subject="*" if spec.subjects > 1 else "synthetic",
        moe_layers=model.moe_layers,
        num_layers=model.num_layers,
        num_experts=model.num_experts,
        top_k=model.top_k,
        num_requests=actual.requests,
        source=f"synthetic: wss trace synth, seed {seed}",
        note=f"made up, not recorded; the parameters are plausible, not calibrated to a recorded trace: {parameters}",
    )


def synthesise(
    spec: SynthSpec, model: ModelShape, seed: int, *, requests: int | None = None, decode_tokens: int | None = None
) -> Iterator[RequestRouting]:
    """Return the requests of a synthetic trace, numbered from 0, made in chunks as they are asked for.

    Parameters
    ----------
    spec, model, seed
        What the trace is a function of.
    requests, decode_tokens
        How many, by default those of *spec*; fewer of either give exactly the beginning of the same trace.

    Raises
    ------
    ConfigError
        If *requests* or *decode_tokens* is not at least 1.
    """
    count = spec.requests if requests is None else requests
    decode = spec.decode_tokens if decode_tokens is None else decode_tokens
    if count < 1 or decode < 1:
        raise ConfigError(f"trace.synth: {count} requests of {decode} decode tokens; give at least 1 of both")
    return _requests(spec, model, seed, count, decode)


def _requests(spec: SynthSpec, model: ModelShape, seed: int, count: int, decode: int) -> Iterator[RequestRouting]:
    num_layers = len(model.moe_layers)
    tables = np.stack([_popularity(spec, model, seed, layer) for layer in range(num_layers)])
    depth = np.arange(num_layers) / max(num_layers - 1, 1)
    keep = np.floor((spec.sticky_first + (spec.sticky_last - spec.sticky_first) * depth) * WHOLE).astype(np.int64)
    layers = np.array(model.moe_layers, np.int64)
    subject = _below(stream(seed, "synth", "subject"), count, spec.subjects)
    prompt = spec.prompt_min + _below(stream(seed, "synth", "prompt"), count, spec.prompt_max - spec.prompt_min + 1)
    chunk = max(1, _CHUNK // ((spec.prompt_max + decode) * num_layers * model.top_k))
    for first in range(0, count, chunk):
        numbers = np.arange(first, min(first + chunk, count))
        offsets = np.concatenate([[0], np.cumsum(prompt[numbers] + decode)])
        experts = np.full((offsets[-1], num_layers, model.top_k), -1, np.int16)
        key = stream(seed, "synth", "routing")
        route(key, numbers, offsets, prompt[numbers], subject[numbers], layers, tables, keep, experts)
        for i, number in enumerate(numbers.tolist()):
            yield RequestRouting(
                request=number,
                position=np.arange(prompt[number] + decode, dtype=np.int32),
                num_prefill=int(prompt[number]),
                experts=experts[offsets[i] : offsets[i + 1]].copy(),
            )


def _below(key: np.uint64, count: int, bound: int) -> IntArray:
    """Return *count* whole numbers, uniform in 0..bound-1, [count]."""
    return (uniform(key, count) * bound).astype(np.int64)


def _popularity(spec: SynthSpec, model: ModelShape, seed: int, layer: int) -> IntArray:
    """Return one layer's popularity, cumulated in parts of `WHOLE`, [phases, subjects, experts]."""
    num_layers = len(model.moe_layers)
    place = int(permutation(stream(seed, "synth", "skew"), num_layers)[layer])
    exponent = spec.skew * (1.0 + spec.skew_spread * ((2 * place + 1) / num_layers - 1.0))
    rank = np.arange(model.num_experts, dtype=np.float64)
    weight = powers((rank + spec.shift) / spec.shift, -exponent)

    def shuffled(*names: object) -> FloatArray:
        order = permutation(stream(seed, "synth", "popularity", layer, *names), model.num_experts)
        mine: FloatArray = weight[order]
        return mine

    prefill = shuffled("prefill")
    decode = spec.agreement * prefill + (1.0 - spec.agreement) * shuffled("decode")
    tables = np.empty((2, spec.subjects, model.num_experts), np.int64)
    for subject in range(spec.subjects):
        own = spec.subject_share * shuffled("subject", subject)
        for phase, common in enumerate((prefill, decode)):
            tables[phase, subject] = _cumulated((1.0 - spec.subject_share) * common + own)
    return tables


def _cumulated(weight: FloatArray) -> IntArray:
    """Return running sums of *weight*, at most 1 each, in whole parts of exactly `WHOLE`, each at least 1, [experts].

    Sums are of whole numbers: the order in which floats are summed differs between machines.
    """
    fine = (weight * 2.0**36).astype(np.int64) + 1
    parts = 1 + (fine * (2**62 // int(fine.sum())) >> 38) * (WHOLE - len(weight)) // WHOLE
    parts[np.argmax(parts)] += WHOLE - int(parts.sum())
    return np.cumsum(parts)


def powers(base: FloatArray, exponent: float) -> FloatArray:
    """Return base^exponent for *base* >= 1 and *exponent* <= 0, [...], to about 10 digits.

    Only steps that IEEE 754 rounds the same on every machine are used (multiplication, square root, scaling by two);
    numpy's and C's own powers differ between machines in the last digit.
    """
    mantissa, log = np.frexp(base)
    log2 = log.astype(np.float64)
    for digit in range(1, _BITS + 1):
        mantissa = mantissa * mantissa
        low = mantissa < 0.5
        mantissa = np.where(low, mantissa * 2.0, mantissa)
        log2 = log2 - np.where(low, 2.0**-digit, 0.0)
    target = log2 * exponent
    whole = np.floor(target)
    rest, result, root = target - whole, np.ones_like(target), 2.0
    for _ in range(_BITS):
        root, rest = float(np.sqrt(root)), rest * 2.0
        high = rest >= 1.0
        result = np.where(high, result * root, result)
        rest = np.where(high, rest - 1.0, rest)
    return np.ldexp(result, whole.astype(np.int64))
