"""`wss report`: a finished sweep or run as pictures and Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wss.errors import ConfigError, OutputError, did_you_mean
from wss.escaping import for_markdown, for_terminal
from wss.files import parse_json, part_in, put_folder, reason_of
from wss.policies import KINDS
from wss.reading import read_plain
from wss.report.bars import write_bars
from wss.report.link_maps import Map, is_port, write_meshmap, write_portmap
from wss.report.markdown import means_table, rows_table, table, tornado_table
from wss.report.plotting import shorten
from wss.report.point_notes import point_notes
from wss.report.report_folder import REPORT
from wss.report.sound import check_results
from wss.report.sweep_folder import SWEEP_SCHEMA, flat, is_sampled, read_sweep, scale_of
from wss.report.tornado import shown_policies, write_tornado
from wss.traces.parquet import read_table
from wss.units import show

MOST_MAPS = 6
SCHEMAS = {"summary.json": "wss-summary/2", "sweep.json": SWEEP_SCHEMA}
SAMPLED = (
    "The maps show each link's utilization estimated for all layers. The largest of such estimates is biased upwards; "
    "titles and tables correct the busiest link for this bias."
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The content of a folder of results; links, which may be millions, are a table.

    *origin* is how they came about: the provenance of a run, or the sweep.json of a sweep.
    """

    title: str
    axes: tuple[str, ...]
    rows: list[Row]
    links: pa.Table
    notes: list[str]
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What pictures say about the routing after their titles; empty if it was recorded."""
        return ", synthetic routing" if any(row.get("synthetic") for row in self.rows) else ""


def read_results(folder: Path) -> Results:
    """Read the folder of a sweep or of a run.

    Raises
    ------
    ConfigError
        If it is neither, or damaged.
    OutputError
        If the tables of a sweep cannot be read.
    """
    try:
        if (folder / "sweep.json").is_file():
            about = _read(folder, "sweep.json")
            rows, links = read_sweep(folder)
            axes = tuple(about["axes"])
            if not rows or not all({*axes, "policy"} <= set(names) for names in (rows[0], links.column_names)):
                raise ConfigError(f"{folder}: sweep.json and the tables are of different sweeps; run the sweep again")
            check_results(axes, rows, links, [about["name"], *about["notes"]])
            notes = [f"{where}: {note}" if where else note for where, note in point_notes(about)]
            return Results(for_terminal(_title_of(about)), axes, rows, links, notes, about)
        if (folder / "summary.json").is_file():
            summary = _read(folder, "summary.json")
            results = results_of(summary, read_table(folder / "links.parquet"))
            check_results((), results.rows, results.links, [results.title, *results.notes])
            return results
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
        what = " ".join(str(error).split())[:200]
        raise ConfigError(f"{folder}: its results are damaged ({what}); run it again") from None
    if (folder / "only").is_dir():
        parts = sorted(str(part.parent) for part in folder.glob("only/*/sweep.json"))
        what = f"holds no results of all points, only of points picked with --only; give {' or '.join(parts[:2])}"
        raise ConfigError(f"{folder}: {what}" if parts else f"{folder}: is an unfinished sweep; run it again")
    if (folder / "tasks").is_dir():
        raise ConfigError(f"{folder}: is an unfinished sweep; run the same `wss sweep` again to resume it")
    raise ConfigError(f"{folder}: holds no result (no sweep.json, no summary.json); give a folder that wss wrote")


def _title_of(about: Row) -> str:
    """Return the title of a sweep by its sweep.json: its name, and the labels of picked points."""
    only = about.get("only")
    return str(about["name"]) + (f" (only {', '.join(map(str, only))})" if isinstance(only, list) else "")


def results_of(summary: dict[str, Any], links: pa.Table) -> Results:
    """Return the results of a run from the contents of summary.json and links.parquet."""
    run, about = summary["runs"][0], summary["provenance"]
    title = for_terminal(f"{run['model']} on {run['wafer']}, batch {run['batch']}, {run['network']} network")
    order = {name: number for number, name in enumerate(name for names in KINDS.values() for name in names)}
    runs = sorted(summary["runs"], key=lambda run: order.get(run["policy"], len(order)))  # as `wss list` has it
    means = pa.Table.from_pylist(_links_of(links.to_pylist()))
    return Results(title, (), [flat(each) for each in runs], means, about["notes"], about)


def _read(folder: Path, name: str) -> Any:
    """Return the JSON in the file *name*; refuse results of an earlier version, whose figures have another scale."""
    content = parse_json(read_plain(folder / name))
    if content["schema"] != SCHEMAS[name]:
        what = f"is a {content['schema']}, this version reads {SCHEMAS[name]}"
        raise ConfigError(f"{folder / name}: {what}; run it again")
    return content


def _links_of(rows: list[Row]) -> list[Row]:
    """Return the links of a run, means over its seeds."""
    by_link: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_link.setdefault((row["policy"], row["link"]), []).append(row)
    figures = ("utilization", "estimated_utilization")
    return [
        {**own[0], **{key: None if own[0][key] is None else fmean(row[key] for row in own) for key in figures}}
        for own in by_link.values()
    ]


def write_report(results: Results, folder: Path, kind: str, wide: bool = False) -> list[Path]:
    """Write a report, pictures and report.md, as *folder*, and return the paths; *kind* is png or svg.

    The table has the main figures; if it is to be *wide*, all that tables show. All is written to a temporary folder
    beside *folder*, which then takes its place; what was in *folder* is removed.

    Raises OutputError if something cannot be written; *folder* is as before then.
    """
    target = folder.resolve()  # keeps a symbolic link and replaces its target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part_in(target.parent, is_folder=True) as part:
            try:
                written = _write_files(results, part, kind, wide)
            except OutputError as error:  # of a picture: named by where it was to be
                raise OutputError(*(fault.replace(str(part), str(folder)) for fault in error.faults)) from None
            put_folder(part, target)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({reason_of(error)}); give an --out with room") from None
    return [folder / path.name for path in written]


def _write_files(results: Results, folder: Path, kind: str, wide: bool) -> list[Path]:
    """Write the pictures and report.md into *folder*, and return the paths."""
    rows, axes = results.rows, results.axes
    scale = [line.rstrip(";") + "." for line in scale_of(rows)]
    text = [
        f"# {for_markdown(results.title)}",
        *map(for_markdown, results.notes),
        *(line[0].upper() + line[1:] for line in scale),
    ]
    if "varied" in axes:
        written, drawn = _tornados(results, folder, kind)
        text += drawn
    else:
        written = write_bars(rows, axes, results.title + results.kind, folder, kind)
        text += [f"![{path.stem}]({path.name})" for path in written]
        text += ["## Means", means_table(axes, rows)] if axes else []
        maps = _maps(results, folder, kind)
        said = [SAMPLED] if any(map(is_sampled, rows)) else []
        text += ["## Links", *said, *(f"![{path.stem}]({path.name})" for path in maps)] if maps else []
        written += maps
    text += ["## All rows", rows_table(axes, rows, wide)]
    report = folder / REPORT
    report.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return [*written, report]


def _tornados(results: Results, folder: Path, kind: str) -> tuple[list[Path], list[str]]:
    """Draw a tornado plot for every policy on every point of the grid; return the paths and the text about them."""
    rows = results.rows
    fixed = [axis for axis in results.axes if axis not in ("varied", "to")]
    written: list[Path] = []
    text: list[str] = []
    taken: set[str] = set()
    for labels in _labels(rows, fixed):
        own = [row for row in rows if all(row[axis] == labels[axis] for axis in fixed)]
        title = ", ".join([results.title + results.kind, *(f"{axis} {label}" for axis, label in labels.items())])
        policies = shown_policies(own)
        if not policies:
            nothing = "No policy but the baseline is run both with nothing varied and with something."
            text += [f"## {for_markdown(title)}", nothing]
        for policy in policies:
            name = _file("_".join(["tornado", *(str(label) for label in labels.values()), policy]), taken)
            written.append(write_tornado(own, policy, title, folder / f"{name}.{kind}"))
            heading, picture = f"## {for_markdown(f'{title}, {policy}')}", f"![{name}]({written[-1].name})"
            text += [heading, picture, tornado_table(own, policy)]
    return written, text


def _labels(rows: list[Row], axes: list[str]) -> list[dict[str, Any]]:
    """Return every existing combination of labels, in order."""
    found = {tuple(row[axis] for axis in axes) for row in rows}
    choices = [list(dict.fromkeys(row[axis] for row in rows)) for axis in axes]
    return [dict(zip(axes, labels, strict=True)) for labels in product(*choices) if labels in found]


def _maps(results: Results, folder: Path, kind: str) -> list[Path]:
    """Draw the links of every point that has any; of many points, only the first for each label of the first axis."""
    axes = list(results.axes)
    by_point = results.links.group_by(axes).aggregate([]) if axes else results.links.select([])[:1]
    linked = {tuple(point.values()) for point in by_point.to_pylist()}
    points = [point for point in _labels(results.rows, axes) if tuple(point.values()) in linked]
    if len(points) > MOST_MAPS:
        first = {point[results.axes[0]]: point for point in reversed(points)}
        points = [point for point in points if first[point[results.axes[0]]] == point][:MOST_MAPS]
    written, taken = [], set[str]()
    for point in points:
        own = links_at(results.links, point)
        rows = [row for row in results.rows if all(row[axis] == label for axis, label in point.items())]
        title = ", ".join(f"{axis} {label}" for axis, label in point.items()) or results.title
        name = _file("_".join(["links", *(str(label) for label in point.values())]), taken)
        written.append(_map(own, rows, title + results.kind, folder / f"{name}.{kind}"))
    return written


def map_of(rows: list[Row], title: str) -> Map:
    """Return what a picture of links says of one point; *rows* are its figures."""
    scope = f", estimated for all {rows[0]['layers_total']} layers" if is_sampled(rows[0]) else ""
    return Map(
        title=title,
        what=f"share of the link's bandwidth used{scope}",
        speedups={row["policy"]: _speedup_of(row) for row in rows},
        times={row["policy"]: _time_of(row) for row in rows},
        busiest={row["policy"]: row["max_link_utilization"] for row in rows},
        links={row["policy"]: row.get("busiest_link") for row in rows},
    )


def _map(links: list[Row], rows: list[Row], title: str, path: Path) -> Path:
    """Draw the *links* of one point to *path*, and return it; *rows* are its figures, in the order of the policies."""
    draw = write_portmap if is_port(links[0]) else write_meshmap
    return draw(in_order(links, rows), map_of(rows, title), path)


def in_order(links: list[Row], rows: list[Row]) -> list[Row]:
    """Return *links* in the order of the policies of *rows*."""
    order = {row["policy"]: number for number, row in enumerate(rows)}
    return sorted(links, key=lambda link: order.get(link["policy"], len(order)))


def _time_of(row: Row) -> str:
    """Return the time of a decode step as text."""
    step = row.get("step_time_mean_s")
    return f"{show(step, 'time')} a decode step" if step else f"{show(row['decode_time_s'], 'time')} of decode"


def _speedup_of(row: Row) -> str:
    """Return the speedup over the baseline as text; empty for the baseline."""
    baseline = row.get("baseline")
    return "" if baseline in (None, row["policy"]) else f" ({row['speedup']:.2f}x {shorten(baseline, 12)})"


def write_links(results: Results, policies: Sequence[str], path: Path) -> Path:
    """Draw the links of the *policies* of a run, side by side on one scale, to *path*, and return it; all if empty.

    Raises
    ------
    ConfigError
        If *results* are those of a sweep, have no links, or lack a policy.
    """
    if results.axes:
        raise ConfigError("--picture: is drawn of one run; give the folder of a run, not of a sweep")
    known = [row["policy"] for row in results.rows]
    for policy in policies:
        if policy not in known:
            raise ConfigError(f"--policies {policy}: is not in these results; {did_you_mean(policy, known)}")
    chosen = list(policies) or known
    rows = [row for policy in chosen for row in results.rows if row["policy"] == policy]
    links = [link for link in links_at(results.links, {}) if link["policy"] in chosen]
    if not links:
        raise ConfigError("--picture links: this system has no links")
    return _map(links, rows, results.title + results.kind, path)


def links_at(links: pa.Table, point: dict[str, Any]) -> list[Row]:
    """Return the links of one *point*, a label for each axis; estimated for all layers, if these are sampled."""
    for axis, label in point.items():
        links = links.filter(pc.equal(links[axis], label))
    estimate = "estimated_utilization"
    return [
        {**link, "utilization": link["utilization" if link[estimate] is None else estimate]}
        for link in links.to_pylist()
    ]


def _file(name: str, taken: set[str]) -> str:
    """Return *name* as a unique file name without suffix, and add it to *taken*."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:100]
    found, number = stem, 1
    while found.casefold() in taken:
        number += 1
        found = f"{stem}-{number}"
    taken.add(found.casefold())
    return found


__all__ = ["Results", "read_results", "table", "write_links", "write_report"]
