"""Collect the results of tasks into one tidy table, with a row for each policy at each point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wss import __version__
from wss.config.sweep_file import Sweep
from wss.execution.provenance import host
from wss.metrics.figures import Value, plain
from wss.metrics.replications import merged
from wss.metrics.sampling import Sample, Stratum
from wss.report.sweep_folder import SWEEP_SCHEMA, flat
from wss.sweeps.folder import Folder
from wss.sweeps.tasks import Task


def rows_of(sweep: Sweep, tasks: Sequence[Sequence[Task]], folder: Folder) -> list[dict[str, Any]]:
    """Return the rows: labels of the axes, policy, figures; `speedup` is the baseline's decode time over the row's.

    A figure with the name of an axis is left out: the axis' label takes its column.
    """
    rows = []
    for point, own in zip(sweep.points, tasks, strict=True):
        results = {task.experiment.policies[0].name: (task.key, folder.done(task.key)) for task in own}
        _, base = results[point.experiment.baseline]
        for policy, (key, result) in results.items():
            figures = {**flat(result["figures"]), **speedup_of(result, base)}
            figures["baseline"] = point.experiment.baseline
            kept = {name: value for name, value in figures.items() if name not in point.labels}
            rows.append({**point.labels, "policy": policy, **kept, "task": key})
    return rows


def speedup_of(own: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return the speedup of result *own* over *base*, with 95% intervals for sampled layers or several seeds."""
    every = [_speedup(seed, before) for seed, before in zip(own["seeds"], base["seeds"], strict=True)]
    return flat(plain(merged(every)))


def _speedup(own: dict[str, Any], base: dict[str, Any]) -> dict[str, Value]:
    """Return the speedup for one seed."""
    if own["sampled"] is None:
        return {"speedup": Value(base["decode_time_s"] / own["decode_time_s"])}
    strata = own["sampled"]["strata"]
    sample = Sample(tuple(Stratum(layers=tuple(each["layers"]), run=tuple(each["run"])) for each in strata))
    now = np.array(own["sampled"]["decode_time_s"])
    before = now if own is base else np.array(base["sampled"]["decode_time_s"])
    value, low, high = sample.speedup(before, now)
    return {"speedup": Value(value, layers=(low, high))}


def links_of(
    sweep: Sweep, tasks: Sequence[Sequence[Task]], folder: Folder
) -> Iterator[tuple[dict[str, Any], dict[str, list[Any]]]]:
    """Yield for each task its labels and policy, and columns with an entry per link.

    Tasks are read one at a time, as the Python objects of all tasks together would take too much memory.
    """
    for point, own in zip(sweep.points, tasks, strict=True):
        for task in own:
            yield {**point.labels, "policy": task.experiment.policies[0].name}, folder.done(task.key)["links"]


def provenance_of(
    sweep: Sweep, tasks: Sequence[Sequence[Task]], folder: Folder, identity: str, times: dict[str, Any]
) -> dict[str, Any]:
    """Return sweep.json: configuration, tasks and notes of every point; notes by number.

    Only ``host`` and ``times`` depend on the host.
    """
    notes: dict[str, int] = {}  # numbers
    noted: list[list[int]] = []  # numbers of each point's notes
    cpu: dict[str, Any] = {}
    for own in tasks:
        results = {task.key: folder.done(task.key) for task in own}
        cpu |= {key: result["times"] for key, result in results.items()}
        texts = dict.fromkeys(note for result in results.values() for note in result["notes"])
        noted.append(sorted(notes.setdefault(note, len(notes)) for note in texts))
    return {
        "schema": SWEEP_SCHEMA,
        "identity": identity,
        "name": sweep.name,
        "about": sweep.about,
        "axes": list(sweep.axes),
        "settings": list(sweep.settings),
        **({"only": list(sweep.only), "points_in_all": len(sweep.whole.points)} if sweep.whole is not None else {}),
        "version": __version__,
        "notes": list(notes),
        "points": [
            {
                "labels": point.labels,
                "tasks": [task.key for task in own],
                "config": point.experiment.plain(),
                "notes": numbers,
                **({"outside": outside} if (outside := _outside(own)) else {}),
            }
            for point, own, numbers in zip(sweep.points, tasks, noted, strict=True)
        ],
        "host": host(),
        "times": {**times, "tasks": cpu},
    }


def _outside(tasks: Sequence[Task]) -> dict[str, str]:
    """Return the hashes of the trace, the other files and the modules that *tasks* depend on."""
    return {name: digest for task in tasks for name, digest in task.outside.items() if name != "wss"}
