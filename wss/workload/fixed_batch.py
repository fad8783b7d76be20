"""The requests of a fixed batch: read from a trace or synthetic, only as many as the run needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wss.errors import ConfigError, TraceError
from wss.models import ModelShape
from wss.rng import permutation, stream
from wss.traces import RequestRouting, TraceFile, TraceMeta, TraceReader
from wss.traces.importers.common import filler_in
from wss.traces.loads import fitted_dumps
from wss.traces.synthetic.spec import SynthSpec, foreign_preset, foreign_preset_of, prompt_lengths, synth_meta
from wss.workload.request import Request, fixed_batch

SYNTHETIC = "the routing is synthetic: generated from named parameters, not recorded"
RECORDED_POPULARITY = (
    "the routing is synthetic: the popularity of each expert in each layer is recorded ({source}); "
    "combinations of experts and sequences of tokens are generated from named parameters"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class FixedBatch:
    """The requests that decode together, with metadata and notes for the output.

    Attributes
    ----------
    meta, digest
        Of the trace; *digest* is the SHA-256 of its file, None for synthetic routing.
    path
        The trace's file; "" for synthetic routing.
    requests, size
        The requests, each once, and how many are there at a time.
    scheduler
        The name of their scheduler: ``static``, or ``slot_refill`` if there may be more of them.
    steps
        Decode steps to run.
    notes
        For the reader of the output.
    """

    meta: TraceMeta
    digest: str | None
    path: str
    requests: list[Request]
    size: int
    scheduler: str
    steps: int
    notes: tuple[str, ...]


def open_batch(
    trace: SynthSpec | TraceFile, model: ModelShape, size: int, steps: int | Literal["all"], seed: int
) -> tuple[FixedBatch, list[RequestRouting]]:
    """Return the batch of *size* requests, and the routing of recorded ones, which is empty for a synthetic trace.

    Raises
    ------
    TraceError, ConfigError
        If the trace cannot be read, does not fit the model, or has no decode tokens; if a synthetic one has
        fewer than *steps*.
    """
    if isinstance(trace, TraceFile):
        return _read(trace, model, size, steps, seed)
    return _synthetic(trace, model, size, steps, seed), []


def _synthetic(spec: SynthSpec, model: ModelShape, size: int, steps: int | Literal["all"], seed: int) -> FixedBatch:
    """Return a synthetic batch; no routing is generated yet."""
    steps = spec.decode_tokens if steps == "all" else steps
    if steps > spec.decode_tokens:
        raise ConfigError(
            f"steps: {steps} are more than the synthetic trace has; give at most {spec.decode_tokens}, "
            "or set trace.synth.decode_tokens"
        )
    count = size if spec.requests is None else min(size, spec.requests)
    return FixedBatch(
        meta=synth_meta(spec, model, seed, count),
        digest=None,
        path="",
        requests=fixed_batch(prompt_lengths(spec, seed, count).tolist(), [spec.decode_tokens] * count, size),
        size=size,
        scheduler="static",
        steps=steps,
        notes=(*_made(spec, model), *_assumed(model), *_drift(spec, steps), *_repeats(size, count)),
    )


def _made(spec: SynthSpec, model: ModelShape) -> list[str]:
    """Return notes on what is synthetic in the routing, and on parameters of another model."""
    source = f"{spec.workload} of {Path(spec.loads).name}"
    notes = [RECORDED_POPULARITY.format(source=source) if spec.loads else SYNTHETIC]
    if spec.loads and not model.zero_experts:
        names = {spec.workload: None, **({spec.drift_to: None} if spec.drift_to else {})}
        notes += [note for _, note in fitted_dumps(Path(spec.loads), model, [*names]).values() if note]
    return [*notes, *_foreign(foreign_preset(spec, model), model)]


def _foreign(preset: str, model: ModelShape) -> list[str]:
    """Return a note if the routing is generated with the *preset* of another model."""
    if not preset:
        return []
    return [
        f"the routing is generated with the parameters of {preset}, fitted to that model and not to "
        f"{model.name}; choose the preset that resembles yours most, or record a trace"
    ]


def _drift(spec: SynthSpec, steps: int) -> list[str]:
    """Return a note on when the routing drifts, or that the drift begins after the last of *steps* decode steps."""
    if spec.drift_at > steps:
        return [f"trace.synth.drift_at is {spec.drift_at}, and decode ends with step {steps}: nothing drifts"]
    if spec.drift_at:
        who = "all requests" if spec.drift_share == 1.0 else f"a share of {spec.drift_share:g} of the requests"
        return [f"from decode step {spec.drift_at} on, {who} switch to other experts (trace.synth.drift_at)"]
    return []


def _read(
    trace: TraceFile, model: ModelShape, size: int, steps: int | Literal["all"], seed: int
) -> tuple[FixedBatch, list[RequestRouting]]:
    """Return a recorded batch and its routing, only as many requests as needed."""
    continuous = trace.replay == "continuous"
    with TraceReader(Path(trace.path)) as reader:
        notes = _fit(model, reader)
        routing = _chosen(reader, trace.order, None if continuous else size, seed)
        longest = max(request.num_decode for request in routing)
        if longest == 0:
            raise TraceError(
                f"{trace.path}: its first {len(routing)} requests have no decode tokens; only decode is simulated"
            )
        if continuous and steps == "all":
            raise ConfigError("steps: 'all' has no end with trace.replay: continuous; give a number of steps")
        if reader.meta.synthetic:
            notes += [SYNTHETIC, *_foreign(foreign_preset_of(reader.meta.note), model)]
        else:
            notes += filler_in(routing, reader.meta)
        lengths = [request.num_prefill for request in routing], [request.num_decode for request in routing]
        batch = FixedBatch(
            meta=reader.meta,
            digest=reader.digest(),
            path=trace.path,
            requests=fixed_batch(*lengths, size),
            size=size,
            scheduler="slot_refill" if continuous else "static",
            steps=longest if steps == "all" else steps,
            notes=(*notes, *_assumed(model), *_repeats(size, len(routing))),
        )
        return batch, routing


def _chosen(reader: TraceReader, order: str, most: int | None, seed: int) -> list[RequestRouting]:
    """Return the first *most* requests in this order, all if None."""
    ids = reader.request_ids().tolist()
    if order == "string":
        ids.sort(key=str)
    if order == "mixed":
        ids = [ids[i] for i in permutation(stream(seed, "trace", "order"), len(ids)).tolist()]
    ids = ids[:most]
    by_id = {request.request: request for request in reader.requests(set(ids), len(ids))}
    return [by_id[number] for number in ids]


def _fit(model: ModelShape, reader: TraceReader) -> list[str]:
    """Check that the trace has the model's shape; return a warning if it names another model."""
    meta = reader.meta
    faults = [
        f"{reader.path}: has {key} {_short(getattr(meta, key))}, "
        f"the model {model.name} has {_short(getattr(model, key))}; give a trace of this model"
        for key in ("top_k", "moe_layers")
        if getattr(meta, key) != getattr(model, key)
    ]
    if (choices := meta.num_choices) != model.num_choices:
        free = " without or with weights" if model.zero_experts else ""
        what = f"{reader.path}: has num_experts {choices}, the model {model.name} has {model.num_choices}{free}"
        faults.insert(0, f"{what}; give a trace of this model")
    if faults:
        raise TraceError(*faults)
    return (
        []
        if meta.model == model.name
        else [f"the trace is of {meta.model}, the model is {model.name}; their shapes agree"]
    )


def _short(value: Any) -> str:
    return f"{len(value)} layers in {value[0]}..{value[-1]}" if isinstance(value, tuple) else str(value)


def _assumed(model: ModelShape) -> list[str]:
    """Return a note on what is assumed about the model."""
    if model.expert_matrices is not None:
        return []
    return ["the model does not give expert_matrices: three per expert (gate, up, down) are assumed"]


def _repeats(size: int, unique: int) -> list[str]:
    if unique >= size:
        return []
    return [f"the batch of {size} repeats the {unique} requests of the trace cyclically"]
