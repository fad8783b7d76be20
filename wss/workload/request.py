"""The requests of a batch: read from a trace or synthetic, only as many as the run needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wss.config import Experiment, TraceFile
from wss.errors import ConfigError, TraceError
from wss.rng import permutation, stream
from wss.traces import RequestRouting, TraceMeta, TraceReader
from wss.traces.importers.common import filler_in
from wss.traces.loads import fitted_dumps
from wss.traces.recorded import last_step
from wss.traces.synthetic.spec import SynthSpec, foreign_preset, foreign_preset_of, synth_meta

Progress = Callable[[str, int, int], None]

SYNTHETIC = "the routing is synthetic: made up from named parameters, not recorded"
RECORDED_POPULARITY = (
    "the routing is synthetic: how popular each expert is in each layer is recorded ({source}); "
    "which experts a token has together, and what follows what, is made up from named parameters"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """The requests that decode together, with metadata and notes for the output.

    *digest* is the SHA-256 of the trace file; None for routing generated during the run.
    """

    meta: TraceMeta
    digest: str | None
    num_requests: int
    steps: int
    notes: tuple[str, ...]


def made_batch(experiment: Experiment, spec: SynthSpec) -> Batch:
    """Return the description of a synthetic batch; its requests are not generated yet.

    Raises
    ------
    ConfigError
        If the experiment has more steps than the synthetic trace.
    """
    steps = spec.decode_tokens if experiment.steps == "all" else experiment.steps
    if steps > spec.decode_tokens:
        raise ConfigError(
            f"steps: {steps} are more than the synthetic trace has; give at most {spec.decode_tokens}, "
            "or set trace.synth.decode_tokens"
        )
    count = experiment.batch if spec.requests is None else min(experiment.batch, spec.requests)
    return Batch(
        meta=synth_meta(spec, experiment.model, experiment.seed, count),
        digest=None,
        num_requests=count,
        steps=steps,
        notes=(*_made(experiment, spec), *_assumed(experiment), *_drift(spec, steps), *_repeats(experiment, count)),
    )


def _made(experiment: Experiment, spec: SynthSpec) -> list[str]:
    """Return notes on what is synthetic in the routing, and on parameters of another model."""
    source = f"{spec.workload} of {Path(spec.loads).name}"
    notes = [RECORDED_POPULARITY.format(source=source) if spec.loads else SYNTHETIC]
    if spec.loads and not experiment.model.zero_experts:
        names = {spec.workload: None, **({spec.drift_to: None} if spec.drift_to else {})}
        notes += [note for _, note in fitted_dumps(Path(spec.loads), experiment.model, [*names]).values() if note]
    return [*notes, *_foreign(foreign_preset(spec, experiment.model), experiment)]


def _foreign(preset: str, experiment: Experiment) -> list[str]:
    """Return a note if the routing is generated with the *preset* of another model."""
    if not preset:
        return []
    return [
        f"the routing is made up with the parameters of {preset}, the model is {experiment.model.name}: "
        "give the preset of this model where there is one"
    ]


def _drift(spec: SynthSpec, steps: int) -> list[str]:
    """Return a note on when the routing drifts, or that the drift begins after the last of *steps* decode steps."""
    if spec.drift_at > steps:
        return [f"trace.synth.drift_at is {spec.drift_at}, and decode ends with step {steps}: nothing drifts"]
    if spec.drift_at:
        who = "all requests" if spec.drift_share == 1.0 else f"a share of {spec.drift_share:g} of the requests"
        return [f"from decode step {spec.drift_at} on, {who} switch to other experts (trace.synth.drift_at)"]
    return []


def read_batch(experiment: Experiment, source: TraceFile) -> tuple[Batch, list[RequestRouting]]:
    """Return a recorded batch and its requests, each once, only as many as needed.

    Raises
    ------
    TraceError, ConfigError
        If the trace cannot be read, does not fit the model, has no decode tokens, or is shorter than the experiment.
    """
    with TraceReader(Path(source.path)) as reader:
        notes = _fit(experiment, reader)
        ids = reader.request_ids().tolist()
        if source.order == "string":
            ids.sort(key=str)
        if source.order == "mixed":
            ids = [ids[i] for i in permutation(stream(experiment.seed, "trace", "order"), len(ids)).tolist()]
        continuous = source.replay == "continuous"
        chosen = ids if continuous else ids[: experiment.batch]
        by_id = {request.request: request for request in reader.requests(set(chosen), len(chosen))}
        requests = [by_id[number] for number in chosen]
        longest = max(request.num_decode for request in requests)
        if longest == 0:
            raise TraceError(
                f"{source.path}: its first {len(requests)} requests have no decode tokens; decode is what is simulated"
            )
        if continuous and experiment.steps == "all":
            raise ConfigError("steps: 'all' has no end where requests come in as others end; give a number of steps")
        if continuous:
            longest = last_step(requests, experiment.batch)
        if experiment.steps != "all" and experiment.steps > longest:
            raise ConfigError(
                f"steps: {experiment.steps} are more than the requests of {source.path} decode; give at most {longest}"
            )
        if reader.meta.synthetic:
            notes += [SYNTHETIC, *_foreign(foreign_preset_of(reader.meta.note), experiment)]
        else:
            notes += filler_in(requests, reader.meta)
        batch = Batch(
            meta=reader.meta,
            digest=reader.digest(),
            num_requests=len(requests),
            steps=longest if experiment.steps == "all" else experiment.steps,
            notes=(*notes, *_assumed(experiment), *_repeats(experiment, len(requests))),
        )
        return batch, requests


def _fit(experiment: Experiment, reader: TraceReader) -> list[str]:
    """Check that the trace has the model's shape; return a warning if it names another model."""
    meta, model = reader.meta, experiment.model
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


def _assumed(experiment: Experiment) -> list[str]:
    """Return a note on what is assumed about the model."""
    if experiment.model.expert_matrices is not None:
        return []
    return ["the model does not give expert_matrices: three per expert (gate, up, down) are assumed"]


def _repeats(experiment: Experiment, unique: int) -> list[str]:
    if unique >= experiment.batch:
        return []
    return [f"the batch of {experiment.batch} repeats the {unique} requests of the trace cyclically"]
