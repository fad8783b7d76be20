"""Regression check of a sweep: compare its figures with those of an expected file.

An expected file holds the figures of every point and policy when it was written, their tolerance, and the versions of
wss, Python and packages. A figure that moves by more than the tolerance, better or worse, needs to be looked at.
"""

from __future__ import annotations

import math
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wss
from wss.config.sweep_file import Sweep
from wss.errors import ConfigError, did_you_mean
from wss.execution.provenance import PACKAGES, versions
from wss.files import parse_json
from wss.metrics.figures import by_name
from wss.reading import read_plain
from wss.sweeps.described import are_settings, settings_of, what_changed
from wss.sweeps.tasks import Task, hash_of, identity, tasks_of

SCHEMA = "wss-expected/1"
RENEW = "python -m wss check "
LARGEST = 1e300  # largest figure, so that differences are finite


@dataclass(frozen=True)
class Moved:
    """A figure that differs from the expected one; *share* is the relative difference, infinite if 0 was expected."""

    labels: dict[str, Any]
    policy: str
    figure: str
    expected: float
    found: float
    share: float

    @property
    def verdict(self) -> str:
        """``better`` or ``worse``; ``moved`` if neither."""
        figure = by_name().get(self.figure)
        if figure is None or not figure.better:
            return "moved"
        return "better" if (self.found > self.expected) == (figure.better > 0) else "worse"


def expected_path(experiment: Path, name: str) -> Path:
    """Return the path of the expected figures of sweep *name* in the file *experiment*: ``expected/NAME.json``.

    The folder ``expected`` is beside the file or beside the file's folder. The first that holds NAME.json is used, then
    the first that exists, then the one beside the file.
    """
    beside, above = (folder / "expected" for folder in (experiment.parent, experiment.resolve().parent.parent))
    holding = [folder for folder in (beside, above) if (folder / f"{name}.json").is_file()]
    there = [folder for folder in (beside, above) if folder.is_dir()]
    return Path(os.path.relpath([*holding, *there, beside][0] / f"{name}.json"))


def identity_of(sweep: Sweep, tasks: Sequence[Sequence[Task]]) -> str:
    """Return a hash of the sweep: points, labels, traces, figures and tolerance; the code that runs it is excluded."""
    points = [
        [point.labels, identity(point.experiment), [task.outside.get("trace") for task in own]]
        for point, own in zip(sweep.points, tasks, strict=True)
    ]
    return hash_of([points, list(sweep.check.figures), sweep.check.tolerance])


def expected_of(sweep: Sweep, identity: str, rows: Sequence[dict[str, Any]], file: Path) -> dict[str, Any]:
    """Return the content of an expected file with the current *rows* of *sweep*, the YAML *file*."""
    _known(sweep, rows)
    return {
        "schema": SCHEMA,
        "experiment": sweep.name,
        "identity": identity,
        "tolerance": sweep.check.tolerance,
        "renew": renewing(sweep, file),
        "wss": wss.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": versions(),
        "settings": _settings(sweep),
        "values": [
            {
                "labels": {axis: row[axis] for axis in sweep.axes},
                "policy": row["policy"],
                **{figure: row[figure] for figure in sweep.check.figures},
            }
            for row in rows
        ],
    }


def _settings(sweep: Sweep) -> dict[str, Any]:
    return settings_of(sweep, tasks_of(sweep))


def renewing(sweep: Sweep, file: Path) -> str:
    """Return the command that renews the expected figures of *sweep*, the YAML *file*, with the options of both."""
    options = [*(["--allow-code"] if sweep.allow_code else []), *(f"--set={setting}" for setting in sweep.settings)]
    return RENEW + shlex.join([str(file), *options, "--update"])


def _known(sweep: Sweep, rows: Sequence[dict[str, Any]]) -> None:
    """Check that every figure to be compared is a number in every row."""
    for figure in sweep.check.figures:
        if not all(_is_number(row.get(figure)) for row in rows) or figure in sweep.axes:
            numbers = [k for k in rows[0] if all(_is_number(row.get(k)) for row in rows) and k not in sweep.axes]
            raise ConfigError(f"check.figures: '{figure}' is not a figure of every point; known: {', '.join(numbers)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def read_expected(path: Path) -> dict[str, Any]:
    """Read an expected file. Raises ConfigError if it does not exist or is invalid."""
    try:
        content = parse_json(read_plain(path))
        fault = _fault(content)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is none yet; `wss check` with --update writes it") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: is not a file of expected figures ({reason}); renew it with --update") from None
    if fault:
        raise ConfigError(f"{path}: is not a file of expected figures ({fault}); renew it with --update")
    return dict(content)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _are_versions(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == set(PACKAGES) and all(map(_is_text, value.values()))


# The keys of an expected file and their checks; tolerance and values are checked in _fault.
KEYS: dict[str, Callable[[Any], bool]] = {
    "schema": _is_text,
    "experiment": _is_text,
    "identity": _is_text,
    "tolerance": lambda value: True,
    "renew": lambda value: _is_text(value) and value.startswith(RENEW),
    "wss": _is_text,
    "commit": lambda value: value is None or _is_text(value),
    "python": _is_text,
    "packages": _are_versions,
    "values": lambda value: True,
    "settings": are_settings,
}
MAY_LACK = {"settings"}  # files of earlier versions do


def _fault(content: Any) -> str | None:
    """Return the first error in the *content* of an expected file; None if it is valid."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return f"its schema is not {SCHEMA}"
    lacks, strange = (
        [key for key in KEYS if key not in {*content, *MAY_LACK}],
        [key for key in content if key not in KEYS],
    )
    if lacks:
        return f"it lacks {', '.join(lacks)}"
    if strange:
        return f"it has '{strange[0]}', which is not known; {did_you_mean(strange[0], KEYS)}"
    if damaged := [key for key, is_sound in KEYS.items() if key in content and not is_sound(content[key])]:
        return f"its {damaged[0]} is {str(content[damaged[0]])[:60]!r}, which --update does not write"
    tolerance, values = content["tolerance"], content["values"]
    if not _is_number(tolerance) or not 0 <= tolerance < 1:
        return f"its tolerance is {tolerance!r}; it should be a share, from 0 to below 1"
    if not isinstance(values, list) or not values:
        return "its values are no list of rows"
    for number, row in enumerate(values):
        if not isinstance(row, dict) or not isinstance(row.get("labels"), dict):
            return f"values.{number} has no labels"
        if not isinstance(row.get("policy"), str):
            return f"values.{number} has no policy"
        odd = [key for key, value in row.items() if key not in ("labels", "policy") and not _is_number(value)]
        if odd:
            return f"values.{number}.{odd[0]} is {row[odd[0]]!r}; it should be a number"
    return None


def check_same(expected: dict[str, Any], identity: str, sweep: Sweep) -> None:
    """Check that the expected figures are of this sweep.

    Raises ConfigError if they are of another sweep, or of an earlier state of it.
    """
    if expected["experiment"] != sweep.name:
        raise ConfigError(f"{sweep.name}: the expected figures are of '{expected['experiment']}'; give its own file")
    _check_figures(expected, sweep)
    if expected["identity"] != identity:
        found = "" if "settings" not in expected else ": " + what_changed(expected["settings"], _settings(sweep))
        raise ConfigError(
            f"{sweep.name}: the experiment has changed since its expected figures were written "
            f"(commit {expected['commit']}){found}; if that is meant, look at the new figures and renew them with "
            "--update"
        )
    if expected["tolerance"] != sweep.check.tolerance:
        raise ConfigError(
            f"{sweep.name}: its expected figures may move by {expected['tolerance']:g}, and the sweep says "
            f"{sweep.check.tolerance:g}; renew them with --update"
        )
    _check_rows(expected, sweep)


def _check_figures(expected: dict[str, Any], sweep: Sweep) -> None:
    """Check that every row has exactly the figures that are compared."""
    figures, rows = set(sweep.check.figures), expected["values"]
    for figure in sweep.check.figures:
        lacking = [row for row in rows if figure not in row]
        if len(lacking) == len(rows):
            known = ", ".join(key for key in rows[0] if key not in ("labels", "policy"))
            raise ConfigError(
                f"{sweep.name}: check.figures has '{figure}', and the expected figures are {known}; correct its name, "
                "or renew them with --update"
            )
        if lacking:
            where = _row(lacking[0]["labels"], lacking[0]["policy"])
            raise ConfigError(f"{sweep.name}: its expected figures lack {figure} of {where}; renew them with --update")
    odd = [key for row in rows for key in row if key not in (*figures, "labels", "policy")]
    if odd:
        raise ConfigError(f"{sweep.name}: its expected figures have '{odd[0]}', which is not compared; renew them")


def _check_rows(expected: dict[str, Any], sweep: Sweep) -> None:
    """Check that there is exactly one row for every point and policy of *sweep*, and no other row."""
    own = {
        hash_of([point.labels, policy.name]): _row(point.labels, policy.name)
        for point in sweep.points
        for policy in point.experiment.policies
    }
    written = [(hash_of([row["labels"], row["policy"]]), row) for row in expected["values"]]
    there = {key for key, _ in written}
    missing = [where for key, where in own.items() if key not in there]
    keys = [key for key, _ in written]
    surplus = [row for at, (key, row) in enumerate(written) if key not in own or keys.index(key) < at]
    if missing or surplus:
        first = f"; the first it lacks is {missing[0]}" if missing else ""
        first += f"; the first too many is {_row(surplus[0]['labels'], surplus[0]['policy'])}" if surplus else ""
        raise ConfigError(
            f"{sweep.name}: its expected figures lack {len(missing)} rows of the sweep and have {len(surplus)} of no "
            f"point of it or twice{first}; renew them with --update"
        )


def _row(labels: Mapping[str, Any], policy: str) -> str:
    """Return the name of a row in messages: its point and its policy."""
    return ", ".join([*(f"{axis} {label}" for axis, label in labels.items()), f"policy {policy}"])


def compare(expected: dict[str, Any], sweep: Sweep, rows: Sequence[dict[str, Any]]) -> list[Moved]:
    """Return the figures that moved by more than the tolerance, largest share first.

    Raises ConfigError if a figure is missing or not a number.
    """
    _known(sweep, rows)
    moved = []
    written = {hash_of([row["labels"], row["policy"]]): row for row in expected["values"]}
    for row in rows:
        labels = {axis: row[axis] for axis in sweep.axes}
        before = written.get(hash_of([labels, row["policy"]]))
        for figure in sweep.check.figures:
            if before is None or figure not in before:
                where = _row(labels, row["policy"])
                raise ConfigError(
                    f"{sweep.name}: its expected figures lack {figure} of {where}; renew them with --update"
                )
            was, found = float(before[figure]), float(row[figure])
            share = abs(found - was) / abs(was) if was else (math.inf if found else 0.0)
            if share > float(expected["tolerance"]):
                moved.append(Moved(before["labels"], row["policy"], figure, was, found, share))
    return sorted(moved, key=lambda m: -m.share)


def _commit() -> str | None:
    """Return the commit of wss; None if it runs from an installation rather than a clone.

    Git executes programs named in a repository's configuration. So it is run only in the repository whose code is
    running: not in that of the sweep's file, nor in one around an environment in which wss is installed.
    """
    root = Path(wss.__file__).resolve().parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    words = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false"]
    words += ["describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(words, cwd=root, env=own, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
