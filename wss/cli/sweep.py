"""The commands ``wss sweep``, ``wss check`` and ``wss report``."""

# ruff: noqa: PLC0415
from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wss.cli import dry_run as dry
from wss.cli.options import PATH, Bars, allow_code, announce_compiling, say
from wss.ending import last_words
from wss.errors import ConfigError
from wss.files import only_one, write_whole

if TYPE_CHECKING:
    from wss.config.sweep_file import Sweep
    from wss.sweeps import Folder, Task

_SHARED = (
    click.argument("experiment", type=PATH),
    allow_code,
    click.option("--out", type=PATH, help="Folder, which may hold an unfinished sweep  [default: results/NAME]"),
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


@dataclass(frozen=True)
class _Options:
    """The options that `sweep` and `check` share."""

    experiment: Path
    allow_code: bool
    out: Path | None
    settings: tuple[str, ...]
    workers: int | None
    dask: str | None
    quiet: bool

    def plan(self) -> Sweep:
        """Read the sweep."""
        from wss.config.sweep_file import load_sweep

        return load_sweep(self.experiment, self.settings, allow_code=self.allow_code)

    def folder(self, plan: Sweep) -> Path:
        """Return the folder of the sweep *plan*."""
        return self.out if self.out is not None else Path("results") / plan.name


def _shared(command: Any) -> Any:
    """Decorate *command* with the shared options, which it takes as one argument."""

    @wraps(command)
    def collected(**given: Any) -> None:
        command(_Options(**{field.name: given.pop(field.name) for field in fields(_Options)}), **given)

    for decorate in reversed(_SHARED):
        collected = decorate(collected)
    return collected


@click.command()
@_shared
@click.option("--dry-run", is_flag=True, help="Print what would be run, and about how long it takes; run nothing.")
def sweep(options: _Options, dry_run: bool) -> None:
    """Run all points of EXPERIMENT, a YAML file, in parallel; finished tasks are kept and not run again."""
    from wss.report.sweep_folder import notes_in, sweep_legend, sweep_table

    plan = options.plan()
    if dry_run:
        dry.dry_sweep(plan, options.folder(plan), options.workers, options.dask)
        return
    _, rows = _run(plan, options)
    folder = options.folder(plan)
    click.echo(sweep_table(plan.axes, rows))
    click.echo(sweep_legend(rows, notes_in(folder)))
    click.echo(f"\nwrote {folder}/: results.parquet, results.csv, links.parquet, sweep.json", err=True)


def _run(plan: Sweep, options: _Options, expected: dict[str, Any] | None = None) -> tuple[str, list[dict[str, Any]]]:
    """Run a sweep, write its tables, and return its identity and rows.

    Raises WssError if a point cannot be run, or *expected* is of another sweep; nothing is run then.
    """
    from wss.report.sweep_folder import write_sweep
    from wss.sweeps import check_same, run_sweep, tasks_of
    from wss.sweeps.check import identity_of
    from wss.sweeps.collect import links_of, provenance_of, rows_of
    from wss.sweeps.execute import as_json
    from wss.sweeps.folder import AGAIN, TASKS

    if options.workers is not None and options.dask is not None:
        raise ConfigError("--workers: are not started with --dask, whose workers are used; give one of the two")
    tasks = tasks_of(plan)
    identity = identity_of(plan, tasks)
    if expected is not None:
        check_same(expected, identity, plan)
    place, every = options.folder(plan), {task.key: task for own in tasks for task in own}
    folder = _checked_folder(place, plan, tasks)
    with only_one(place / TASKS, str(place)):
        folder.begin(identity, plan.name)
        started = time.time()
        announce_compiling(options.quiet or all(folder.read(key) is not None for key in every))
        with closing(Bars(options.quiet)) as bars:
            workers = options.workers or os.cpu_count() or 1
            run = run_sweep(list(every.values()), folder, workers, options.dask, bars)
        rows = rows_of(plan, tasks, folder)
        times = {"started": started, "wall_s": time.time() - started, "tasks_run": run}
        write_sweep(place, rows, links_of(plan, tasks, folder))
        content = as_json(provenance_of(plan, tasks, folder, identity, times))
        write_whole(place / "sweep.json", lambda part: part.write_bytes(content), AGAIN)
        last_words(None)
    counts = f"{len(plan.points)} points, {len(every)} tasks: {run} run in {time.time() - started:.0f} s"
    click.echo(f"{counts}, {len(every) - run} kept", err=True)
    return identity, rows


def _checked_folder(place: Path, plan: Sweep, tasks: list[list[Task]]) -> Folder:
    """Return the folder *place*, without damaged files of *tasks*; check the points of *plan* that are not done."""
    from wss.sweeps import Folder

    folder = Folder(place) if place.exists() else None
    for line in folder.set_aside({task.key for own in tasks for task in own}) if folder is not None else ():
        click.echo(line, err=True)
    points = zip(plan.points, tasks, strict=True)
    dry.check_points(
        [point for point, own in points if folder is None or any(folder.read(task.key) is None for task in own)]
    )
    return folder or Folder(place)


@click.command()
@_shared
@click.option("--update", is_flag=True, help="Write the current figures to the file of expected figures.")
@click.option("--expected", type=PATH, help="The file of expected figures  [default: expected/NAME.json]")
def check(options: _Options, update: bool, expected: Path | None) -> None:
    """Compare the figures of EXPERIMENT with those expected; exit with code 1 and a table if any moved."""
    from wss.report.sweep_folder import moved_table
    from wss.sweeps import compare, expected_of, expected_path
    from wss.sweeps.check import read_expected, renewing
    from wss.sweeps.execute import as_json
    from wss.sweeps.folder import AGAIN

    plan = options.plan()
    path = expected or expected_path(options.experiment, plan.name)
    before = None if update else read_expected(path)
    identity, rows = _run(plan, options, before)
    count = len(rows) * len(plan.check.figures)
    if before is None:
        content = as_json(expected_of(plan, identity, rows, options.experiment))
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
    say(f"if that is meant: {renewing(plan, options.experiment)}")
    sys.exit(1)


@click.command()
@click.argument("results", type=PATH)
@click.option("--out", type=PATH, help="Folder  [default: RESULTS/report]")
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
