"""Two runs, or two sweeps, side by side: the settings that differ, and each figure of both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from wss.errors import ConfigError, did_you_mean
from wss.metrics.figures import FIGURES, NO_NUMBERS
from wss.report.report import Results, read_results
from wss.report.settings import Change, changes, flat_settings

ALL = "all"
ENDS = ("low", "seeds_low")  # of the names of figures that only estimates have
Place = tuple[str, ...]  # the labels of a point, as text
Key = tuple[Place, str]  # and a policy
Origin = tuple[dict[str, Any], dict[str, Any]]  # settings, and versions and hashes of what else results depend on
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]+)?(e[-+]?[0-9]{1,3})?")


class Differing(NamedTuple):
    """A setting that differs, with its values in both, and at how many of the points that both have."""

    change: Change
    points: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two results, A and B, side by side.

    Attributes
    ----------
    folders
        Their folders.
    axes
        The axes of the sweeps; none for runs.
    points
        How many points both have; 1 for runs.
    settings, provenance
        What differs in the configuration, and in what else results depend on: the version of wss and of packages, the
        content of traces, of other files and of the user's modules.
    rows
        A row for each figure, point and policy that both have: ``figure``, ``unit``, ``labels`` (by axis), ``policy``,
        the values ``a`` and ``b``, their ``difference`` b - a, and their ``ratio`` b / a. A value is None if the figure
        does not exist there; the difference and the ratio are then None too, and the ratio also if a is 0.
    only
        The points, or the policies of a point, that only A and only B have.
    estimated
        Whether figures are estimates, from a sample of the layers or over seeds.
    """

    folders: tuple[str, str]
    axes: tuple[str, ...]
    points: int
    settings: tuple[Differing, ...]
    provenance: tuple[Differing, ...]
    rows: tuple[dict[str, Any], ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    estimated: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        said = {
            name: [
                {"key": each.change.key, "a": each.change.was, "b": each.change.now, "points": each.points}
                for each in own
            ]
            for name, own in (("settings", self.settings), ("provenance", self.provenance))
        }
        folders, only = ({"a": pair[0], "b": pair[1]} for pair in (self.folders, self.only))
        return {
            "schema": "wss-comparison/1", **folders, "axes": self.axes, "points": self.points, **said,
            "only": only, "rows": self.rows,
        }  # fmt: skip


def compare(a: str | Path, b: str | Path, figures: Sequence[str] = ()) -> Comparison:
    """Compare the result folders *a* and *b*: two runs, by policy; or two sweeps, by point and policy.

    Parameters
    ----------
    a, b
        The folders.
    figures
        Names of figures as in summary.json; by default those in the tables of a run or a sweep, and with ``("all",)``
        every number.

    Raises
    ------
    ConfigError
        If one is a run and the other a sweep, the sweeps have other axes, they have nothing in common, a figure does
        not exist, or a folder holds no result.
    """
    one, two = read_results(Path(a)), read_results(Path(b))
    _check_alike(str(a), one, str(b), two)
    axes = one.axes
    rows = [{(_place(row, axes), str(row["policy"])): row for row in own.rows} for own in (one, two)]
    shared = [key for key in rows[0] if key in rows[1]]
    if not shared:
        what = "point and no policy" if axes else "policy"
        raise ConfigError(f"{a}: has no {what} that {b} has too; compare results that share some")
    points = list(dict.fromkeys(labels for labels, _ in shared))
    origins = [_by_point(folder, own, axes, points) for folder, own in ((a, one), (b, two))]
    return Comparison(
        folders=(str(a), str(b)),
        axes=axes,
        points=len(points),
        settings=_differing(*([settings for settings, _ in own] for own in origins)),
        provenance=_differing(*([outside for _, outside in own] for own in origins)),
        rows=_rows(rows[0], rows[1], shared, axes, _names(figures, [*one.rows, *two.rows], bool(axes))),
        only=(_missing(axes, rows[0], rows[1]), _missing(axes, rows[1], rows[0])),
        estimated=any(
            row.get(f"decode_time_s_{end}") is not None for row in (one.rows[0], two.rows[0]) for end in ENDS
        ),
    )


def _check_alike(a: str, one: Results, b: str, two: Results) -> None:
    if bool(one.axes) != bool(two.axes):
        run, sweep = (b, a) if one.axes else (a, b)
        right = "compare two runs, or two sweeps (`wss sweep --only` makes a sweep of one point)"
        raise ConfigError(f"{run}: is a run, and {sweep} is a sweep; {right}")
    if set(one.axes) != set(two.axes):
        axes = f"has the axes {', '.join(one.axes)}, and {b} has {', '.join(two.axes)}"
        raise ConfigError(f"{a}: {axes}; compare sweeps with the same axes")


def _names(figures: Sequence[str], rows: Sequence[Mapping[str, Any]], is_sweep: bool) -> list[str]:
    """Return the names of the figures to compare, of those that *rows* have."""
    there = {name for row in rows for name in row}
    known = [each for each in FIGURES if each.unit not in NO_NUMBERS and each.scope != "run" and each.name in there]
    names = [each.name for each in known]
    if not figures:
        return [each.name for each in known if (each.sweep if is_sweep else each.run)]
    if tuple(figures) == (ALL,):
        return names
    for name in figures:
        if name not in names:
            raise ConfigError(f"--figures {name}: is not a figure of these results; {did_you_mean(name, names)}")
    return list(dict.fromkeys(figures))


def _by_point(folder: str | Path, results: Results, axes: Sequence[str], points: Sequence[Place]) -> list[Origin]:
    """Return for each of *points* its settings, and what else its results depend on, both with flat keys."""
    origin = results.origin
    try:
        common = {"wss": origin["version"], "python": origin["host"]["python"], **origin["host"]["packages"]}
        if not axes:
            own = {"trace": origin["trace"]["sha256"], **origin.get("outside", {})}
            return [(_settings(origin["config"]), common | _outside(own))]
        found = {
            _place(point["labels"], axes): (_settings(point["config"]), common | _outside(point.get("outside", {})))
            for point in origin["points"]
        }
        return [found[point] for point in points]
    except (LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder}: its provenance is damaged ({error!r:.100}); run it again") from None


def _place(labels: Mapping[str, Any], axes: Sequence[str]) -> Place:
    """Return the labels of a point as text, the same for 1, 1.0 and "1": a column has one type, sweep.json several."""
    texts = [str(labels[axis]) for axis in axes]
    return tuple(f"{float(text):.15g}" if _NUMBER.fullmatch(text) else text for text in texts)


def _settings(config: Any) -> dict[str, Any]:
    """Return the settings of a configuration, without the descriptions of policies."""
    return {key: value for key, value in flat_settings(config).items() if not key.endswith(".about")}


def _outside(hashes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name} (content)": each for name, each in hashes.items()}


def _differing(one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]) -> tuple[Differing, ...]:
    """Return what differs between *one* and *two*, a mapping of flat keys for each point."""
    counts: dict[str, tuple[Change, int]] = {}
    for was, now in zip(one, two, strict=True):
        for change in changes(was, now):
            counts[repr(change)] = (change, counts.get(repr(change), (change, 0))[1] + 1)
    return tuple(Differing(change, count) for change, count in counts.values())


def _rows(
    one: Mapping[Key, Mapping[str, Any]],
    two: Mapping[Key, Mapping[str, Any]],
    shared: Sequence[Key],
    axes: Sequence[str],
    names: Sequence[str],
) -> tuple[dict[str, Any], ...]:
    """Return the rows of a comparison."""
    units = {figure.name: figure.unit for figure in FIGURES}
    found = []
    for name in names:
        for key in shared:
            a, b = one[key].get(name), two[key].get(name)
            difference = None if a is None or b is None else b - a
            found.append(
                {
                    "figure": name,
                    "unit": units[name],
                    "labels": {axis: one[key][axis] for axis in axes},
                    "policy": key[1],
                    "a": a,
                    "b": b,
                    "difference": difference,
                    "ratio": b / a if difference is not None and a else None,
                }
            )
    return tuple(found)


def _missing(axes: Sequence[str], one: Mapping[Key, Any], two: Mapping[Key, Any]) -> tuple[str, ...]:
    """Return the points that only *one* has, and the policies of other points that only it has, as text."""
    points = {labels for labels, _ in two}
    found = []
    for labels, policy in one:
        where = [f"{axis}={label}" for axis, label in zip(axes, labels, strict=True)]
        if labels not in points:
            found.append(", ".join(where))
        elif (labels, policy) not in two:
            found.append(", ".join([*where, f"policy {policy}"]))
    return tuple(dict.fromkeys(found))
