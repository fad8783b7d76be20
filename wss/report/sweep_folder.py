"""The files of a sweep: results and links as Parquet, results also as CSV; and the table on the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wss.errors import OutputError
from wss.escaping import for_csv
from wss.files import parse_json, write_whole
from wss.metrics import figures
from wss.metrics.figures import FORMATS, WIDE, Figure
from wss.reading import read_plain
from wss.report.point_notes import point_notes
from wss.report.tables import LINKS, with_format
from wss.report.terminal import aligned, figure_text, filled, fitted, interval_text, labelled
from wss.report.verdict import marks
from wss.traces.parquet import MOST_KEPT, read_table

Rows = Sequence[dict[str, Any]]
AGAIN = "make room and run the same command again"
MOST_NOTES = 4  # notes below the table
SWEEP_SCHEMA = "wss-sweep/2"
RESULTS_FORMAT = "wss-results/1"
LINKS_FORMAT = "wss-sweep-links/1"
# Types of the values in a column, how they are written, and as what.
COLUMNS = (({bool}, bool, pa.bool_()), ({int}, int, pa.int64()), ({int, float}, float, pa.float64()))
INTERVALS = {"ci95": "", "ci95_seeds": "seeds_"}  # over layers, over seeds: key in a row, and prefix of column names


def write_sweep(folder: Path, rows: Rows, links: Iterable[tuple[dict[str, Any], dict[str, list[Any]]]]) -> None:
    """Write results.parquet, results.csv and links.parquet into *folder*, each atomically.

    Each item of *links* has the labels of a point, and columns with an entry per link. Raises OutputError if one cannot
    be written.
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
    """Return the rows of results, and the table of links, as written by `write_sweep`."""
    try:
        results, links = read_table(folder / "results.parquet"), read_table(folder / "links.parquet", MOST_KEPT)
        return results.to_pylist(), links
    except (OSError, pa.ArrowInvalid) as error:
        raise OutputError(f"{folder}: its results cannot be read ({error}); run the sweep again") from None


def _table(rows: Rows) -> pa.Table:
    """Return rows as a table; a column has integers, numbers, booleans, or else text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        there = {type(value) for value in values if value is not None}
        convert, kind = next(((own, kind) for types, own, kind in COLUMNS if there <= types), (str, pa.string()))
        columns[name] = pa.array([None if v is None else convert(v) for v in values], kind)
    return with_format(pa.table(columns), RESULTS_FORMAT)


def _links(links: Iterable[tuple[dict[str, Any], dict[str, list[Any]]]]) -> pa.Table:
    """Return labels and columns as one table, the labels repeated for each link."""
    labels, parts = [], []
    for own, columns in links:
        labels.append(own)
        parts.append(pa.table([pa.array(columns[name], kind) for name, kind in LINKS.items()], list(LINKS)))
    repeated = _table(labels).take(np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
    whole = pa.concat_tables(parts).combine_chunks()
    columns = dict(zip([*repeated.column_names, *whole.column_names], [*repeated, *whole], strict=True))
    return with_format(pa.table(columns), LINKS_FORMAT)


def _csv(table: pa.Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(for_csv, table.column_names))
    writer.writerows(
        ["" if v is None else repr(v) if isinstance(v, float) else for_csv(v) for v in row.values()]
        for row in table.to_pylist()
    )
    return text.getvalue()


def sweep_table(axes: Sequence[str], rows: Rows, oracles: Collection[str] = (), wide: bool = False) -> str:
    """Return the main figures of a sweep as text, a row for each policy on each point.

    Axes with one label stand above the table. The fastest policies of each point are marked, *oracles* aside. Columns
    that do not fit the terminal are left out, unless it is to be *wide*.
    """
    constant = [axis for axis in axes if len({row[axis] for row in rows}) == 1 and len(rows) > 1]
    varied = [axis for axis in axes if axis not in constant]
    marked = _fastest_rows(varied, rows, oracles)

    def cells(columns: Sequence[Figure]) -> list[list[str]]:
        found = [[*varied, "policy", *(figure.sweep for figure in columns)]]
        for number, row in enumerate(rows):
            name = labelled(row["policy"], number in marked, row["policy"] in oracles)
            found.append(
                [*(str(row[axis]) for axis in varied), name, *(_brief(row, figure, wide) for figure in columns)]
            )
        return found

    _, text = fitted(shown(rows, wide=True), cells, wide, left=len(varied) + 1)
    heading = ", ".join(f"{axis} {rows[0][axis]}" for axis in constant)
    return f"{filled(heading)}\n\n{text}" if heading else text


def _brief(row: dict[str, Any], figure: Figure, wide: bool) -> str:
    """Return a figure of *row* as short text, with its interval: over seeds if there are several; *wide*: with both."""
    value, intervals = row.get(figure.name), intervals_of(row, figure.name)
    names = list(intervals) if wide else list(intervals)[-1:]
    ends = [f" {interval_text(figure, value, intervals[name])}{f' {name}' if wide else ''}" for name in names]
    return figure_text(figure, value) + "".join(ends)


def _fastest_rows(axes: Sequence[str], rows: Rows, oracles: Collection[str]) -> set[int]:
    """Return the indices of the rows of the fastest policies of each point, a label for each of *axes*."""
    points: dict[tuple[Any, ...], dict[str, int]] = {}
    for number, row in enumerate(rows):
        points.setdefault(tuple(row[axis] for axis in axes), {})[row["policy"]] = number
    marked: set[int] = set()
    for own in points.values():
        if all(isinstance(rows[number].get("decode_time_s"), float) for number in own.values()):
            times = {policy: float(rows[number]["decode_time_s"]) for policy, number in own.items()}
            marked |= {own[policy] for policy in marks(times, oracles)}
    return marked


def sweep_legend(rows: Rows, notes: Sequence[str], oracles: Collection[str] = ()) -> str:
    """Return the legend of the table: scale and intervals, the baseline, and the first lines of `notes_in`."""
    baselines = ", ".join(dict.fromkeys(str(row["baseline"]) for row in rows))
    ranked = {row["policy"] for row in rows} - set(oracles)
    marked = "; *: fastest at its point (within 1%), oracles aside" if len(ranked) > 1 else ""
    about = f"decode time: all MoE layers of all decode steps; speedup: over {baselines}{marked}"
    kind = ["SYNTHETIC routing"] if any(row.get("synthetic") for row in rows) else []
    scales = _scales(rows)
    over = [interval for _, interval in scales if interval]
    ends = [f"± and [low, high]: 95% interval over {over[-1]}"] if over else []
    more = [f"{len(notes) - MOST_NOTES} more notes are in sweep.json"] if len(notes) > MOST_NOTES else []
    lines = ["", *kind, *(scale for scale, _ in scales), *ends, about, *notes[:MOST_NOTES], *more]
    return "\n".join(map(filled, lines))


def scale_of(rows: Rows) -> list[str]:
    """Return lines on the layers and seeds of the figures of *rows*, and on their intervals."""
    scales = _scales(rows)
    several = sum(bool(over) for _, over in scales) > 1 or any(over == "seeds" for _, over in scales)
    return [
        f"{scale}; [low, high]{f' {over.split()[-1]}' * several}: 95% over {over};" if over else f"{scale};"
        for scale, over in scales
    ]


def _scales(rows: Rows) -> list[tuple[str, str]]:
    """Return what the figures of *rows* stand for, and over what they have intervals; empty if they have none."""
    found = []
    sampled = dict.fromkeys(_layers(row) for row in rows if is_sampled(row))
    listed = dict.fromkeys(
        _layers(row) for row in rows if "layers_total" in row and not is_sampled(row) and len(set(_layers(row))) == 2
    )
    seeds = dict.fromkeys(row["seeds_run"] for row in rows if row.get("seeds_run") is not None)
    if sampled:
        counts = ", ".join(f"for all {total} layers from {run}" for run, total in sampled)
        found.append((f"figures are estimated {counts}", "draws of layers"))
    if listed:
        counts = ", ".join(f"the {run} layers run of {total}" for run, total in listed)
        found.append((f"figures are sums over {counts}", ""))
    if seeds:
        counts = ", ".join(map(str, seeds))
        found.append((f"figures are means over {counts} seeds, speedups means of ratios", "seeds"))
    return found


def _layers(row: dict[str, Any]) -> tuple[int, int]:
    return row["layers_run"], row["layers_total"]


def is_sampled(row: dict[str, Any]) -> bool:
    """Whether the figures of *row* are estimates from a sample of the layers."""
    return row.get("decode_time_s_low") is not None


def notes_in(folder: Path) -> list[str]:
    """Return the notes in a sweep's provenance, each a line with the points it is about."""
    notes = point_notes(parse_json(read_plain(folder / "sweep.json")))
    return [f"note ({where}): {note}" if where else f"note: {note}" for where, note in notes]


def shown(rows: Rows, wide: bool = False) -> list[Figure]:
    """Return the figures in the tables of *rows*; *wide*: all that have a column."""
    most = WIDE if wide else WIDE - 1
    return [each for each in figures.FIGURES if each.sweep and each.rank <= most and each.name in rows[0]]


def cell(row: dict[str, Any], figure: Figure) -> str:
    """Return a figure of *row* as text with its intervals, labelled where both kinds are possible."""
    value = row.get(figure.name)
    if value is None:
        return "-"
    form = figure.form or FORMATS.get(figure.unit, "{:.4g}")
    if isinstance(value, float):
        form = form.replace("{:,}", "{:,.0f}")
    text = form.format(value)
    many = row.get("seeds_run") is not None
    for name, (low, high) in intervals_of(row, figure.name).items():
        text += f" [{form.format(low)}, {form.format(high)}]{f' {name}' if many else ''}"
    return text


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return *row* without mappings and lists: the ends of intervals over layers and over seeds become columns."""
    columns = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
    for kind, infix in INTERVALS.items():
        for key, (low, high) in row.get(kind, {}).items():
            columns |= {f"{key}_{infix}low": low, f"{key}_{infix}high": high}
    return columns


def intervals_of(row: dict[str, Any], key: str) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of a figure of *row*: over ``layers`` if they are sampled, over ``seeds``."""
    found = {}
    for name, infix in zip(("layers", "seeds"), INTERVALS.values(), strict=True):
        low, high = row.get(f"{key}_{infix}low"), row.get(f"{key}_{infix}high")
        if low is not None and high is not None:
            found[name] = (low, high)
    return found


def moved_table(axes: Sequence[str], moved: Sequence[Any]) -> str:
    """Return the figures that have moved as text, a row each."""
    cells = [[*axes, "policy", "figure", "expected", "found", "moved by", ""]]
    for m in moved:
        labels = [str(m.labels[axis]) for axis in axes]
        change = f"{(m.found - m.expected) / m.expected:+.2%}" if m.expected else "from 0"
        cells.append([*labels, m.policy, m.figure, f"{m.expected:.6g}", f"{m.found:.6g}", change, m.verdict])
    return aligned(cells, left=len(axes) + 2)
