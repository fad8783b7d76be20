"""Load history: expert loads of requests served before, by workload; the basis of a placement for a coming workload.

The loads are counted from a trace, which names the benchmark and subject of each request, or read from a table of loads
(`loads`), in which each dump is a workload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from wss.errors import CHECKED, TraceError, did_you_mean
from wss.models import ModelShape
from wss.records import FloatArray, IntArray
from wss.traces.analysis.counts import count_uses
from wss.traces.loads import fitted_dumps, is_loads
from wss.traces.schema import Label, RequestRouting, TraceMeta

Now = Callable[[TraceMeta, RequestRouting], bool]  # whether a request of a trace of *meta* is about to be served


@dataclass(frozen=True, kw_only=True)
class LoadHistorySpec:
    """Requests served before; experts are placed by their loads instead of by the prefill of the batch.

    Attributes
    ----------
    path
        A trace, or a table of expert loads, in which each dump is a workload.
    only
        Names of the subjects, benchmarks or dumps to count; all if empty.
    by
        ``all``: all workloads together. ``subject`` or ``benchmark``: for each request of the batch the loads of its
        own workload, so that a mixed batch is placed by the loads of its workloads, in its proportions.
    """

    __pydantic_config__ = CHECKED

    path: str
    only: tuple[str, ...] = ()
    by: Literal["all", "subject", "benchmark"] = "all"


@dataclass(frozen=True, eq=False, kw_only=True)
class ServedLoads:
    """Loads of the requests served before.

    Attributes
    ----------
    loads
        Tokens of each expert, [MoE layers, experts], by workload (``request`` is -1): of decode, or of prefill where
        a workload has no decode. A dump of a table of loads is a subject without a benchmark.
    requests
        Number of requests counted, by workload; empty for a table of loads, which does not give it.
    left_out
        Number of requests of the selected workloads that were not counted because they are about to be served.
    notes
        Notes for the reader on a table of loads, if any.
    """

    loads: dict[Label, FloatArray]
    requests: dict[Label, int]
    left_out: int = 0
    notes: dict[Label, str] = field(default_factory=dict)


def workload_of(meta: TraceMeta, request: int) -> Label:
    """Return benchmark and subject of a request; those of the whole trace if it has none of its own."""
    own = meta.labels.get(request, Label(request=request))
    return Label(request=-1, benchmark=own.benchmark or meta.benchmark, subject=own.subject or meta.subject)


def read_served(path: Path, model: ModelShape, only: Collection[str], now: Now) -> ServedLoads:
    """Read the load history.

    Parameters
    ----------
    path
        A trace, or a table of loads.
    model
        The model whose experts the loads must match.
    only
        Names of the subjects, benchmarks or dumps to count; all if empty.
    now
        Whether a request is about to be served; such requests are not counted.

    Raises
    ------
    TraceError
        If the file cannot be read, has another shape, or lacks a name; or if no request is left to count.
    """
    counted, left_out = (_of_loads(path, model), Counter[Label]()) if is_loads(path) else _of_trace(path, model, now)
    workloads = [*counted.loads, *left_out]
    known = sorted({name for label in workloads for name in (label.benchmark, label.subject) if name})
    unknown = [name for name in only if name not in known]
    if unknown:
        raise TraceError(*(f"{path}: has no workload '{name}'; {did_you_mean(name, known)}" for name in unknown))
    asked = {label for label in workloads if not only or {label.benchmark, label.subject} & {*only}}
    if not asked & counted.loads.keys():
        of = f" of {', '.join(only)}" if only else ""
        raise TraceError(
            f"{path}: all its requests{of} are among those to be served; give earlier ones, of another file"
        )
    return ServedLoads(
        loads={label: load for label, load in counted.loads.items() if label in asked},
        requests={label: count for label, count in counted.requests.items() if label in asked},
        left_out=sum(count for label, count in left_out.items() if label in asked),
        notes={label: note for label, note in counted.notes.items() if label in asked},
    )


def check_shape(path: Path, meta: TraceMeta, model: ModelShape) -> None:
    """Check that the trace *path* of *meta* is of *model*; raise TraceError if it has other layers or experts."""
    choices = meta.num_choices
    if (meta.moe_layers, choices) == (model.moe_layers, model.num_choices):
        return
    if (len(meta.moe_layers), choices) == (len(model.moe_layers), model.num_choices):
        raise TraceError(f"{path}: its MoE layers are not those of {model.name}; give a trace of this model")
    raise TraceError(
        f"{path}: has {len(meta.moe_layers)} layers of {choices} experts, {model.name} has "
        f"{len(model.moe_layers)} of {model.num_choices}; give a trace of this model"
    )


def _of_loads(path: Path, model: ModelShape) -> ServedLoads:
    dumps = fitted_dumps(path, model)
    loads = {Label(request=-1, subject=name): load for name, (load, _) in dumps.items()}
    notes = {Label(request=-1, subject=name): note for name, (_, note) in dumps.items() if note}
    return ServedLoads(loads=loads, requests={}, notes=notes)


def _of_trace(path: Path, model: ModelShape, now: Now) -> tuple[ServedLoads, Counter[Label]]:
    """Count a trace; also return how many requests of each workload were not counted."""
    shape = (2, len(model.moe_layers), model.num_choices)
    counts: dict[Label, IntArray] = {}  # [prefill and decode, layers, experts]
    requests: Counter[Label] = Counter()
    left_out: Counter[Label] = Counter()
    from wss.traces.reader import TraceReader  # noqa: PLC0415 -- pyarrow is slow to import

    with TraceReader(path) as reader:
        meta = reader.meta
        check_shape(path, meta, model)
        for request in reader.requests():
            workload = workload_of(meta, request.request)
            if now(meta, request):
                left_out[workload] += 1
                continue
            requests[workload] += 1
            count_uses(request.experts, request.num_prefill, counts.setdefault(workload, np.zeros(shape, np.int64)))
    size = model.num_experts  # without zero-computation experts
    loads = {label: own[int(own[1].any()), :, :size].astype(np.float64) for label, own in counts.items()}
    return ServedLoads(loads=loads, requests=requests), left_out
