"""Picking points of a sweep by their labels, as `--only model=deepseek_v3` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wss.config.document import scalar
from wss.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from wss.config.averages import Label
    from wss.config.sweep_file import Sweep


def picked(sweep: Sweep, only: Sequence[str]) -> Sweep:
    """Return *sweep* with the points that *only* names, such as ``("model=deepseek_v3", "batch=4096,8192")``.

    Several labels of one axis are alternatives; several axes all apply. The result refers to the whole sweep, so that
    its results are not mistaken for those of the whole. Raises ConfigError for an axis or a label that the sweep does
    not have, and if no point has all of them.
    """
    wanted: dict[str, list[Label]] = {}
    for text in only:
        axis, equals, labels = text.partition("=")
        if not equals or not axis or not labels:
            raise ConfigError(f"--only {text}: names no labels; write --only axis=label, such as batch=4096,8192")
        if axis not in sweep.axes:
            raise ConfigError(
                f"--only {text}: '{axis}' is not an axis of {sweep.name}; its axes: {', '.join(sweep.axes)}"
            )
        wanted.setdefault(axis, []).extend(_labels(sweep, axis, labels, text))
    if not wanted:
        return sweep
    points = tuple(p for p in sweep.points if all(p.labels[axis] in labels for axis, labels in wanted.items()))
    if not points:
        asked = " ".join(f"--only {text}" for text in only)
        raise ConfigError(f"{asked}: no point of {sweep.name} has all of these labels; leave one of them out")
    chosen = {
        axis: [each for each in _all(sweep, axis) if each in wanted[axis]] for axis in sweep.axes if axis in wanted
    }
    said = tuple(f"{axis}={','.join(map(str, labels))}" for axis, labels in chosen.items())
    return replace(sweep, points=points, only=(*sweep.only, *said), whole=sweep.whole or sweep)


def _all(sweep: Sweep, axis: str) -> list[Label]:
    """Return the labels of *axis*, in the order of the points."""
    return list(dict.fromkeys(point.labels[axis] for point in sweep.points))


def _labels(sweep: Sweep, axis: str, text: str, option: str) -> list[Label]:
    """Return the labels of *axis* that *text* names: one, or several separated by commas."""
    known = {str(label): label for label in _all(sweep, axis)}
    if text in known:
        return [known[text]]
    found = []
    for part in map(str.strip, text.split(",")):
        same = [label for name, label in known.items() if name == part or _is_number(part, label)]
        if not same:
            raise ConfigError(f"--only {option}: '{part}' is not a label of {axis}; {did_you_mean(part, known)}")
        found.append(same[0])
    return found


def _is_number(text: str, label: Label) -> bool:
    """Whether *text* is the number or truth value *label* in another spelling, such as 1e3 and 1000, or true."""
    value = scalar(text)
    return isinstance(label, int | float) and isinstance(value, bool) is isinstance(label, bool) and value == label
