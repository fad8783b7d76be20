"""Do the figures of a sweep still hold? What was expected of it, and what has moved since.

An expected file holds, for every point and policy, the figures that were found when it was written, by how much they
may move, and what they were found with. A figure that moves further, to the better or the worse, has to be looked at.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wss import __version__
from wss.config.grid import Sweep
from wss.errors import ConfigError
from wss.sweep.collect import PACKAGES
from wss.sweep.tasks import Task, hash_of

SCHEMA = "wss-expected/1"
LESS_IS_BETTER = ("_s", "hops", "_bytes", "bound_ratio", "imbalance")


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A figure that is not what was expected; *share* is by how much of it, infinite where it was zero."""

    labels: dict[str, Any]
    policy: str
    figure: str
    expected: float
    found: float
    share: float

    @property
    def verdict(self) -> str:
        """Whether that is better, worse, or neither."""
        if self.figure in ("speedup", "throughput_tokens_per_s"):
            return "better" if self.found > self.expected else "worse"
        if self.figure.endswith(LESS_IS_BETTER):
            return "better" if self.found < self.expected else "worse"
        return "moved"


def expected_path(experiment: Path, name: str) -> Path:
    """Return where the expected figures of the sweep *name* in the file *experiment* are kept.

    That is ``expected/NAME.json`` beside the file, or beside its folder if there is a folder ``expected`` there.
    """
    above = experiment.resolve().parent.parent / "expected"
    folder = above if above.is_dir() else experiment.parent / "expected"
    return Path(os.path.relpath(folder / f"{name}.json"))


def identity_of(sweep: Sweep, tasks: Sequence[Sequence[Task]]) -> str:
    """Return a hash of what the sweep is: points, labels and traces, and not the code that runs them."""
    return hash_of(
        [
            [point.labels, point.experiment.plain(), [task.recorded for task in own]]
            for point, own in zip(sweep.points, tasks, strict=True)
        ]
    )


def expected_of(sweep: Sweep, identity: str, rows: Sequence[dict[str, Any]], file: Path) -> dict[str, Any]:
    """Return what is to be expected of *sweep*, the YAML *file*, from now on."""
    _known(sweep, rows[0])
    return {
        "schema": SCHEMA,
        "experiment": sweep.name,
        "identity": identity,
        "tolerance": sweep.check.tolerance,
        "renew": f"python -m wss check {file} --update",
        "wss": __version__,
        "commit": _commit(file.resolve().parent),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "values": [
            {
                "labels": {axis: row[axis] for axis in sweep.axes},
                "policy": row["policy"],
                **{figure: row[figure] for figure in sweep.check.figures},
            }
            for row in rows
        ],
    }


def _known(sweep: Sweep, row: dict[str, Any]) -> None:
    for figure in sweep.check.figures:
        if not isinstance(row.get(figure), int | float) or figure in sweep.axes:
            numbers = [k for k, v in row.items() if isinstance(v, int | float) and k not in sweep.axes]
            raise ConfigError(f"check.figures: '{figure}' is no figure of this sweep; known: {', '.join(numbers)}")


def read_expected(path: Path) -> dict[str, Any]:
    """Read an expected file.

    Raises
    ------
    ConfigError
        If it is not there, or is none.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != SCHEMA or not isinstance(content["values"], list):
            raise ValueError("another schema")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is none yet; `wss check` with --update writes it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is no file of expected figures ({error}); renew it with --update") from None
    return dict(content)


def compare(expected: dict[str, Any], identity: str, sweep: Sweep, rows: Sequence[dict[str, Any]]) -> list[Moved]:
    """Return what has moved by more than the tolerance, furthest first.

    Raises
    ------
    ConfigError
        If the experiment is another one than when the figures were written.
    """
    if expected.get("identity") != identity:
        raise ConfigError(
            f"{sweep.name}: the experiment has changed since its figures were written "
            f"(commit {expected.get('commit')}); "
            "if that is meant, look at the new figures and renew them with --update"
        )
    moved = []
    for row, before in zip(rows, expected["values"], strict=True):
        for figure in sweep.check.figures:
            was, found = float(before[figure]), float(row[figure])
            share = abs(found - was) / abs(was) if was else (math.inf if found else 0.0)
            if share > float(expected["tolerance"]):
                moved.append(
                    Moved(
                        labels=before["labels"],
                        policy=row["policy"],
                        figure=figure,
                        expected=was,
                        found=found,
                        share=share,
                    )
                )
    return sorted(moved, key=lambda m: -m.share)


def _commit(folder: Path) -> str | None:
    """Return the commit that *folder* is at, None outside of git."""
    if shutil.which("git") is None:
        return None
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
