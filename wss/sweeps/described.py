"""The settings behind expected figures, kept beside them, to say which of them has changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wss.config.sweep_file import Sweep
from wss.report.settings import Change, changes, flat_settings, setting_text
from wss.sweeps.tasks import Task, hash_of, identity

MOST_NAMED = 3  # changes in a message


def settings_of(sweep: Sweep, tasks: Sequence[Sequence[Task]]) -> dict[str, Any]:
    """Return the settings of *sweep*: those that all points have in common, and for each point its labels and others.

    Keys are flat, such as ``wafer.link.bandwidth``. ``trace.content`` is a hash of a recorded trace.
    """
    every = [_settings(sweep, point.experiment, own) for point, own in zip(sweep.points, tasks, strict=True)]
    first = every[0]
    common = [key for key in first if all(key in own and own[key] == first[key] for own in every)]
    return {
        "common": {key: first[key] for key in common},
        "points": [
            {"labels": point.labels, "settings": {key: value for key, value in own.items() if key not in common}}
            for point, own in zip(sweep.points, every, strict=True)
        ],
    }


def _settings(sweep: Sweep, experiment: Any, tasks: Sequence[Task]) -> dict[str, Any]:
    check = {"check.figures": list(sweep.check.figures), "check.tolerance": sweep.check.tolerance}
    content = {"trace.content": tasks[0].outside["trace"]} if "trace" in tasks[0].outside else {}
    every = {**flat_settings(identity(experiment)), **content, **check}
    return {key: setting_text(value) if isinstance(value, list) else value for key, value in every.items()}


def are_settings(value: Any) -> bool:
    """Whether *value*, from a file, has the form that `settings_of` returns."""
    return (
        isinstance(value, dict)
        and value.keys() == {"common", "points"}
        and isinstance(value["common"], dict)
        and isinstance(value["points"], list)
        and all(
            isinstance(point, dict)
            and point.keys() == {"labels", "settings"}
            and all(isinstance(part, dict) for part in point.values())
            for point in value["points"]
        )
    )


def what_changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what differs between two results of `settings_of`, as text: settings with both values, and points."""
    before, after = _by_point(was), _by_point(now)
    shared = [key for key in after if key in before]
    found: dict[str, tuple[Change, int]] = {}
    for key in shared:
        for change in changes(before[key][1], after[key][1]):
            name = repr(change)
            found[name] = (change, found[name][1] + 1 if name in found else 1)
    lines = [_line(change, count, len(shared)) for change, count in found.values()]
    lines += _points("is gone", [before[key][0] for key in before if key not in after])
    lines += _points("is new", [after[key][0] for key in after if key not in before])
    if not lines:
        return "no setting differs, and this version of wss describes the experiment in another way"
    more = f" and {len(lines) - MOST_NAMED} more" if len(lines) > MOST_NAMED else ""
    return "; ".join(lines[:MOST_NAMED]) + more


def _by_point(settings: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return for each point, by a hash of its labels, the labels and all settings."""
    common = settings["common"]
    return {hash_of(each["labels"]): (each["labels"], common | each["settings"]) for each in settings["points"]}


def _line(change: Change, count: int, total: int) -> str:
    was, now = change.texts()
    return f"{change.key} was {was}, is {now}" + (f" (at {count} of {total} points)" if count < total else "")


def _points(what: str, labels: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line on the points with *labels*, which only one of two sweeps has."""
    if not labels:
        return []
    first = ", ".join(f"{axis}={label}" for axis, label in labels[0].items())
    return [f"the point {first} {what}" + (f" (and {len(labels) - 1} others)" if len(labels) > 1 else "")]
