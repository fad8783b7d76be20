"""A whole sweep: check its points, run what is missing, and write its tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wss.config.sweep_file import Point, Sweep
from wss.ending import last_words
from wss.errors import ConfigError, WssError
from wss.execution import check
from wss.execution.replications import Progress
from wss.files import only_one, write_whole
from wss.report.averages import averages_of, averages_table
from wss.report.sweep_folder import write_sweep
from wss.sweeps.check import check_same, identity_of
from wss.sweeps.collect import links_of, provenance_of, rows_of
from wss.sweeps.execute import as_json, run_sweep
from wss.sweeps.folder import AGAIN, TASKS, Folder, picked_folder
from wss.sweeps.tasks import Task, tasks_of


@dataclass(frozen=True)
class Workers:
    """Where tasks run: on *count* processes, by default one per core, or on the *dask* scheduler of that address."""

    count: int | None = None
    dask: str | None = None


@dataclass(frozen=True)
class Lines:
    """What to call with a line about each *damaged* file, and before tasks are run, if any are *starting*."""

    damaged: Callable[[str], None]
    starting: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Swept:
    """A finished sweep: its identity and rows; how many tasks it has, how many were run now, and the seconds taken."""

    identity: str
    rows: list[dict[str, Any]]
    tasks: int
    run: int
    seconds: float


def check_points(points: Sequence[Point]) -> None:
    """Raise the errors of all *points* of a sweep that cannot be run, one line each, with the point's labels."""
    faults = []
    for point in points:
        where = ", ".join(f"{axis} {label}" for axis, label in point.labels.items())
        try:
            check(point.experiment)
        except WssError as error:
            faults += [f"{where}: {fault}" for fault in error.faults]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))


def run_whole(
    plan: Sweep,
    place: Path,
    workers: Workers,
    progress: Progress,
    lines: Lines,
    expected: dict[str, Any] | None = None,
) -> Swept:
    """Run the sweep *plan* into the folder *place*; tasks that are finished there are not run again.

    The tables of picked points have a folder of their own, below *place*. Raises WssError if a point cannot be run, or
    *expected* is of another sweep; nothing is run then.
    """
    if workers.count is not None and workers.dask is not None:
        raise ConfigError("--workers: are not started with --dask, whose workers are used; give one of the two")
    tasks, whole = tasks_of(plan), plan.whole or plan
    identity = identity_of(whole, tasks if whole is plan else tasks_of(whole))
    if expected is not None:
        check_same(expected, identity, whole)
    every = {task.key: task for own in tasks for task in own}
    folder = _checked_folder(place, plan, tasks, lines.damaged)
    with only_one(place / TASKS, str(place)):
        folder.begin(identity, plan.name, plan.only)
        started = time.time()
        if any(folder.read(key) is None for key in every):
            lines.starting()
        run = run_sweep(list(every.values()), folder, workers.count or os.cpu_count() or 1, workers.dask, progress)
        rows = rows_of(plan, tasks, folder)
        times = {"started": started, "wall_s": time.time() - started, "tasks_run": run}
        tables = picked_folder(place, plan.only)
        write_sweep(tables, rows, links_of(plan, tasks, folder))
        content = as_json(provenance_of(plan, tasks, folder, identity, times))
        write_whole(tables / "sweep.json", lambda part: part.write_bytes(content), AGAIN)
        last_words(None)
    return Swept(identity, rows, len(every), run, time.time() - started)


def closing_lines(plan: Sweep, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what follows the table of *rows*: the averages of *plan*, if it has any, and which points were picked."""
    found, spec = [], plan.averages
    if spec is not None:
        reported = [(each.source, each.policy, each.axis, dict(each.values)) for each in spec.reported]
        found.append(f"\n{averages_table(averages_of(rows, spec.by, spec.figure, reported), spec.by, spec.figure)}")
    if plan.whole is not None:
        found.append(f"the table has {plan.scope}")
    return found


def _checked_folder(place: Path, plan: Sweep, tasks: list[list[Task]], say: Callable[[str], None]) -> Folder:
    """Return the folder *place*, without damaged files of *tasks*; check the points of *plan* that are not done."""
    folder = Folder(place) if place.exists() else None
    for line in folder.set_aside({task.key for own in tasks for task in own}) if folder is not None else ():
        say(line)
    points = zip(plan.points, tasks, strict=True)
    check_points(
        [point for point, own in points if folder is None or any(folder.read(task.key) is None for task in own)]
    )
    return folder or Folder(place)
