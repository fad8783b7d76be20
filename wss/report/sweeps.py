"""The files of a sweep: results and links as Parquet, results as CSV too; and the table on the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wss.errors import OutputError
from wss.files import parse_json, write_whole
from wss.report.tables import RATIOS, aligned

Rows = Sequence[dict[str, Any]]
AGAIN = "make room and run the same command again"
LINKS = {  # the columns of links.parquet beside the labels
    "link": pa.string(),
    **dict.fromkeys(("source_x", "source_y", "target_x", "target_y"), pa.int64()),
    **dict.fromkeys(
        ("bytes", "data_bytes", "request_bytes", "activation_bytes", "busy_s", "utilization"), pa.float64()
    ),
}
ENDS = ("estimate", "low", "high")  # of a figure where layers were sampled

FIGURES: tuple[tuple[str, str, str], ...] = (  # heading, column, format
    ("decode time", "decode_time_s", "{:.4g} s"),
    ("speedup", "speedup", "{:.3g}x"),
    ("hops", "hops", "{:,}"),
    ("busiest link", "max_link_utilization", "{:.1%}"),
    ("x bound", "bound_ratio", "{:.2f}x"),
)


def write_sweep(folder: Path, rows: Rows, links: Iterable[tuple[dict[str, Any], dict[str, list[Any]]]]) -> None:
    """Write results.parquet, results.csv and links.parquet into *folder*, each whole or not at all.

    *links* are labels, and columns with an entry for each link to which they belong.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    table, linked = _table(rows), _links(links)
    text = _csv(table)
    for name, write in {
        "results.parquet": lambda part: pq.write_table(table, part),
        "links.parquet": lambda part: pq.write_table(linked, part),
        "results.csv": lambda part: part.write_text(text, encoding="utf-8", newline=""),
    }.items():
        write_whole(folder / name, write, AGAIN)


def read_sweep(folder: Path) -> tuple[list[dict[str, Any]], pa.Table]:
    """Return the rows of results, and the table of links, that `write_sweep` wrote."""
    try:
        results, links = (pq.read_table(folder / f"{name}.parquet") for name in ("results", "links"))
        return results.to_pylist(), links
    except (OSError, pa.ArrowInvalid) as error:
        raise OutputError(f"{folder}: its results cannot be read ({error}); run the sweep again") from None


def _table(rows: Rows) -> pa.Table:
    """Return rows as a table; a column is whole numbers, numbers, yes and no, or else text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        there = {type(value) for value in values if value is not None}
        if there <= {bool}:
            columns[name] = pa.array(values, pa.bool_())
        elif there <= {int}:
            columns[name] = pa.array(values, pa.int64())
        elif there <= {int, float}:
            columns[name] = pa.array([None if v is None else float(v) for v in values], pa.float64())
        else:
            columns[name] = pa.array([None if v is None else str(v) for v in values], pa.string())
    return pa.table(columns)


def _links(links: Iterable[tuple[dict[str, Any], dict[str, list[Any]]]]) -> pa.Table:
    """Return labels and columns as one table, the labels repeated for each link."""
    labels, parts = [], []
    for own, columns in links:
        labels.append(own)
        parts.append(pa.table([pa.array(values, LINKS[name]) for name, values in columns.items()], list(columns)))
    repeated = _table(labels).take(np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
    whole = pa.concat_tables(parts).combine_chunks()
    return pa.table(dict(zip([*repeated.column_names, *whole.column_names], [*repeated, *whole], strict=True)))


def _csv(table: pa.Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(
        ["" if v is None else repr(v) if isinstance(v, float) else v for v in row.values()] for row in table.to_pylist()
    )
    return text.getvalue()


def sweep_table(axes: Sequence[str], rows: Rows) -> str:
    """Return the main figures of a sweep as text, a row for each policy on each point."""
    shown = [(heading, key, form) for heading, key, form in FIGURES if key in rows[0]]
    cells = [[*axes, "policy", *(heading for heading, _, _ in shown)]]
    for row in rows:
        cells.append(
            [*(str(row[axis]) for axis in axes), row["policy"], *(cell(row, key, form) for _, key, form in shown)]
        )
    return aligned(cells, left=len(axes) + 1)


def sweep_legend(rows: Rows, notes: Sequence[str]) -> str:
    """Return what has to be said below the table: of sampled layers, the baseline, and the notes of the runs."""
    baselines = ", ".join(dict.fromkeys(str(row["baseline"]) for row in rows))
    lines = ["", f"decode time and hops: sums over all decode kernels; speedup is over {baselines};"]
    if any(row.get("speedup_low") is not None for row in rows):
        lines += [
            "layers are a sample: decode time and hops are of those run; speedup, busiest link and x bound estimates",
            "for all layers, the speedup with its 95% interval;",
        ]
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def notes_in(folder: Path) -> list[str]:
    """Return the notes that a sweep's provenance has."""
    return [str(note) for note in parse_json((folder / "sweep.json").read_bytes())["notes"]]


def cell(row: dict[str, Any], key: str, form: str) -> str:
    """Return a figure of *row* as text, with its interval where it is a sampled speedup."""
    value = best(row, key)
    text = "-" if value is None else form.format(value)
    if key == "speedup" and row.get("speedup_low") is not None:
        text += f" [{row['speedup_low']:.3g}, {row['speedup_high']:.3g}]"
    return text


def best(row: dict[str, Any], key: str) -> Any:
    """Return a figure of *row*; of sampled layers, a ratio as all layers would give it."""
    estimate = row.get(f"{key}_estimate") if key in RATIOS else None
    return row[key] if estimate is None else estimate


def flat(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures without mappings and lists: estimates and intervals, where layers were sampled, as columns."""
    columns = {key: value for key, value in figures.items() if not isinstance(value, dict | list)}
    for key, (low, high) in figures.get("ci95", {}).items():
        columns |= dict(zip((f"{key}_{end}" for end in ENDS), (figures["estimate"][key], low, high), strict=True))
    return columns


def estimated(row: dict[str, Any], key: str) -> tuple[Any, Any, Any]:
    """Return a figure of *row* and the ends of its interval; as all layers would give it, where they are sampled.

    What is not known is None: the figure itself, or the ends where nothing was sampled.
    """
    value, low, high = (row.get(f"{key}_{end}") for end in ENDS)
    return (row.get(key), None, None) if value is None else (value, low, high)


def moved_table(axes: Sequence[str], moved: Sequence[Any]) -> str:
    """Return what has moved as text, a row for each figure."""
    cells = [[*axes, "policy", "figure", "expected", "found", "moved by", ""]]
    for m in moved:
        labels = [str(m.labels[axis]) for axis in axes]
        change = (m.found - m.expected) / m.expected if m.expected else float("inf")
        cells.append([*labels, m.policy, m.figure, f"{m.expected:.6g}", f"{m.found:.6g}", f"{change:+.2%}", m.verdict])
    return aligned(cells, left=len(axes) + 2)
