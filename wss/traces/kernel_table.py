"""Tables of measured kernels as Parquet files, ``wss-kernels/1``: a row for each operation and grid point.

The columns are op, the axes a to d (whole numbers; an axis that the operation does not have is 0 or absent) and us,
microseconds. The file's metadata hold ``format``, ``gpu``, ``source`` and ``licence``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wss.errors import KernelError, did_you_mean
from wss.files import write_whole
from wss.hardware.kernels.table import AXES, DENSE, Grid, KernelTable, axes_of
from wss.traces.columns import LONGEST, Columns, Layout, Number, columns_of, open_table

FORMAT = "wss-kernels/1"
ABOUT = ("gpu", "source", "licence")
_LETTERS = "abcd"
_AXIS = Number(0, 2.0**53, needed=False)
LAYOUT = Layout(
    numbers={"us": Number(1e-6, LONGEST, whole=False), **dict.fromkeys(_LETTERS, _AXIS)},
    texts=("op",),
)
MICRO = 1e-6


def read_kernels(path: Path) -> KernelTable:
    """Read a table of measured kernels.

    Raises KernelError with one line per fault: metadata, columns, operations, axes, points that occur twice.
    """
    table = open_table(path, LAYOUT.texts)
    about = {key.decode(errors="replace"): value for key, value in (table.schema.metadata or {}).items()}
    words = {key: about.get(key, b"").decode(errors="replace").strip() for key in ("format", *ABOUT)}
    if words["format"] != FORMAT:
        what = f"is in the format {words['format'][:40]}" if words["format"] else "states no format"
        raise KernelError(f"{path}: {what}; give a Parquet file of measured kernels with the format {FORMAT}")
    faults = [f"{path}: its metadata has no {key}; state it" for key in ABOUT if not words[key]]
    columns = columns_of(path, table, LAYOUT)
    grids: dict[str, Grid] = {}
    for (op,), rows in columns.groups(["op"]):
        try:
            grids[op] = _grid(op, columns.where(rows))
        except ValueError as error:
            faults.append(f"{path}: op {op[:60]!r}: {error}")
    if faults:
        raise KernelError(*faults)
    return KernelTable(gpu=words["gpu"], source=words["source"], licence=words["licence"], grids=grids)


def _grid(op: str, columns: Columns) -> Grid:
    axes = axes_of(op)
    if axes is None:
        raise ValueError(f"is not known; {did_you_mean(op, [*AXES, f'{DENSE}NAME'])}")
    zero = np.zeros(columns.count)
    for letter in _LETTERS[len(axes) :]:
        if columns.numbers.get(letter, zero).any():
            raise ValueError(f"has {len(axes)} axes, so that its column {letter} should be 0")
    points = np.stack([columns.numbers.get(letter, zero) for letter in _LETTERS[: len(axes)]], axis=1)
    return Grid.of(points, columns.numbers["us"] * MICRO)


def write_kernels(path: Path, table: KernelTable) -> None:
    """Write *table*, atomically. Raises OutputError if it cannot be written."""
    ops, points, us = [], [], []
    for op, grid in table.grids.items():
        places = np.unravel_index(grid.keys, [len(axis) for axis in grid.axes])
        own = np.zeros((len(grid.keys), len(_LETTERS)), np.int64)
        for i, (axis, place) in enumerate(zip(grid.axes, places, strict=True)):
            own[:, i] = axis[place]
        ops += [op] * len(own)
        points.append(own)
        us.append(grid.seconds / MICRO)
    whole = np.concatenate(points)
    columns = {letter: pa.array(whole[:, i]) for i, letter in enumerate(_LETTERS)}
    made = pa.table({"op": ops, **columns, "us": pa.array(np.concatenate(us))})
    made = made.replace_schema_metadata({"format": FORMAT, **{key: getattr(table, key) for key in ABOUT}})
    write_whole(path, lambda part: pq.write_table(made, part), "give a path where you may write")
