"""The input in two parts: one that layouts are made from, and one that judges them.

No layout is judged on the routing that it was made from, unless the input is a single table of loads, which cannot be
parted.

* A trace: every second request of each workload makes the layouts, the others are served in the simulation, from
  different places of their decode on (`running_batch`). Recorded routing that is not a trace yet is imported first. A
  trace without decode counts as two tables of loads.
* Loads in several passes or steps: the earlier half makes the layouts, the later half judges them.
* Loads in several dumps: every second dump, in the order of the file, with equal weights.

Where only loads are recorded, the routing that judges is synthetic: each expert has its recorded share of the tokens,
and all else is drawn with the parameters of the model's preset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from wss.advice.running_batch import write_running_batch
from wss.errors import TraceError
from wss.models import MODELS, ModelShape
from wss.policies import LoadHistorySpec
from wss.records import FloatArray
from wss.traces import TraceFile, TraceReader
from wss.traces.importers import Hints, open_source
from wss.traces.importers.common import filler_in
from wss.traces.importers.pipeline import import_source
from wss.traces.load_dumps import Loads
from wss.traces.load_history import check_shape, read_served
from wss.traces.load_importing import refuse_layout
from wss.traces.load_parquet import write_loads
from wss.traces.loads import fitted_passes, is_loads, looks_like_loads, read_loads
from wss.traces.merge import join
from wss.traces.synthetic.spec import SYNTHS, SynthSpec

MADE, JUDGED = "made", "judged"
TOKENS = 1e9  # per layer, to which loads of equal weight are scaled


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The two parts of the input.

    Attributes
    ----------
    history
        The loads that layouts are made from.
    trace
        The routing that judges them.
    steps
        Decode steps of that routing, at most as many as wanted.
    about
        What they are, one sentence each.
    """

    history: LoadHistorySpec
    trace: TraceFile | SynthSpec
    steps: int
    about: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What of the input is used: the model, requests in a batch, steps, and names of dumps or workloads (all if empty).

    *seed* draws the places of requests; *folder* is where files are written.
    """

    model: ModelShape
    batch: int
    steps: int
    only: tuple[str, ...]
    seed: int
    folder: Path


def read_evidence(path: Path, wanted: Wanted) -> Evidence:
    """Read *path*: a trace, recorded routing in any format of `wss trace import`, or expert loads.

    Raises
    ------
    TraceError
        If it cannot be read, is of another model, or has too little to be parted.
    """
    if path.is_file() and not is_loads(path):
        return _of_trace(path, path, wanted)
    if path.is_file() and looks_like_loads(path):
        return _of_passes(path, wanted)
    imported = wanted.folder / "imported.parquet"
    try:
        import_source(imported, open_source(path, None, Hints(model=wanted.model)))
    except TraceError as error:
        refuse_layout(path)
        try:
            read_loads(path, wanted.model.num_experts)  # an array of counts without a key looks like nothing
        except TraceError:
            raise error from None
        return _of_passes(path, wanted)
    return _of_trace(imported, path, wanted)


def _of_trace(trace: Path, path: Path, wanted: Wanted) -> Evidence:
    """Part the requests of *trace*, which was read from *path*."""
    model = wanted.model
    made, judged, running = (wanted.folder / f"{name}.parquet" for name in (MADE, JUDGED, "running"))
    with TraceReader(trace) as reader:
        check_shape(path, reader.meta, model)
        synthetic = reader.meta.synthetic
    try:
        makers = join(made, [trace], only=wanted.only, half="even")
        judges = join(judged, [trace], only=wanted.only, half="odd")
    except TraceError as error:
        if not error.faults[0].startswith("--half"):
            raise
        few = "has fewer than two requests" + (f" of {', '.join(wanted.only)}" if wanted.only else "")
        raise TraceError(f"{path}: {few}; give more: one half makes layouts, the other judges") from None
    origin = ("the input is a synthetic trace, not a recording",) if synthetic else ()
    parts = f"layouts are made from {makers:,} requests of {path.name} and judged on the other {judges:,}"
    copies, longest = write_running_batch(running, judged, wanted.batch, wanted.steps, wanted.seed)
    if not longest:
        loads = [_served(file, model) for file in (made, judged)]
        about = (*origin, f"{parts}, by their loads alone: the trace has no decode")
        return _of_loads(path, loads[0], loads[1], wanted, about)
    times = f"; each is repeated {copies:,} times to fill a batch of {wanted.batch:,}" if copies > 1 else ""
    with TraceReader(judged) as reader:
        filler = [] if synthetic else filler_in(list(islice(reader.requests(), wanted.batch)), reader.meta)
    return Evidence(
        history=LoadHistorySpec(path=str(made)),
        trace=TraceFile(path=str(running)),
        steps=longest,
        about=(*origin, f"{parts}, each starting at a random position of its decode{times}", *filler),
    )


def _served(path: Path, model: ModelShape) -> FloatArray:
    """Return the tokens of each expert in a trace, [layers, experts]."""
    loads = read_served(path, model, (), lambda meta, request: False).loads
    total: FloatArray = np.sum(list(loads.values()), axis=0)
    return total


def _of_passes(path: Path, wanted: Wanted) -> Evidence:
    """Part the loads of *path*."""
    found = fitted_passes(path, wanted.model, wanted.only)
    left_out = tuple(note for _, note in found.values() if note)
    if len(found) > 1:
        names, dumps = list(found), [_scaled(np.sum(passes, axis=0)) for passes, _ in found.values()]
        about = f"layouts are made from {_listed(names[::2])} of {path.name} and judged on {_listed(names[1::2])}"
        made, judged = np.sum(dumps[::2], axis=0), np.sum(dumps[1::2], axis=0)
        return _of_loads(path, made, judged, wanted, (about, *left_out))
    ((passes, _),) = found.values()
    half = len(passes) // 2
    if half:
        about = f"layouts are made from the first {half:,} of {len(passes):,} passes of {path.name}"
        about += f" and judged on the other {len(passes) - half:,}"
        made, judged = np.sum(passes[:half], axis=0), np.sum(passes[half:], axis=0)
        return _of_loads(path, made, judged, wanted, (about, *left_out))
    about = f"{path.name} is one table: layouts are judged on the loads they were made from, so gains are upper bounds"
    return _of_loads(path, passes[0], passes[0], wanted, (about, *left_out))


def _scaled(load: FloatArray) -> FloatArray:
    scaled: FloatArray = load * (TOKENS / np.maximum(load.sum(axis=1, keepdims=True), 1.0))
    return scaled


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} dumps ({shown})" if len(names) > 1 else f"the dump {shown}"


def _of_loads(path: Path, made: FloatArray, judged: FloatArray, wanted: Wanted, about: tuple[str, ...]) -> Evidence:
    """Return both parts as tables of loads, [layers, experts]; the routing that judges is synthetic."""
    model, table = wanted.model, wanted.folder / "loads.parquet"
    if model.zero_experts:
        what = f"loads do not count the zero-computation experts of {model.name}"
        raise TraceError(f"{path}: {what}; give a routing trace")
    for name, load in (("the part that layouts are made from", made), ("the part that judges", judged)):
        few = np.flatnonzero(np.count_nonzero(load, axis=1) < model.top_k)
        if few.size:
            where = f"layer {model.moe_layers[few[0]]} has tokens on fewer than {model.top_k} experts in {name}"
            raise TraceError(f"{path}: {where}; give loads of more tokens")
    both = {MADE: made, JUDGED: judged}
    write_loads(
        table,
        [
            Loads(name=name, phase="", layers=model.moe_layers, counts=load, top_k=model.top_k)
            for name, load in both.items()
        ],
    )
    preset = next((name for name in SYNTHS if name in MODELS and MODELS[name].name == model.name), "")
    whose = f"of the preset {preset}" if preset else "that are fitted to no model"
    drawn = f"tokens are synthetic: experts have their recorded shares, all else is drawn with parameters {whose}"
    spec = replace(SYNTHS.get(preset, SynthSpec()), loads=str(table), workload=JUDGED, prompt_min=1, prompt_max=1)
    return Evidence(
        history=LoadHistorySpec(path=str(table), only=(MADE,)),
        trace=replace(spec, decode_tokens=max(spec.decode_tokens, wanted.steps)),
        steps=wanted.steps,
        about=(*about, drawn),
    )
