"""What a sweep consists of: one policy on one point is a task, known by a hash of all that its result depends on.

That is the point's configuration, the policy, the bytes of a recorded trace or layout, the source of wss, and the
source of the user's own classes. The baseline is not among it: speedups are worked out when results are collected.
So a task that has been done serves every sweep that has it, and whatever is changed is run anew.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import wss
from wss.config import Experiment, TraceFile
from wss.config.experiment import LayerSample
from wss.config.grid import Sweep
from wss.errors import TraceError
from wss.policies.placements.layouts import LayoutFile

KEY_LENGTH = 24


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """One policy on one point: *experiment* has that policy alone. *routing* names the trace work that it needs,
    *recorded* is a hash of the trace's file."""

    key: str
    routing: str
    recorded: str | None
    experiment: Experiment

    @property
    def kernels(self) -> int:
        """About how many kernels it runs, to reckon progress by."""
        experiment = self.experiment
        steps = experiment.steps if experiment.steps != "all" else 128
        sample = experiment.layers
        layers = sample.sample if isinstance(sample, LayerSample) else len(experiment.layers_run)
        return (steps + 1) * layers


def tasks_of(sweep: Sweep) -> list[list[Task]]:
    """Return the tasks of every point, in the order of its policies; equal ones of several points are equal."""
    source = _source_of(Path(wss.__file__).parent)
    paths = {point.experiment.trace.path for point in sweep.points if isinstance(point.experiment.trace, TraceFile)}
    digests = {path: _digest(path) for path in paths}
    return [
        [_task(point.experiment, at, source, digests) for at in range(len(point.experiment.policies))]
        for point in sweep.points
    ]


def _task(experiment: Experiment, at: int, source: str, digests: dict[str, str]) -> Task:
    policy = experiment.policies[at]
    own = replace(experiment, policies=(policy,), baseline=policy.name)
    plain = own.plain() | {"baseline": None}
    trace = experiment.trace
    recorded = digests[trace.path] if isinstance(trace, TraceFile) else None
    shared = ("model", "trace", "batch", "steps", "layers", "seed", "physics")
    routing = hash_of({key: plain[key] for key in shared} | {"recorded": recorded, "source": source})
    return Task(
        key=hash_of([plain, routing, sorted(_outside(own))]), routing=routing, recorded=recorded, experiment=own
    )


def hash_of(value: Any) -> str:
    """Return a hash of plain data."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@cache
def _source_of(package: Path) -> str:
    """Return a hash of the Python files under *package*: other code may give other results."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:KEY_LENGTH]


def _digest(path: str) -> str:
    """Return a hash of the file *path*."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give the path of a file that is there") from None


def _outside(value: Any) -> Iterable[str]:
    """Return what *value* depends on outside of it: files of layouts, and modules of classes other than wss' own."""
    if isinstance(value, tuple):
        return [text for item in value for text in _outside(item)]
    if not is_dataclass(value):
        return []
    found = [text for field in fields(value) for text in _outside(getattr(value, field.name))]
    if isinstance(value, LayoutFile):
        found.append(_digest(value.path))
    if not type(value).__module__.startswith("wss."):
        found.append(_text_of(type(value)))
    return found


def _text_of(cls: type) -> str:
    try:
        return Path(inspect.getfile(cls)).read_text(encoding="utf-8")
    except (OSError, TypeError, UnicodeDecodeError):
        return repr(cls)  # typed in by hand; nothing better is to be had


def chunks_of(tasks: Sequence[Task], workers: int) -> list[list[Task]]:
    """Group tasks by the trace work that they share, the longest group first; cut groups so that all workers have some.

    What a task gives does not depend on the others of its chunk.
    """
    groups: dict[str, list[Task]] = {}
    for task in {task.key: task for task in tasks}.values():
        groups.setdefault(task.routing, []).append(task)
    parts = -(-workers // max(1, len(groups)))
    chunks = [group[i::parts] for group in groups.values() for i in range(min(parts, len(group)))]
    return sorted(chunks, key=lambda chunk: -sum(task.kernels * task.experiment.batch for task in chunk))
