"""Tasks of a sweep: one policy at one point, identified by a hash of everything that its result depends on.

That is the point's configuration, the policy, the bytes of a recorded trace or layout, the source of wss, and the
source of the user's own classes. The baseline is not included, as speedups are computed when results are collected.
A finished task therefore serves every sweep that contains it, and any change runs the task again.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import wss
from wss.config import Experiment, TraceFile
from wss.config.dependencies import KEY_LENGTH, digest_of, is_typed_in, outside_of
from wss.config.experiment import LayerSample
from wss.config.sweep_file import Sweep
from wss.errors import ConfigError
from wss.execution.provenance import versions
from wss.execution.runner import ROUTING
from wss.files import json_text


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """One policy at one point.

    Attributes
    ----------
    key
        Hash of everything that the result depends on.
    routing
        Hash of the routing; tasks with the same one run together.
    outside
        Hashes of all dependencies outside the configuration, by name; workers compare them with their own.
    experiment
        The experiment, with this policy only.
    """

    key: str
    routing: str
    outside: dict[str, str]
    experiment: Experiment

    @property
    def steps(self) -> int:
        """Approximate number of steps, including the prefill."""
        return 1 + (self.experiment.steps if self.experiment.steps != "all" else 128)

    @property
    def layer_runs(self) -> int:
        """Approximate number of layer runs, for progress."""
        sample = self.experiment.layers
        layers = sample.sample if isinstance(sample, LayerSample) else len(self.experiment.layers_run)
        return self.steps * layers * self.experiment.replications


def tasks_of(sweep: Sweep) -> list[list[Task]]:
    """Return the tasks of every point, in the order of its policies; equal tasks of several points share a key."""
    paths = {point.experiment.trace.path for point in sweep.points if isinstance(point.experiment.trace, TraceFile)}
    digests = {path: digest_of(path) for path in paths}
    return [_tasks(_at_home(point.experiment), digests) for point in sweep.points]


def _at_home(experiment: Experiment) -> Experiment:
    """Return *experiment* with the trace's absolute path, as a worker may run in another folder."""
    trace = experiment.trace
    if isinstance(trace, TraceFile):
        return replace(experiment, trace=replace(trace, path=str(Path(trace.path).absolute())))
    return experiment


def _tasks(experiment: Experiment, digests: dict[str, str]) -> list[Task]:
    """Return the tasks of one point; their keys depend on the trace's content, not on its path."""
    trace = experiment.trace
    common: dict[str, str] = {"wss": software()}
    if isinstance(trace, TraceFile):
        common["trace"] = digests.get(trace.path) or digest_of(trace.path)
    plain = identity(experiment)
    policies = {policy["name"]: policy for policy in plain["policies"]}
    routing = hash_of([{key: plain.get(key) for key in ROUTING}, common])
    tasks = []
    for policy in experiment.policies:
        own = replace(experiment, policies=(policy,), baseline=policy.name)
        outside = common | dict(sorted(outside_of(own)))
        if is_typed_in(own):  # its class may change without a trace, so that no result of it is kept
            outside["typed in"] = uuid4().hex
        what = [plain | {"policies": [policies[policy.name]], "baseline": None}, outside]
        tasks.append(Task(key=hash_of(what), routing=routing, outside=outside, experiment=own))
    return tasks


def identity(experiment: Experiment) -> dict[str, Any]:
    """Return *experiment* as plain data, without the path of its trace and the descriptions of its policies."""
    plain = experiment.plain()
    policies = [{key: value for key, value in policy.items() if key != "about"} for policy in plain["policies"]]
    trace = {key: value for key, value in plain["trace"].items() if key != "path"}
    return plain | {"policies": policies, "trace": trace}


def check_outside(task: Task) -> None:
    """Check, on a worker, that software, trace and modules are those for which *task* was made.

    Raises ConfigError if not, as the result would belong to another task.
    """
    here = {"wss": software(), **dict(outside_of(task.experiment))}
    if isinstance(task.experiment.trace, TraceFile):
        here["trace"] = digest_of(task.experiment.trace.path)
    for name, digest in task.outside.items():
        if here.get(name) != digest:
            what = f"worker {platform.node()}: its {name} is not the one of this sweep"
            raise ConfigError(f"{what}; give workers the same, and start them anew")


def hash_of(value: Any) -> str:
    """Return a hash of plain data."""
    text = json_text(value, indent=None)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@cache
def software() -> str:
    """Return a hash of the source of wss and the versions of Python and packages, as results may depend on them."""
    digest = hashlib.sha256(json_text([platform.python_version(), *versions().values()], indent=None).encode())
    package = Path(wss.__file__).parent
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:KEY_LENGTH]


def chunks_of(tasks: Sequence[Task], workers: int) -> list[list[Task]]:
    """Group tasks that share their routing, longest chunk first; split groups so that all workers have work.

    The result of a task does not depend on the other tasks of its chunk.
    """
    groups: dict[str, list[Task]] = {}
    for task in {task.key: task for task in tasks}.values():
        groups.setdefault(task.routing, []).append(task)
    parts = -(-workers // max(1, len(groups)))
    chunks = [group[i::parts] for group in groups.values() for i in range(min(parts, len(group)))]
    return sorted(chunks, key=lambda chunk: -sum(task.layer_runs * task.experiment.batch for task in chunk))
