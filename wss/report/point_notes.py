"""The notes of a sweep, each with the points it is about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MOST_LABELS = 4  # of an axis, in a note
_NUMBER = re.compile(r"(?<![\w.])[0-9][0-9,]*(?:\.[0-9]+)?(?!\w)")  # not one in a name, such as 3 in deepseek_v3

Labels = Mapping[str, Any]


def point_notes(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return for each note of a sweep, by its sweep.json, the points it is about and its text.

    Notes that differ only in numbers are one, with the range of each number.

    The points are text such as ``8 of 24 points: model=kimi_k2``; empty if the note is about all points, or the sweep
    is of an earlier version, which did not keep them.
    """
    points = about["points"]
    every = [point["labels"] for point in points]
    alike: dict[str, list[int]] = {}
    for number, note in enumerate(about["notes"]):
        alike.setdefault(_NUMBER.sub("#", note), []).append(number)
    found = []
    for numbers in alike.values():
        own = [point["labels"] for point in points if set(numbers) & set(point.get("notes", ()))]
        found.append((_where(own, every), _ranged([about["notes"][number] for number in numbers])))
    return found


def _ranged(notes: Sequence[str]) -> str:
    """Return *notes* that differ only in numbers as one, with the ranges of these numbers."""
    columns = zip(*(_NUMBER.findall(note) for note in notes), strict=True)
    ranges = iter([_range(column) for column in columns])
    return _NUMBER.sub(lambda _: next(ranges), notes[0])


def _range(numbers: Sequence[str]) -> str:
    """Return the least and the greatest of *numbers* as text, or the only one."""
    ends = [end(numbers, key=lambda number: float(number.replace(",", ""))) for end in (min, max)]
    return " to ".join(dict.fromkeys(ends))


def _where(points: Sequence[Labels], every: Sequence[Labels]) -> str:
    """Return which of *every* point *points* are, as text; empty if they are all, or none."""
    if len(points) in (0, len(every)):
        return ""
    if len(points) == 1:
        return _text({axis: [label] for axis, label in points[0].items()})
    shared = {axis: _labels(points, axis) for axis in every[0]}
    shared = {axis: labels for axis, labels in shared.items() if len(labels) < len(_labels(every, axis))}
    shared = {axis: labels for axis, labels in shared.items() if len(labels) <= MOST_LABELS}
    count = f"{len(points)} of {len(every)} points"
    if not shared:
        return count
    matching = [point for point in every if all(point[axis] in labels for axis, labels in shared.items())]
    return f"{count}{': ' if len(matching) == len(points) else ', among those with '}{_text(shared)}"


def _labels(points: Sequence[Labels], axis: str) -> list[Any]:
    return list(dict.fromkeys(point[axis] for point in points))


def _text(labels: Mapping[str, Sequence[Any]]) -> str:
    """Return labels as `--only` takes them."""
    return ", ".join(f"{axis}={','.join(map(str, own))}" for axis, own in labels.items())
