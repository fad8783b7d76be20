"""Predictions beside a file of measurements: errors by family, and what was left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wss.errors import KernelError
from wss.records import BoolArray, FloatArray, IntArray
from wss.report.kernels.attention import ATTENTION
from wss.report.kernels.communication import COMMUNICATION
from wss.report.kernels.deepep import MOE_DEEPEP
from wss.report.kernels.dense import GEMM
from wss.report.kernels.devices import with_devices
from wss.report.kernels.figures import figures_of
from wss.report.kernels.kinds import Kind
from wss.report.kernels.moe import MOE_LAYER
from wss.report.kernels.predictions import Predictions, fastest, predict
from wss.traces.columns import Columns, columns_of, open_table

KINDS = (MOE_DEEPEP, MOE_LAYER, ATTENTION, COMMUNICATION, GEMM)  # of those that fit, the first is chosen
MICRO = 1e-6


def check(path: Path, gpu: str | None = None) -> dict[str, Any]:
    """Predict every row of the measurements in *path* and return the errors, as `wss kernels check --json` prints them.

    *gpu* chooses the rows of one GPU, or is the GPU of all rows if the file has no column ``gpu``.

    Raises KernelError with one line per fault of the file.
    """
    table = open_table(path, sorted({name for kind in KINDS for name in kind.layout.texts}))
    kind = kind_of(path, table)
    whole = columns_of(path, table, kind.layout)
    columns, indices, device_of = with_devices(path, kind.derived(_lower(whole)), gpu)
    predictions = predict(kind, columns)
    about: dict[str, Any] = {"file": str(path), "table": kind.name, "device": device_of, "rows": whole.count}
    found = about | _summary(kind, columns, predictions, indices)
    if columns.count < whole.count:
        found["left_out"].append({"reason": "of another GPU than --gpu", "rows": whole.count - columns.count})
    return found


def _lower(columns: Columns) -> Columns:
    """Return *columns* with the words of software and precision in lower case; those of GPUs stay."""
    texts = {name: text for name, text in columns.texts.items() if name != "gpu"}
    return columns.with_texts(
        **{n: text.renamed({word: word.lower() for word in text.words}) for n, text in texts.items()}
    )


def kind_of(path: Path, table: pa.Table) -> Kind:
    """Return the kind of *table*, by its columns; raises KernelError with what the closest kind misses."""
    present = {*table.column_names}
    missing = {kind.name: sorted(kind.layout.needed - present) for kind in KINDS}
    closest = min(KINDS, key=lambda kind: (len(missing[kind.name]) / len(kind.layout.needed), kind.kernels != ()))
    if not missing[closest.name]:
        return next(kind for kind in KINDS if not missing[kind.name] and _has_kernels(kind, table))
    if len(missing[closest.name]) == len(closest.layout.needed):
        kinds = ", ".join(kind.name for kind in KINDS)
        raise KernelError(f"{path}: has the columns of no kind of table; give one of {kinds}")
    raise KernelError(
        *(f"{path}: has no column {name}; a table of {closest.name} has one" for name in missing[closest.name])
    )


def _has_kernels(kind: Kind, table: pa.Table) -> bool:
    """Whether the kernels of *table* are those of *kind*."""
    if not kind.kernels:
        return True
    kernels = map(str, table["kernel"].unique().to_pylist())
    return all(any(word in kernel for word in kind.kernels) for kernel in kernels)


def _summary(kind: Kind, columns: Columns, predictions: Predictions, indices: IntArray) -> dict[str, Any]:
    predicted, measured = predictions.seconds, columns.numbers["time_us"] * MICRO
    counted = predictions.counted
    return {
        "counted": int(counted.sum()),
        "left_out": [
            {"reason": reason, "rows": rows}
            for reason, rows in Counter(predictions.left_out[~counted].tolist()).most_common()
        ],
        "notes": predictions.notes,
        "all": figures_of(predicted[counted], measured[counted])._asdict() if counted.any() else None,
        "families": _families(kind, columns, predictions, measured, counted),
        "fastest": _fastest(kind, columns, predicted, measured, counted),
        "each": _each(predictions, measured, indices),
    }


def _families(
    kind: Kind, columns: Columns, predictions: Predictions, measured: FloatArray, counted: BoolArray
) -> list[dict[str, Any]]:
    """Return the figures of each family that has rows to count."""
    found = []
    for words, rows in columns.groups(kind.family):
        own = rows[counted[rows]]
        if len(own):
            about = {"table": kind.name, **dict(zip(kind.family, words, strict=True))}
            figures = figures_of(predictions.seconds[own], measured[own])._asdict()
            names = ", ".join(sorted({*predictions.parameters[own].tolist()}))
            found.append({**about, **figures, "left_out": len(rows) - len(own), "parameters": names})
    return found


def _fastest(
    kind: Kind, columns: Columns, predicted: FloatArray, measured: FloatArray, counted: BoolArray
) -> list[dict[str, Any]]:
    """Return the figures of the fastest measured kernel of each shape, by GPU and precision."""
    rows = np.flatnonzero(counted)
    if not kind.shape or not len(rows):
        return []
    rows = rows[fastest(columns.where(rows), kind.shape)]
    return [
        {"table": kind.name, "gpu": gpu, "precision": precision}
        | figures_of(predicted[rows[part]], measured[rows[part]])._asdict()
        for (gpu, precision), part in columns.where(rows).groups(["gpu", "precision"])
    ]


def _each(predictions: Predictions, measured: FloatArray, indices: IntArray) -> list[dict[str, Any]]:
    """Return each row; *indices* are those in the file, and rows are counted from 1."""
    known = np.isfinite(predictions.seconds)
    columns = (indices + 1, measured, predictions.seconds, known)
    texts = predictions.parameters.tolist(), predictions.left_out.tolist()
    return [
        {
            "row": row,
            "measured_s": time,
            "predicted_s": seconds if sound else None,
            "error": seconds / time - 1 if sound else None,
            "parameters": name or None,
            "left_out": reason or None,
        }
        for row, time, seconds, sound, name, reason in zip(*(c.tolist() for c in columns), *texts, strict=True)
    ]
