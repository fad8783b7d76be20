"""Expert loads: tokens per expert, without individual tokens; the counters of a serving system.

The form is recognised by content, whatever the name of the file:

* a Parquet table with the columns dump, phase, layer and logical_count (a list over experts), a row per layer;
* SGLang's ``{"logical_count": [layers][experts]}`` or ``[steps][layers][experts]``, steps summed, other keys ignored:
  JSON, and the ``.pt`` file of its recorder in mode ``stat``, or ``per_pass`` (see `load_forms`);
* an array of counts without a key, ``.pt``, ``.npy`` or ``.npz``, if it cannot be anything else;
* a CSV table, long (layer, expert, count; a missing row is 0 if the model is known) or wide (layer, expert_0,
  expert_1, ...).

SGLang's rows have no layer indices: they are all layers of the model, the dense ones zero, or only its MoE layers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from wss.errors import TraceError, did_you_mean
from wss.models import ModelShape
from wss.reading import open_plain
from wss.records import FloatArray
from wss.traces.content import LAYOUT, Content, is_layout, other_kind, read_content
from wss.traces.declared_sizes import LAYERS, MOE_LAYERS, said
from wss.traces.load_dumps import Loads
from wss.traces.load_forms import COUNT, PHYSICAL, check_sizes, counts_of
from wss.traces.load_parquet import COLUMNS, read_parquet
from wss.traces.load_tables import has_layers, is_table, table_of_loads

LARGEST = 1e15  # tokens per expert
NO_TABLE = "is neither JSON nor a table (CSV) with a column layer"


def looks_like_loads(path: Path) -> bool:
    """Whether *path* is a file of loads rather than recorded routing; False if it cannot be read."""
    try:
        with open_plain(path) as file:
            beginning = file.read(4096)
    except OSError:
        return False
    if beginning[:4] == b"PAR1":
        return is_loads(path)
    if beginning[:2] == b"PK" or beginning.lstrip()[:1] in (b"{", b"["):
        return PHYSICAL.encode() in beginning or (COUNT.encode() in beginning and b"topk_ids" not in beginning)
    try:
        content = read_content(path)
        return content.kind == "csv" and other_kind(content) is None and is_table(content.value[0])
    except TraceError:
        return False


def is_loads(path: Path) -> bool:
    """Whether *path* should be read as a file of loads: anything except a Parquet trace or an unreadable file."""
    import pyarrow as pa  # noqa: PLC0415 -- slow to import
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        if path.is_dir():  # which is reported as an error
            return True
        with open_plain(path) as file:
            if file.read(4) != b"PAR1":
                return True
        return set(pq.read_schema(path).names) >= COLUMNS
    except (OSError, pa.ArrowException):
        return False


def read_loads(path: Path, experts: int | None = None) -> list[Loads]:
    """Read all dumps of a file, rows as they are in the file; *experts* per layer, if given, separates some forms.

    Raises
    ------
    TraceError
        If it is damaged or of another kind, or has anything except finite non-negative counts.
    """
    return loads_of(path, read_content(path), experts)


def loads_of(path: Path, content: Content, experts: int | None = None) -> list[Loads]:
    """Return the loads in the *content* of *path*; see `read_loads`."""
    try:
        if content.kind == "parquet":
            found = read_parquet(path)
        elif content.kind == "csv" and other_kind(content) is None:
            if path.suffix not in (".csv", ".tsv") and not has_layers(content.value[0]):
                raise ValueError(NO_TABLE)
            layers, counts = table_of_loads(content.value, experts)
            found = [Loads(name=path.stem, phase="", layers=layers, counts=counts, top_k=0)]
        else:
            found = [_from_counts(path, content, experts)]
        for loads in found:
            _check(loads)
    except ValueError as error:
        raise TraceError(f"{path}: {error}; give a table of expert loads") from None
    return found


def _check(loads: Loads) -> None:
    if not (np.isfinite(loads.counts).all() and (loads.counts >= 0).all() and (loads.counts <= LARGEST).all()):
        raise ValueError(f"{loads.name}: a count is negative, not finite or above {LARGEST:g}")
    if not loads.counts.any():
        raise ValueError(f"{loads.name}: all counts are zero")


def read_dumps(path: Path, model: ModelShape, names: Collection[str] = ()) -> dict[str, FloatArray]:
    """Return only the loads of `fitted_dumps`."""
    return {name: counts for name, (counts, _) in fitted_dumps(path, model, names).items()}


def fitted_dumps(
    path: Path, model: ModelShape, names: Collection[str] = ()
) -> dict[str, tuple[FloatArray, str | None]]:
    """Return the loads of *model*'s MoE layers, [layers, experts], by name of the dump: of *names*, or of all.

    Each comes with a note for the reader, None if there is nothing to note (`Loads.dense_note`).

    Raises
    ------
    TraceError
        If the file cannot be read, has another shape, or lacks a dump of that name.
    """
    chosen = _chosen(path, model, names)
    return {name: (_of_model(path, dump, model), _note(path, dump, model)) for name, dump in chosen.items()}


def fitted_passes(
    path: Path, model: ModelShape, names: Collection[str] = ()
) -> dict[str, tuple[list[FloatArray], str | None]]:
    """Return the loads of each pass that has tokens, [layers, experts], by name of the dump; else as `fitted_dumps`."""
    chosen = _chosen(path, model, names)
    return {
        name: ([_of_model(path, own, model) for own in dump.by_pass()], _note(path, dump, model))
        for name, dump in chosen.items()
    }


def _chosen(path: Path, model: ModelShape, names: Collection[str]) -> dict[str, Loads]:
    """Return the dumps of these *names*, or all; raise TraceError if one is missing."""
    found = {dump.name: dump for dump in read_loads(path, model.num_experts)}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise TraceError(*(f"{path}: has no dump '{name}'; {did_you_mean(name, found)}" for name in unknown))
    return {name: found[name] for name in names or found}


def _of_model(path: Path, dump: Loads, model: ModelShape) -> FloatArray:
    """Return the loads of *model*'s MoE layers; raise TraceError if they are of another model."""
    try:
        return dump.of_layers(model.moe_layers, model.num_layers, model.num_experts)
    except ValueError as error:
        raise TraceError(f"{path}: {dump.name}: {error}; give loads of {model.name}") from None


def _note(path: Path, dump: Loads, model: ModelShape) -> str | None:
    """Return the note on tokens of *dump* that are left out, if any."""
    note = dump.dense_note(model.moe_layers, model.num_layers)
    where = path.name if dump.name == path.stem else f"{path.name}: {dump.name}"
    return f"{where}: {note}" if note else None


def _from_counts(path: Path, content: Content, experts: int | None) -> Loads:
    """Return the loads in data of JSON or of arrays."""
    value = content.value
    counts = counts_of(value, experts) if content.kind in ("json", "arrays") else None
    if counts is None:
        if is_layout(content):
            raise ValueError(LAYOUT)
        if content.kind == "text":
            raise ValueError(NO_TABLE)
        raise ValueError(other_kind(content) or f'has no {COUNT}, as {{"{COUNT}": [layers][experts]}} has')
    total, passes = counts.sum(axis=0), counts if len(counts) > 1 else None
    check_sizes(value, total)
    layers = tuple(range(len(total)))
    own = Loads(name=path.stem, phase="", layers=layers, counts=total, top_k=0, numbered=False, passes=passes)
    said_layers, said_moe = (next((size for _, size in said(value, names)), None) for names in (LAYERS, MOE_LAYERS))
    return replace(own, said_layers=said_layers, said_moe_layers=said_moe)
