"""The commands ``wss sweep``, ``wss check`` and ``wss report``."""

# ruff: noqa: PLC0415
from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wss.cli import dry_run as dry
from wss.cli.options import PATH, Bars, allow_code, announce_compiling, free_file, say
from wss.errors import ConfigError
from wss.files import write_whole

if TYPE_CHECKING:
    from wss.config.sweep_file import Sweep

_SHARED = (
    click.argument("experiment", type=PATH),
    allow_code,
    click.option("--out", type=PATH, help="Folder, which may hold an unfinished sweep  [default: results/NAME]"),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one setting of all points, such as steps=8 or wafer.link.bandwidth=2x.",
    ),
    click.option(
        "--only",
        multiple=True,
        metavar="AXIS=LABEL",
        help="Run only the points with these labels, such as batch=4096,8192. Their tables go to OUT/only/LABELS; "
        "the whole sweep uses their results too.",
    ),
    click.option("--workers", type=click.IntRange(1, 1024), help="Processes  [default: one per core]"),
    click.option("--dask", metavar="ADDRESS", help="Run on the workers of this dask scheduler instead."),
    click.option("--quiet", is_flag=True, help="Print no progress."),
)


@dataclass(frozen=True)
class _Options:
    """The options that `sweep` and `check` share."""

    experiment: Path
    allow_code: bool
    out: Path | None
    settings: tuple[str, ...]
    only: tuple[str, ...]
    workers: int | None
    dask: str | None
    quiet: bool

    def plan(self) -> Sweep:
        """Read the sweep, with the points of --only."""
        from wss.config.sweep_file import load_sweep

        return load_sweep(self.experiment, self.settings, allow_code=self.allow_code, only=self.only)

    def folder(self, plan: Sweep) -> Path:
        """Return the folder of the sweep *plan*."""
        return self.out if self.out is not None else Path("results") / plan.name

    def tables(self, plan: Sweep) -> Path:
        """Return the folder of the tables of *plan*: of picked points, one below that of the sweep."""
        from wss.sweeps.folder import picked_folder

        return picked_folder(self.folder(plan), plan.only)


def _shared(command: Any) -> Any:
    """Decorate *command* with the shared options, which it takes as one argument."""

    @wraps(command)
    def collected(**given: Any) -> None:
        command(_Options(**{field.name: given.pop(field.name) for field in fields(_Options)}), **given)

    for decorate in reversed(_SHARED):
        collected = decorate(collected)
    return collected


@click.command(short_help="Run every point of a sweep.")
@_shared
@click.option("--wide", is_flag=True, help="Print all columns of the table.")
@click.option("--dry-run", is_flag=True, help="Print what would be run, and about how long it takes; run nothing.")
def sweep(options: _Options, wide: bool, dry_run: bool) -> None:
    """Run all points of EXPERIMENT, a YAML file, in parallel; finished tasks are kept and not run again."""
    from wss.report.sweep_folder import notes_in, sweep_legend, sweep_table
    from wss.sweeps.whole import closing_lines

    plan = options.plan()
    if dry_run:
        dry.check_no_table(wide)
        dry.dry_sweep(plan, options.folder(plan), options.workers, options.dask)
        return
    _, rows = _run(plan, options)
    folder = options.tables(plan)
    oracles = {policy.name for point in plan.points for policy in point.experiment.policies if policy.is_oracle}
    click.echo(sweep_table(plan.axes, rows, oracles, wide))
    click.echo(sweep_legend(rows, notes_in(folder), oracles))
    for line in closing_lines(plan, rows):
        say(line)
    say(f"\nwrote {folder}/: results.parquet, results.csv, links.parquet, sweep.json", err=True)


def _run(plan: Sweep, options: _Options, expected: dict[str, Any] | None = None) -> tuple[str, list[dict[str, Any]]]:
    """Run a sweep as `run_whole` does, and return its identity and rows."""
    from wss.sweeps.whole import Lines, Workers, run_whole

    workers = Workers(options.workers, options.dask)
    with closing(Bars(options.quiet)) as bars:
        lines = Lines(partial(click.echo, err=True), lambda: announce_compiling(options.quiet))
        done = run_whole(plan, options.folder(plan), workers, bars, lines, expected)
    counts = f"{plan.scope}, {done.tasks} tasks: {done.run} run in {done.seconds:.0f} s"
    say(f"{counts}, {done.tasks - done.run} kept", err=True)
    return done.identity, done.rows


@click.command(short_help="Compare the figures of a sweep with expected ones.")
@_shared
@click.option("--update", is_flag=True, help="Write the current figures to the file of expected figures.")
@click.option("--expected", type=PATH, help="The file of expected figures  [default: expected/NAME.json]")
def check(options: _Options, update: bool, expected: Path | None) -> None:
    """Compare the figures of EXPERIMENT with the expected ones; exit with code 1 and a table if any changed."""
    from wss.report.sweep_folder import moved_table
    from wss.sweeps import compare, expected_of, expected_path
    from wss.sweeps.check import read_expected, renewing
    from wss.sweeps.execute import as_json
    from wss.sweeps.folder import AGAIN

    if update and options.only:
        raise ConfigError("--only: with --update the figures of all points are written; leave one of the two out")
    plan = options.plan()
    path = expected or expected_path(options.experiment, plan.name)
    before = None if update else read_expected(path)
    identity, rows = _run(plan, options, before)
    count = len(rows) * len(plan.check.figures)
    of = f" of {plan.scope}" if plan.only else ""
    if before is None:
        content = as_json(expected_of(plan, identity, rows, options.experiment))
        write_whole(path, lambda part: part.write_bytes(content), AGAIN)
        click.echo(f"{path}: {count} figures are expected from now on, within {plan.check.tolerance:.2%}")
        return
    moved = compare(before, plan, rows)
    if not moved:
        say(f"{path}: all {count} figures{of} hold, within {before['tolerance']:.2%}")
        return
    click.echo(moved_table(plan.axes, moved))
    say(
        f"\n{len(moved)} of {count} figures{of} moved by more than {before['tolerance']:.2%} "
        f"(expected since commit {before['commit']});"
    )
    say(f"if this is intended: {renewing(plan, options.experiment)}")
    sys.exit(1)


@click.command(short_help="Draw the results of a run or a sweep.")
@click.argument("results", type=PATH)
@click.option("--out", type=PATH, help="Folder, or the file of the --picture  [default: RESULTS/report]")
@click.option("--force", is_flag=True, help="Replace --out if it exists.")
@click.option(
    "--format", "kind", type=click.Choice(["png", "svg"]), help="Of pictures  [default: that of --out, else png]"
)
@click.option("--wide", is_flag=True, help="Write all columns of the table.")
@click.option("--picture", type=click.Choice(["links"]), help="Draw only this: the traffic of a run's links.")
@click.option("--policies", metavar="A,B", help="Policies of the --picture, in this order  [default: all]")
def report(
    results: Path,
    out: Path | None,
    force: bool,
    kind: str | None,
    wide: bool,
    picture: str | None,
    policies: str | None,
) -> None:
    """Plot RESULTS, the folder of a sweep or a run: bar charts, maps of the links, and a Markdown table."""
    from wss.report.report import read_results, write_links, write_report
    from wss.report.report_folder import check_replaceable
    from wss.sweeps.folder import damaged_in

    if picture is None and policies is not None:
        raise ConfigError("--policies: chooses what --picture shows; give it too, or neither")
    if picture is not None:
        if wide:
            raise ConfigError("--wide: is for the table of a whole report; with --picture leave it out")
        path = out or results / f"{picture}.{kind or 'png'}"
        _check_picture(path, kind, force)
        chosen = [name.strip() for name in policies.split(",")] if policies is not None else []
        say(str(write_links(read_results(results), chosen, path)))
        return
    out = out or results / "report"
    check_replaceable(out, force)
    for file in damaged_in(results):
        click.echo(
            f"{file}: is damaged, but the tables are intact; `wss sweep` into {results} runs the task again", err=True
        )
    for path in write_report(read_results(results), out, kind or "png", wide):
        click.echo(path)


def _check_picture(path: Path, kind: str | None, force: bool) -> None:
    """Check that a picture, of that *kind* if it is given, can be written to *path*. Raises WssError."""
    from wss.report.plotting import is_drawn

    suffixes = [f".{kind}"] if kind is not None else [".png", ".svg"]
    if path.suffix not in suffixes:
        raise ConfigError(f"--out {path}: should end in {' or '.join(suffixes)}, as it is a picture")
    free_file(path, force, is_drawn, "picture")
