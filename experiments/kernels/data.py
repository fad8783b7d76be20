"""What the fits of kernel times have in common: reading measurements, the split by shape, errors, fits and ablations.

The measurements are not shipped. They are read from the folder that WSS_SHARED names, or from ../shared.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import least_squares

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("WSS_SHARED", ROOT.parent / "shared"))

Rows = dict[str, np.ndarray]  # columns of equal length; text columns hold str
Values = dict[str, float]  # values of parameters by name
Model = Callable[[Values, Rows], np.ndarray]  # seconds of each row


def read(name: str) -> Rows:
    """Return the columns of the measurements *name* ("gemm", "moe_layer", ...), and ``seconds``; exits if absent."""
    path = SHARED / "reference" / "kernels" / f"{name}.parquet"
    if not path.exists():
        sys.exit(f"{path} is absent: measurements are not shipped; set WSS_SHARED to the folder that holds reference/")
    table = pq.read_table(path)
    rows = {column: _values(table[column]) for column in table.column_names}
    return rows | {"seconds": rows["time_us"] * 1e-6}


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as bool, float or str."""
    if pa.types.is_dictionary(column.type):
        return column.cast(pa.string()).to_numpy().astype(str)
    values = column.to_numpy()
    return values if values.dtype.kind == "b" else values.astype(np.float64)


def where(rows: Rows, keep: np.ndarray) -> Rows:
    """Return the *rows* of a mask, or of indices."""
    return {column: array[keep] for column, array in rows.items()}


def matching(rows: Rows, **values: object) -> Rows:
    """Return the *rows* whose columns have these *values*; a tuple lists alternatives."""
    keep = np.ones(len(rows["seconds"]), bool)
    for column, value in values.items():
        keep &= np.isin(rows[column], value if isinstance(value, tuple) else (value,))
    return where(rows, keep)


def keys(rows: Rows, columns: Sequence[str]) -> np.ndarray:
    """Return a number for each row, [rows]: equal numbers for rows that agree in all *columns*."""
    codes = np.stack([np.unique(rows[column], return_inverse=True)[1] for column in columns], axis=1)
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)


def is_validation(rows: Rows, columns: Sequence[str], seed: int = 0) -> np.ndarray:
    """Return which rows, [rows], are for validation: a third of the shapes in *columns*.

    A shape is in the same part in every table, framework and version: the choice is a hash of its values and *seed*.
    """
    key = keys(rows, columns)
    _, first = np.unique(key, return_index=True)
    shapes = (f"{seed}:" + ",".join(str(rows[column][i]) for column in columns) for i in first)
    chosen = np.array([hashlib.sha256(shape.encode()).digest()[0] % 3 == 0 for shape in shapes])
    return chosen[key]


def split(rows: Rows, columns: Sequence[str], seed: int = 0) -> tuple[Rows, Rows]:
    """Return the rows for training and those for validation, by `is_validation`."""
    held_out = is_validation(rows, columns, seed)
    return where(rows, ~held_out), where(rows, held_out)


def sample(rows: Rows, count: int, seed: int = 0) -> Rows:
    """Return *count* random rows, or all if there are no more."""
    total = len(rows["seconds"])
    chosen = np.random.default_rng(seed).permutation(total)[:count]
    return where(rows, np.sort(chosen))


@dataclass(frozen=True)
class Errors:
    """Figures of the relative error, predicted / measured - 1, as fractions."""

    rows: int
    mean: float  # of absolute errors
    p90: float  # of absolute errors
    worst: float  # signed error of the largest absolute value
    bias: float  # mean of signed errors

    def __str__(self) -> str:
        cells = (f"{100 * x:.1f}%" for x in (self.mean, self.p90, self.worst, self.bias))
        return f"{self.rows:6d} rows  mean {next(cells)}  p90 {next(cells)}  worst {next(cells)}  bias {next(cells)}"


def errors(predicted: np.ndarray, measured: np.ndarray) -> Errors:
    """Return the figures of *predicted* against *measured* seconds, [rows]."""
    error = predicted / measured - 1
    size = np.abs(error)
    return Errors(len(error), size.mean(), np.quantile(size, 0.9), error[size.argmax()], error.mean())


def by_family(rows: Rows, predicted: np.ndarray, columns: Sequence[str]) -> dict[tuple[object, ...], Errors]:
    """Return the figures of each family: the rows that agree in *columns*, such as precision and framework."""
    key = keys(rows, columns)
    found = {}
    for family in np.unique(key):
        mine = key == family
        name = tuple(rows[column][mine.argmax()].item() for column in columns)
        found[name] = errors(predicted[mine], rows["seconds"][mine])
    return found


def noise_floor(rows: Rows, shape: Sequence[str], sources: Sequence[str] = ("framework", "version")) -> Errors:
    """Return how far two sources differ in the time of the same *shape*: what no model of the shape alone can beat.

    All pairs of sources are compared; the difference is relative to the faster one. ``bias`` and ``worst`` are of
    magnitudes too.
    """
    shapes, source = keys(rows, shape), keys(rows, sources)
    table = np.full((shapes.max() + 1, source.max() + 1), np.nan)
    table[shapes, source] = rows["seconds"]
    pairs = [(a, b) for a in range(table.shape[1]) for b in range(a)]
    if not pairs:
        raise ValueError("the rows have one source; there is no other to compare with")
    ratios = np.concatenate([np.abs(np.log(table[:, a] / table[:, b])) for a, b in pairs])
    ratios = np.exp(ratios[~np.isnan(ratios)])
    return errors(ratios, np.ones_like(ratios))


@dataclass(frozen=True)
class Range:
    """A parameter in a fit: where it starts, its bounds, and the value at which it has no effect (ablation)."""

    start: float
    low: float
    high: float
    without: float | None = None


def fit(model: Model, ranges: Mapping[str, Range], rows: Rows, fixed: Mapping[str, float] | None = None) -> Values:
    """Return the values in *ranges* that fit *model* to the measured seconds of *rows*; those in *fixed* are given.

    The loss grows as the square of small log ratios and linearly from about 5% on, so that slow outliers count little.
    """
    fixed = dict(fixed or {})
    free = [name for name in ranges if name not in fixed]
    start = np.array([ranges[name].start for name in free])
    scale = np.maximum(np.abs(start), 1e-3)
    bounds = [[ranges[name].low for name in free], [ranges[name].high for name in free]]

    def residuals(x: np.ndarray) -> np.ndarray:
        values = dict(zip(free, (x * scale).tolist(), strict=True)) | fixed
        return np.log(model(values, rows) / rows["seconds"])

    found = least_squares(
        residuals,
        start / scale,
        bounds=tuple(np.array(bound) / scale for bound in bounds),
        loss="soft_l1",
        f_scale=0.05,
        diff_step=3e-3,  # the number of waves is a step function: a smaller step would see no slope
        max_nfev=60,
    )
    return dict(zip(free, (found.x * scale).tolist(), strict=True)) | fixed


def ablation(
    model: Model, ranges: Mapping[str, Range], train: Rows, held_out: Rows, names: Iterable[str] | None = None
) -> dict[str, Errors]:
    """Return the errors on *held_out* without each parameter that has a value ``without``; the others are fitted anew.

    The entry "" has all parameters.
    """
    chosen = [name for name in (ranges if names is None else names) if ranges[name].without is not None]
    found = {}
    for name in ["", *chosen]:
        fixed = {name: ranges[name].without} if name else {}
        values = fit(model, ranges, train, fixed)
        found[name] = errors(model(values, held_out), held_out["seconds"])
    return found


def print_errors(title: str, families: Mapping[tuple[object, ...], Errors] | Mapping[str, Errors]) -> None:
    """Print one line for each family."""
    print(title)
    for family, figures in families.items():
        name = ", ".join(map(str, family)) if isinstance(family, tuple) else family or "all parameters"
        print(f"  {name:44s} {figures}")
