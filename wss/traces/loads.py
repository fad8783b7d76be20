"""Expert loads: how many tokens each expert had, without saying which token; what a serving system's counters give.

Three forms are read: a Parquet table with the columns dump, phase, layer and logical_count (a list over experts), a
row a layer; SGLang's ``{"logical_count": [[tokens of each expert] of each layer]}`` (JSON), whose dense layers are all
zero; and the ``.pt`` file of SGLang's recorder in mode ``stat``, its steps summed.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wss.errors import OutputError, TraceError, did_you_mean
from wss.models import ModelShape
from wss.records import FloatArray
from wss.traces.importers.pt import load_pt
from wss.traces.writer import reason

COLUMNS = {"dump", "phase", "layer", "logical_count"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Loads:
    """The loads of one dump.

    Attributes
    ----------
    name, phase
        What it is called, and what it counted; ``""`` if unknown.
    layers
        Absolute numbers of the MoE layers.
    counts
        Tokens of each expert, [layers, experts].
    top_k
        Experts of a token; 0 if unknown.
    """

    name: str
    phase: str
    layers: tuple[int, ...]
    counts: FloatArray
    top_k: int


def is_loads(path: Path) -> bool:
    """Whether *path* is a file of loads rather than a trace; False for what cannot be read."""
    if path.suffix in (".json", ".pt"):
        try:
            with path.open("rb") as file:
                beginning = file.read(4096)
        except OSError:
            return False
        return b"logical_count" in beginning and b"records" not in beginning
    try:
        return set(pq.read_schema(path).names) >= COLUMNS
    except (OSError, pa.ArrowException):
        return False


def read_loads(path: Path) -> list[Loads]:
    """Read all dumps of a file.

    Raises
    ------
    TraceError
        If it is damaged, or holds anything but finite counts.
    """
    read = {".json": _from_json, ".pt": _from_pt}.get(path.suffix, _from_parquet)
    found = read(path)
    for loads in found:
        if loads.counts.ndim != 2 or not loads.counts.any(axis=1).all():
            raise TraceError(f"{path}: {loads.name}: a layer has no tokens; leave it out")
        if not (np.isfinite(loads.counts).all() and (loads.counts >= 0).all()):
            raise TraceError(f"{path}: {loads.name}: a count is negative or not finite; give numbers of tokens")
    return found


def read_dumps(path: Path, model: ModelShape, names: Collection[str] = ()) -> dict[str, FloatArray]:
    """Return the loads of *model*'s MoE layers, [layers, experts], by name of the dump: of *names*, or of all.

    Raises
    ------
    TraceError
        If the file cannot be read, is of another shape, or has no dump of a name.
    """
    found = {dump.name: dump for dump in read_loads(path)}
    for dump in found.values():
        theirs, size = dump.layers, dump.counts.shape[1]
        if (len(theirs), size) != (len(model.moe_layers), model.num_experts):
            raise TraceError(
                f"{path}: {dump.name}: has {len(theirs)} layers of {size} experts, {model.name} has "
                f"{len(model.moe_layers)} of {model.num_experts}; give loads of this model"
            )
        other = [layer for layer, ours in zip(theirs, model.moe_layers, strict=True) if layer != ours]
        if other:
            raise TraceError(
                f"{path}: {dump.name}: has layer {other[0]} where {model.name} has "
                f"{model.moe_layers[theirs.index(other[0])]}; give loads of its MoE layers, in order"
            )
    unknown = [name for name in names if name not in found]
    if unknown:
        raise TraceError(*(f"{path}: has no dump '{name}'; {did_you_mean(name, found)}" for name in unknown))
    return {name: found[name].counts for name in names or found}


def _from_pt(path: Path) -> list[Loads]:
    content = load_pt(path)
    counts = content.get("logical_count") if isinstance(content, dict) else None
    if not isinstance(counts, np.ndarray) or counts.ndim != 3:
        raise TraceError(f"{path}: has no logical_count [steps, layers, experts]; record in mode stat")
    return [of_all_layers(path.stem, counts.astype(np.float64).sum(axis=0), path)]


def _from_json(path: Path) -> list[Loads]:
    try:
        counts = msgspec.json.decode(path.read_bytes(), type=dict[str, list[list[float]]])["logical_count"]
        array = np.array(counts, np.float64)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
    except (msgspec.DecodeError, KeyError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise TraceError(
            f'{path}: is no {{"logical_count": [[tokens of each expert] of each layer]}} ({what})'
        ) from error
    return [of_all_layers(path.stem, array, path)]


def write_loads(out: Path, dumps: list[Loads]) -> None:
    """Write *dumps* as a table, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    rows = [(loads, layer, counts) for loads in dumps for layer, counts in zip(loads.layers, loads.counts, strict=True)]
    table = pa.table(
        {
            "dump": [loads.name for loads, _, _ in rows],
            "phase": [loads.phase for loads, _, _ in rows],
            "layer": pa.array([layer for _, layer, _ in rows], pa.int16()),
            "logical_count": [counts.tolist() for _, _, counts in rows],
        }
    ).replace_schema_metadata({"top_k": str(dumps[0].top_k)})
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        pq.write_table(table, temporary)
        os.replace(temporary, out)
    except (OSError, pa.ArrowException) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{out}: cannot be written ({reason(error)}); give a path where you may write") from error


def of_all_layers(name: str, counts: FloatArray, path: Path) -> Loads:
    """Return loads of *counts* [all layers, experts], whose dense layers are all zero.

    Raises
    ------
    TraceError
        If it has not two dimensions, or no layer with tokens.
    """
    if counts.ndim != 2 or not counts.any():
        raise TraceError(f"{path}: has counts of shape {list(counts.shape)}; give [layers, experts], not all zero")
    moe = np.flatnonzero(counts.any(axis=1))
    return Loads(name=name, phase="", layers=tuple(moe.tolist()), counts=counts[moe], top_k=0)


def _from_parquet(path: Path) -> list[Loads]:
    if not path.is_file():
        raise TraceError(f"{path}: is no file; give a table of loads")
    try:
        table = pq.read_table(path)
        missing = sorted(COLUMNS - {*table.column_names})
        if missing:
            raise TraceError(
                f"{path}: is no table of loads, as it has no {', '.join(missing)}; give one with a row a layer"
            )
        columns = {name: table.column(name).to_pylist() for name in COLUMNS}
        counts = np.array(columns["logical_count"], np.float64)
        top_k = int((table.schema.metadata or {}).get(b"top_k", b"0"))
    except (OSError, pa.ArrowException) as error:
        raise TraceError(f"{path}: cannot be read ({reason(error)}); give a whole table of loads") from error
    except (ValueError, TypeError) as error:
        raise TraceError(f"{path}: its logical_count is no table of numbers ({error}); give a list a row") from error
    if counts.ndim != 2 or None in columns["layer"]:
        raise TraceError(f"{path}: is no table of loads; give a row a layer, with its number and tokens of each expert")
    names = np.array([str(name) for name in columns["dump"]])
    result = []
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        result.append(
            Loads(
                name=name,
                phase=str(columns["phase"][rows[0]]),
                layers=tuple(int(columns["layer"][row]) for row in rows),
                counts=counts[rows],
                top_k=top_k,
            )
        )
    return result
