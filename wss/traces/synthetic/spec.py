"""Synthetic routing: a trace of any model from a few named parameters, for models without a recorded trace.

In each MoE layer a token has a hidden *cluster*, its kind of token in that layer:

* with a probability that grows linearly with depth from sticky_first to sticky_last, it repeats cluster and experts of
  the previous token of the request;
* else, with probability carry, it has the cluster of the same token in the previous layer;
* else a cluster is drawn: those of the request's subject are preferred, by subject_share; in prefill the preferences
  are agreement · decode's + (1 - agreement) · others;
* from the cluster's own popularity of experts (`popularity`) k distinct ones are drawn at once, such that each has its
  exact frequency. Over all clusters, experts are as popular as the rank-frequency curve says.

Popularity may be recorded instead, from a table of expert loads; the rest is still synthetic.

If routing drifts, popularity and affinities are redrawn at some decode step, for all requests or a share of them, as
if they switched to another language. A token that repeats the previous one repeats its experts even then.

experiments/traces/fit.py fits the parameters of the presets; docs/reference/synthetic_routing.md lists what they
reproduce.

Every draw is a hash of (seed, request, position, layer, number of the draw), so a shorter trace, or one of fewer
requests, is exactly the beginning of a longer one. It is equal on every machine: sampling uses integers only, and the
tables come from operations that are rounded the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le, Len

from wss.errors import CHECKED, ConfigError, of_sound_fields
from wss.models import MODELS, ModelShape
from wss.records import IntArray
from wss.rng import stream, uniform
from wss.traces.schema import Label, RequestRouting, TraceMeta
from wss.traces.synthetic.sampler import NEVER, WHOLE, Draws, route
from wss.traces.synthetic.tables import KNOTS, spread, tables_of

Share = Annotated[float, Ge(0), Le(1)]
Tokens = Annotated[int, Ge(1), Le(100_000)]

# Mean over the 58 layers and 12 workloads of recorded DeepSeek-V3 loads (SGLang issue 6017); experiments/traces/fit.py.
LOADS_OF_DEEPSEEK_V3 = (2.73, 2.44, 2.13, 1.74, 1.13, 0.65, 0.10, -0.34, -0.79, -1.25, -1.71, -2.16, -2.87)

FOREIGN = ", with the parameters of "  # in a trace's note, before the name of another model's preset

_CHUNK = 4_000_000  # expert ids generated at a time; more if one request has more


@dataclass(frozen=True, kw_only=True)
class SynthSpec:
    """The parameters of a synthetic trace; see the module for what they do.

    Attributes
    ----------
    preset
        Name of the preset in `SYNTHS` that it is made from.
    curve
        Log2 of an expert's share over the mean, at the ranks `popularity.KNOTS`, falling.
    skew, skew_spread
        Factor of the curve, and its relative spread over layers.
    clusters, focus
        Kinds of tokens, and how strongly each prefers its own experts, in powers of two.
    groups, group_limit
        Groups of experts, and the number of them to which a token is limited.
    carry
        Probability that a token has the same cluster in the next layer.
    sticky_first, sticky_last
        Probability that a token repeats the choice of the previous one, at the first and the last MoE layer.
    agreement
        Share of decode's preferences in prefill's.
    subjects, subject_share
        Number of subjects (a trace names each request's), and the share of a request's preferences that is its
        subject's own.
    drift_at, drift_share
        The decode step from which routing drifts (0: never), and the share of requests that drift: popularity and the
        clusters' affinities are redrawn for them.
    loads, workload, drift_to
        A table of recorded expert loads, and the dump that gives each expert's popularity, in place of curve and skew;
        from drift_at on, that of the dump drift_to, which may be the decode of the same workload.
    requests, prompt_min, prompt_max, decode_tokens
        Size: requests, in a run as many as its batch unless set; prefill tokens of a request (uniformly distributed, an
        assumption: docs/reference/synthetic_routing.md); decode tokens of each.
    """

    __pydantic_config__ = CHECKED

    preset: str = field(default="", metadata={"option": True})
    curve: Annotated[tuple[Annotated[float, Ge(-30), Le(30)], ...], Len(len(KNOTS), len(KNOTS))] = LOADS_OF_DEEPSEEK_V3
    skew: Annotated[float, Ge(0), Le(8)] = 1.0
    skew_spread: Share = 0.3
    clusters: Annotated[int, Ge(1), Le(1024)] = 64
    focus: Annotated[float, Ge(0), Le(20)] = 2.0
    groups: Annotated[int, Ge(1), Le(1024)] = 1
    group_limit: Annotated[int, Ge(1), Le(1024)] = 1
    carry: Share = 0.1
    sticky_first: Share = 0.02
    sticky_last: Share = 0.1
    agreement: Share = 0.8
    subjects: Annotated[int, Ge(1), Le(1000)] = 8
    subject_share: Share = 0.3
    drift_at: Annotated[int, Ge(0), Le(100_000)] = field(default=0, metadata={"option": True})
    drift_share: Share = field(default=1.0, metadata={"option": True})
    loads: str = field(default="", metadata={"option": True})
    workload: str = field(default="", metadata={"option": True})
    drift_to: str = field(default="", metadata={"option": True})
    requests: Annotated[int, Ge(1), Le(10**6)] | None = None
    prompt_min: Tokens = 8
    prompt_max: Tokens = 24
    decode_tokens: Tokens = 128

    @of_sound_fields
    def __post_init__(self) -> None:
        if self.prompt_min > self.prompt_max:
            raise ValueError(f"prompt_min {self.prompt_min} exceeds prompt_max {self.prompt_max}; give a range")
        if bool(self.loads) != bool(self.workload):
            raise ValueError("loads and workload go together; give a table of loads and the name of a dump in it")
        if bool(self.drift_to) != bool(self.loads and self.drift_at):
            raise ValueError("recorded loads drift to other ones; give loads, drift_at and drift_to, or no drift")


REQUESTS = 4096  # of a written trace, unless set

# Prompts of 8 to 24 tokens are an assumption, not fitted to anything (docs/reference/synthetic_routing.md).
SYNTHS = {
    name: SynthSpec(
        preset=name,
        skew=skew,
        skew_spread=spread_of_skew,
        clusters=clusters,
        focus=focus,
        carry=carry,
        sticky_first=sticky[0],
        sticky_last=sticky[1],
        agreement=agreement,
        **others,  # type: ignore[arg-type]
    )
    for name, skew, spread_of_skew, clusters, focus, carry, sticky, agreement, others in (
        ("deepseek_v3", 1.0, 0.3, 64, 3.2, 0.5, (0.01, 0.05), 0.32, {"groups": 8, "group_limit": 4}),
        ("gpt_oss_20b", 0.8, 0.3, 24, 2.0, 0.1, (0.05, 0.2), 0.8, {"subjects": 6}),
        ("kimi_k2", 1.2, 0.3, 32, 2.0, 0.95, (0.02, 0.1), 0.05, {}),
        ("llama4_maverick", 1.88, 0.3, 24, 4.0, 0.95, (0.04, 0.5), 0.3, {}),
        ("qwen3_235b", 1.58, 0.15, 24, 3.3, 0.95, (0.02, 0.1), 0.05, {}),
        ("qwen3_235b_flat", 0.7, 0.15, 24, 8.0, 0.95, (0.02, 0.1), 0.65, {}),
    )
}


def num_requests(spec: SynthSpec) -> int:
    """Return the number of requests of a trace of *spec* when it is written."""
    return REQUESTS if spec.requests is None else spec.requests


def bytes_of(spec: SynthSpec, model: ModelShape, requests: int, decode_tokens: int) -> dict[str, float]:
    """Return approximately how many bytes it takes to generate this much of a trace, by purpose."""
    layers, eras = len(model.moe_layers), 2 if spec.drift_at else 1
    tables = 16.0 * eras * layers * spec.clusters * model.num_choices
    token = 2.0 * layers * model.top_k
    return {
        "the tables that routing is drawn from (layers x clusters x experts)": tables,
        "one request (tokens x layers x top_k)": token * (spec.prompt_max + decode_tokens),
        "the requests of a batch (requests x prompt_max)": requests * (token + 2.0 * layers + 40.0 * spec.prompt_max),
    }


def foreign_preset(spec: SynthSpec, model: ModelShape) -> str:
    """Return the name of the preset of *spec* if it belongs to another model than *model*, else ""."""
    own = MODELS.get(spec.preset.removesuffix("_flat"))
    return "" if own is None or own.name == model.name.removesuffix(" (modified)") else spec.preset


def foreign_preset_of(note: str) -> str:
    """Return the other model whose parameters the *note* of a synthetic trace names, else ""."""
    _, found, rest = note.partition(FOREIGN)
    return rest.partition(":")[0] if found else ""


def synth_meta(spec: SynthSpec, model: ModelShape, seed: int, requests: int | None = None, like: str = "") -> TraceMeta:
    """Return the metadata of a synthetic trace.

    Its source and note say that it is synthetic, and give all parameters; each request has the name of its subject.
    """
    actual = replace(spec, requests=num_requests(spec) if requests is None else requests)
    unsaid = {"preset"} if spec.drift_at else {"preset", "drift_at", "drift_share"}
    unsaid |= {key for key in ("loads", "workload", "drift_to") if not getattr(spec, key)}
    shown = {key: value for key, value in asdict(actual).items() if key not in unsaid}
    parameters = ", ".join(f"{key}={value}" for key, value in shown.items())
    foreign = "" if like else foreign_preset(spec, model)
    return TraceMeta(
        model=model.name,
        benchmark="synthetic",
        subject="*" if spec.subjects > 1 else "synthetic",
        moe_layers=model.moe_layers,
        num_layers=model.num_layers,
        num_experts=model.num_experts,
        zero_experts=model.zero_experts,
        top_k=model.top_k,
        num_requests=num_requests(actual),
        source=f"synthetic: wss trace synth, seed {seed}",
        note=f"made up, not recorded{like and f', fitted to {like}'}{foreign and FOREIGN + foreign}: {parameters}",
        requests=_labels(spec, seed, num_requests(actual)),
    )


def _labels(spec: SynthSpec, seed: int, count: int) -> tuple[Label, ...]:
    """Return the subject's name of each request; empty with one subject."""
    if spec.subjects == 1:
        return ()
    digits = len(str(spec.subjects - 1))
    return tuple(
        Label(request=number, benchmark="synthetic", subject=f"subject_{subject:0{digits}}")
        for number, subject in enumerate(_subjects(spec, seed, count).tolist())
    )


def _subjects(spec: SynthSpec, seed: int, count: int) -> IntArray:
    """Return the subject of each of the first *count* requests, [requests]."""
    return spread(stream(seed, "synth", "subject"), count, spec.subjects)


def synthesise(
    spec: SynthSpec, model: ModelShape, seed: int, *, requests: int | None = None, decode_tokens: int | None = None
) -> Iterator[RequestRouting]:
    """Return the requests of a synthetic trace, numbered from 0, generated lazily in chunks.

    Parameters
    ----------
    spec, model, seed
        These determine the trace.
    requests, decode_tokens
        How many, by default those of *spec*; smaller numbers give exactly the beginning of the same trace.

    Raises
    ------
    ConfigError
        If *requests* or *decode_tokens* is not at least 1.
    """
    count = num_requests(spec) if requests is None else requests
    decode = spec.decode_tokens if decode_tokens is None else decode_tokens
    if count < 1 or decode < 1:
        raise ConfigError(f"trace.synth: {count} requests of {decode} decode tokens; give at least 1 of both")
    return _requests(spec, model, seed, count, decode)


def prompt_lengths(spec: SynthSpec, seed: int, count: int) -> IntArray:
    """Return the number of prefill tokens of the first *count* requests, [requests]."""
    return spec.prompt_min + spread(stream(seed, "synth", "prompt"), count, spec.prompt_max - spec.prompt_min + 1)


def draws_of(spec: SynthSpec, model: ModelShape, seed: int, count: int, layers: Sequence[int] | None = None) -> Draws:
    """Return everything that determines the draws of the first *count* requests of a trace.

    Experts can only be drawn in *layers*, indices into the MoE layers (None: all).
    """
    num_layers = len(model.moe_layers)
    depth = np.arange(num_layers) / max(num_layers - 1, 1)
    sticky = np.floor((spec.sticky_first + (spec.sticky_last - spec.sticky_first) * depth) * WHOLE).astype(np.int64)
    prompt = prompt_lengths(spec, seed, count)
    return Draws(
        key=stream(seed, "synth", "routing"),
        layers=np.array(model.moe_layers, np.int64),
        tables=tables_of(spec, model, seed, tuple(range(num_layers) if layers is None else layers)),
        sticky=sticky,
        carry=int(spec.carry * WHOLE),
        prompt=prompt,
        drift=_drift(spec, prompt, seed),
        subject=_subjects(spec, seed, count),
    )


def _drift(spec: SynthSpec, prompt: IntArray, seed: int) -> IntArray:
    """Return the position from which each request drifts to other experts, `NEVER` if it does not, [requests]."""
    if spec.drift_at == 0:
        return np.full_like(prompt, NEVER)
    drifts = uniform(stream(seed, "synth", "drift"), prompt.size) < spec.drift_share
    return np.where(drifts, prompt + spec.drift_at - 1, NEVER)


def _requests(spec: SynthSpec, model: ModelShape, seed: int, count: int, decode: int) -> Iterator[RequestRouting]:
    draws = draws_of(spec, model, seed, count)
    num_layers = len(model.moe_layers)
    chunk = max(1, _CHUNK // ((spec.prompt_max + decode) * num_layers * model.top_k))
    for first in range(0, count, chunk):
        numbers = np.arange(first, min(first + chunk, count))
        offsets = np.concatenate([[0], np.cumsum(draws.prompt[numbers] + decode)])
        experts = np.full((offsets[-1], num_layers, model.top_k), -1, np.int16)
        route(draws, first, offsets, experts)
        for i, number in enumerate(numbers.tolist()):
            num_prefill = int(draws.prompt[number])
            yield RequestRouting(
                request=number,
                position=np.arange(num_prefill + decode, dtype=np.int32),
                num_prefill=num_prefill,
                experts=experts[offsets[i] : offsets[i + 1]].copy(),
            )
