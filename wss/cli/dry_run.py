"""``--dry-run``: print what a command would do; nothing is run or written."""

# ruff: noqa: PLC0415
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wss.cli.options import say
from wss.errors import ConfigError

if TYPE_CHECKING:
    from wss.config import Experiment
    from wss.config.sweep_file import Sweep


def dry_run(experiment: Experiment, as_json: bool) -> None:
    """Print the configuration of a run with all defaults filled in, and a preview of the run as comments."""
    from wss.config.written import as_yaml
    from wss.execution.outlook import FACTOR, outlook_of
    from wss.report.outlook import outlook_lines

    if as_json:
        raise ConfigError("--json: prints the summary of a run, and with --dry-run there is none; give one of the two")
    lines = outlook_lines(outlook_of(experiment), FACTOR)
    say(as_yaml(experiment) + "\n".join(f"# {' '.join(line.split())}" for line in lines))


def dry_sweep(plan: Sweep, out: Path, workers: int | None, dask: str | None) -> None:
    """Print how many tasks a sweep has, how many are done, and the approximate time of the others."""
    from wss.execution.outlook import FACTOR, layer_seconds, trace_seconds
    from wss.report.outlook import took
    from wss.sweeps import tasks_of
    from wss.sweeps.folder import TASKS, Folder
    from wss.sweeps.whole import check_points

    if dask is not None:
        raise ConfigError("--dask: is not used with --dry-run; leave one of the two out")
    check_points(plan.points)
    tasks = {task.key: task for own in tasks_of(plan) for task in own}
    folder = Folder(out) if (out / TASKS).is_dir() else None
    left = [task for task in tasks.values() if folder is None or folder.read(task.key) is None]
    runs = sum(task.layer_runs for task in left)
    cores = workers or os.cpu_count() or 1
    say(
        f"{plan.name}: {plan.scope}, {len(tasks)} tasks, of which {len(tasks) - len(left)} are kept in "
        f"{out}/ and {len(left)} would be run: about {runs:,} layer runs"
    )
    traces = {task.routing: trace_seconds(task.experiment, task.steps) for task in left}  # tasks share their routing
    seconds = sum(layer_seconds(task.experiment, task.steps) for task in left) + sum(traces.values())
    say(took(seconds, FACTOR, cores))
