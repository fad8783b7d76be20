"""Experiments in worker processes."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields, is_dataclass
from typing import Any

from wss.config import Experiment
from wss.errors import ConfigError, OutputError
from wss.execution import Result, run_many
from wss.execution.replications import Progress
from wss.execution.runner import ROUTING
from wss.processes import process_pool


def by_routing(experiments: Sequence[Experiment]) -> list[list[int]]:
    """Return the indices of *experiments* in groups that share their routing, in order of first appearance."""
    groups: list[list[int]] = []
    for number, experiment in enumerate(experiments):
        for group in groups:
            if all(getattr(experiment, name) == getattr(experiments[group[0]], name) for name in ROUTING):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def script_classes(value: Any) -> Iterator[str]:
    """Yield the names of classes in *value* that are defined in the user's script or notebook itself."""
    if isinstance(value, tuple):
        for item in value:
            yield from script_classes(item)
    elif is_dataclass(value) and not isinstance(value, type):
        if type(value).__module__ == "__main__":
            yield type(value).__qualname__
        for field in fields(value):
            yield from script_classes(getattr(value, field.name))


def check_portable(experiments: Sequence[Experiment]) -> None:
    """Check that worker processes can import the classes of *experiments*. Raises ConfigError if not."""
    for name in dict.fromkeys(name for experiment in experiments for name in script_classes(experiment)):
        what = f"the class {name} is defined in the script itself, which worker processes do not import"
        raise ConfigError(f"workers: {what}; put it into a module, or give workers=1")


def in_processes(groups: Sequence[Sequence[Experiment]], workers: int, progress: Progress) -> list[list[Result]]:
    """Run each of *groups* in lockstep, on *workers* processes. Raises OutputError if a worker is killed."""
    check_portable([experiment for group in groups for experiment in group])
    path = list(sys.path)
    with process_pool(min(workers, len(groups))) as pool:
        try:
            futures = [pool.submit(_run_packed, pickle.dumps(list(group)), path) for group in groups]
            for done, _ in enumerate(as_completed(futures), 1):
                progress("experiments", done, len(groups), "")
            return [future.result() for future in futures]
        except BrokenProcessPool:
            what = "a worker process was killed (is there too little memory? give fewer workers)"
            raise OutputError(f"workers: {what}") from None


def _run_packed(packed: bytes, path: Sequence[str]) -> list[Result]:
    """Run pickled experiments; *path* is the module search path of the caller."""
    sys.path[:] = path
    experiments: list[Experiment] = pickle.loads(packed)
    return run_many(experiments)
