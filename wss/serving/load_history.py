"""Load history of a placement: loads of requests served before, weighted by the batch's share of each workload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from wss.errors import ConfigError
from wss.policies import LoadHistorySpec
from wss.records import FloatArray, IntArray
from wss.serving.setup import Setup
from wss.traces import RequestRouting, TraceMeta
from wss.traces.fingerprints import Fingerprints
from wss.traces.load_history import Now, ServedLoads, read_served, workload_of
from wss.traces.schema import Label
from wss.traces.source import TraceFile
from wss.traces.synthetic.spec import synthesise
from wss.workload.fixed_batch import open_batch

TOKENS = 10**9  # loads are normalised to this many tokens per layer
ALIKE = 16  # minimum common prefix, in tokens, of two recordings of the same request that differ in length


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadHistory:
    """Tokens of each expert, [all MoE layers, experts], and notes for the reader of the results."""

    load: IntArray
    notes: tuple[str, ...]


def build_load_history(setup: Setup, history: LoadHistorySpec) -> LoadHistory:
    """Return the load history that *history* specifies; requests of the batch itself are not counted.

    Raises
    ------
    TraceError, ConfigError
        If it cannot be read, does not fit the model, or has no request of the batch's workloads.
    """
    batch, requests = open_batch(setup.trace, setup.model, setup.batch, setup.steps, setup.seed)
    meta = batch.meta
    served = read_served(Path(history.path), setup.model, history.only, _now(setup, meta, requests))
    if history.by == "all":
        load, strangers = _together(served, served.loads), 0.0
    else:
        load, strangers = _by_workload(setup, history, served, meta, requests)
    return LoadHistory(load=np.rint(load).astype(np.int64), notes=_notes(history, served, strangers))


def _now(setup: Setup, meta: TraceMeta, requests: list[RequestRouting]) -> Now:
    """Return a predicate that recognises requests of the batch: recorded ones by experts, synthetic ones by seed, id.

    Joining traces renumbers requests, so synthetic requests of joined traces are recognised by their experts too.
    """
    trace = setup.trace
    if isinstance(trace, TraceFile):
        told = Fingerprints(requests, ALIKE)
        return lambda other, request: request in told

    @cache
    def made() -> Fingerprints:
        return Fingerprints(synthesise(trace, setup.model, setup.seed, requests=meta.num_requests), 1)

    def now(other: TraceMeta, request: RequestRouting) -> bool:
        if other.source == meta.source:
            return request.request < meta.num_requests
        return meta.source in other.source.split("; ") and request in made()

    return now


def _together(served: ServedLoads, labels: Iterable[Label]) -> FloatArray:
    """Return the joint load of several workloads, [layers, experts], normalised to `TOKENS` per layer.

    Requests are weighted by their tokens. Tables of loads have equal weights: their number of tokens shows how long
    they were recorded, not how common the workload is.
    """
    loads = [served.loads[label] for label in labels]
    return _scaled(sum(loads if served.requests else map(_scaled, loads), np.zeros_like(loads[0])))


def _scaled(load: FloatArray) -> FloatArray:
    """Return *load* [layers, experts] normalised to `TOKENS` in every layer that has tokens."""
    total = load.sum(axis=1, keepdims=True)
    scaled: FloatArray = load * (TOKENS / np.where(total > 0, total, 1.0))
    return scaled


def _by_workload(
    setup: Setup,
    history: LoadHistorySpec,
    served: ServedLoads,
    meta: TraceMeta,
    requests: list[RequestRouting],
) -> tuple[FloatArray, float]:
    """Return the loads of the batch's workloads in its proportions, and the batch's share without a history.

    Requests of workloads without a history get the load of all requests served.
    """
    known: dict[str, list[Label]] = {}
    for label in served.loads:
        known.setdefault(getattr(label, history.by), []).append(label)
    names: Counter[str] = Counter()
    for place, request in enumerate(requests[: setup.batch]):  # repeated cyclically to fill the batch
        slots = len(range(place, setup.batch, len(requests)))
        names[getattr(workload_of(meta, request.request), history.by)] += slots
    if not set(names) & set(known):
        raise ConfigError(
            f"{history.path}: has no request of a {history.by} that the batch has; give another history, or by: all"
        )
    strangers = sum(count for name, count in names.items() if name not in known) / names.total()
    load = _together(served, served.loads) * strangers
    for name in sorted(names.keys() & known.keys()):
        load = load + _together(served, known[name]) * (names[name] / names.total())
    return load, strangers


def _notes(history: LoadHistorySpec, served: ServedLoads, strangers: float) -> tuple[str, ...]:
    said = f"{sum(served.requests.values())} requests" if served.requests else f"{len(served.loads)} tables of loads"
    by = "" if history.by == "all" else f", each request of the batch by those of its {history.by}"
    only = f" ({', '.join(history.only)})" if history.only else ""
    notes = [f"placed by the loads of earlier requests, {said} of {Path(history.path).name}{only}{by}"]
    if served.left_out:
        notes.append(f"{served.left_out} requests of the history are in the batch and not counted")
    if strangers:
        notes.append(
            f"{strangers:.0%} of the batch has a {history.by} without a history; "
            "the loads of all requests are used for it"
        )
    return (*notes, *served.notes.values())
