"""The commands ``wss sweep``, ``wss check`` and ``wss report``."""

# ruff: noqa: PLC0415
from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wss.cli import dry_run as dry
from wss.cli.options import Bars, allow_code, say
from wss.ending import last_words
from wss.errors import ConfigError
from wss.files import only_one, write_whole

if TYPE_CHECKING:
    from wss.config.sweep_file import Sweep
    from wss.sweeps import Folder

_SHARED = (
    click.argument("experiment", type=click.Path(path_type=Path)),
    allow_code,
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder, which may hold an unfinished sweep  [default: results/NAME]",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one setting of all points, such as steps=8.",
    ),
    click.option("--workers", type=click.IntRange(1, 1024), help="Processes  [default: one per core]"),
    click.option("--dask", metavar="ADDRESS", help="Run on the workers of this dask scheduler instead."),
    click.option("--quiet", is_flag=True, help="No progress bar."),
)


def _shared(command: Any) -> Any:
    for decorate in reversed(_SHARED):
        command = decorate(command)
    return command


@click.command()
@_shared
@click.option("--dry-run", is_flag=True, help="Print what would be run, and about how long it takes; run nothing.")
def sweep(
    experiment: Path,
    allow_code: bool,
    out: Path | None,
    settings: tuple[str, ...],
    workers: int | None,
    dask: str | None,
    quiet: bool,
    dry_run: bool,
) -> None:
    """Run all points of EXPERIMENT, a YAML file, in parallel; finished tasks are kept and not run again."""
    from wss.config.sweep_file import load_sweep
    from wss.report.sweep_folder import notes_in, sweep_legend, sweep_table

    plan = load_sweep(experiment, settings, allow_code=allow_code)
    if dry_run:
        dry.dry_sweep(plan, out or Path("results") / plan.name, workers, dask)
        return
    _, rows, folder = _run(plan, out, workers, dask, quiet)
    click.echo(sweep_table(plan.axes, rows))
    click.echo(sweep_legend(rows, notes_in(folder.path)))
    click.echo(f"\nwrote {folder.path}/: results.parquet, results.csv, links.parquet, sweep.json", err=True)


def _run(
    plan: Sweep,
    out: Path | None,
    workers: int | None,
    dask: str | None,
    quiet: bool,
    expected: dict[str, Any] | None = None,
) -> tuple[str, list[dict[str, Any]], Folder]:
    """Run a sweep, write its tables, and return its identity, rows and folder.

    Raises
    ------
    WssError
        If a point cannot be run, or *expected* is of another sweep; nothing is run then.
    """
    with ExitStack() as held:
        return _run_holding(held, plan, out, workers, dask, quiet, expected)


def _run_holding(
    held: ExitStack,
    plan: Sweep,
    out: Path | None,
    workers: int | None,
    dask: str | None,
    quiet: bool,
    expected: dict[str, Any] | None,
) -> tuple[str, list[dict[str, Any]], Folder]:
    """Run a sweep as `_run` does, and keep its folder locked in *held*."""
    from wss.execution import check
    from wss.report.sweep_folder import write_sweep
    from wss.sweeps import Folder, check_same, run_sweep, tasks_of
    from wss.sweeps.check import identity_of
    from wss.sweeps.collect import links_of, provenance_of, rows_of
    from wss.sweeps.execute import as_json
    from wss.sweeps.folder import AGAIN, TASKS

    if workers is not None and dask is not None:
        raise ConfigError("--workers: are not started with --dask, whose workers are used; give one of the two")
    tasks = tasks_of(plan)
    identity = identity_of(plan, tasks)
    if expected is not None:
        check_same(expected, identity, plan)
    place = out if out is not None else Path("results") / plan.name
    folder = Folder(place) if place.exists() else None
    for line in folder.set_aside({t.key for own in tasks for t in own}) if folder is not None else ():
        click.echo(line, err=True)
    faults = [
        fault
        for point, own in zip(plan.points, tasks, strict=True)
        if folder is None or any(folder.read(task.key) is None for task in own)
        for fault in _faults(check, point)
    ]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    folder = folder or Folder(place)
    held.enter_context(only_one(place / TASKS, str(place)))
    folder.begin(identity, plan.name)
    started, bars = time.time(), Bars(quiet)
    try:
        run = run_sweep([t for own in tasks for t in own], folder, workers or os.cpu_count() or 1, dask, bars)
    finally:
        bars.close()
    rows = rows_of(plan, tasks, folder)
    times = {"started": started, "wall_s": time.time() - started, "tasks_run": run}
    write_sweep(folder.path, rows, links_of(plan, tasks, folder))
    content = as_json(provenance_of(plan, tasks, folder, identity, times))
    write_whole(folder.path / "sweep.json", lambda part: part.write_bytes(content), AGAIN)
    last_words(None)
    total = len({t.key for own in tasks for t in own})
    click.echo(
        f"{len(plan.points)} points, {total} tasks: {run} run in {time.time() - started:.0f} s, {total - run} kept",
        err=True,
    )
    return identity, rows, folder


def _faults(check: Any, point: Any) -> list[str]:
    """Return the errors of a point that cannot be run, one line each, with the point's labels."""
    from wss.errors import WssError

    where = ", ".join(f"{axis} {label}" for axis, label in point.labels.items())
    try:
        check(point.experiment)
    except WssError as error:
        return [f"{where}: {fault}" for fault in error.faults]
    return []


@click.command()
@_shared
@click.option("--update", is_flag=True, help="Write the current figures to the file of expected figures.")
@click.option(
    "--expected", type=click.Path(path_type=Path), help="The file of expected figures  [default: expected/NAME.json]"
)
def check(
    experiment: Path,
    allow_code: bool,
    out: Path | None,
    settings: tuple[str, ...],
    workers: int | None,
    dask: str | None,
    quiet: bool,
    update: bool,
    expected: Path | None,
) -> None:
    """Compare the figures of EXPERIMENT with those expected; exit with code 1 and a table if any moved."""
    from wss.config.sweep_file import load_sweep
    from wss.report.sweep_folder import moved_table
    from wss.sweeps import compare, expected_of, expected_path
    from wss.sweeps.check import read_expected, renewing
    from wss.sweeps.execute import as_json
    from wss.sweeps.folder import AGAIN

    plan = load_sweep(experiment, settings, allow_code=allow_code)
    path = expected or expected_path(experiment, plan.name)
    before = None if update else read_expected(path)
    identity, rows, _ = _run(plan, out, workers, dask, quiet, before)
    count = len(rows) * len(plan.check.figures)
    if before is None:
        content = as_json(expected_of(plan, identity, rows, experiment))
        write_whole(path, lambda part: part.write_bytes(content), AGAIN)
        click.echo(f"{path}: {count} figures are expected from now on, within {plan.check.tolerance:.2%}")
        return
    moved = compare(before, plan, rows)
    if not moved:
        click.echo(f"{path}: all {count} figures hold, within {before['tolerance']:.2%}")
        return
    click.echo(moved_table(plan.axes, moved))
    say(
        f"\n{len(moved)} of {count} figures moved by more than {before['tolerance']:.2%} "
        f"(expected since commit {before['commit']});"
    )
    say(f"if that is meant: {renewing(plan, experiment)}")
    sys.exit(1)


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: RESULTS/report]")
@click.option("--format", "kind", type=click.Choice(["png", "svg"]), default="png", show_default=True)
def report(results: Path, out: Path | None, kind: str) -> None:
    """Plot RESULTS, the folder of a sweep or a run: bar charts, heat maps of the links, and a Markdown table."""
    from wss.report.report import read_results, write_report
    from wss.sweeps.folder import damaged_in

    for file in damaged_in(results):
        click.echo(
            f"{file}: is damaged, but the tables are intact; `wss sweep` into {results} runs the task again", err=True
        )
    for path in write_report(read_results(results), out or results / "report", kind):
        click.echo(path)
