"""A sweep: one configuration and its changes; from a YAML file to a list of points, each an Experiment.

    name: fig12                      # by default the file's name
    about: one line on what it shows
    config: {...}                    # shared by all points: a configuration, or the path of one
    grid:                            # every combination of one choice from each axis
      batch: [4096, 16384]           # a setting and its values
      model:                         # or any name, and by label what to set for each choice
        deepseek_v3: {model: deepseek_v3, trace.synth: deepseek_v3}
        kimi_k2: {model: kimi_k2, trace.synth: kimi_k2, precision: fp8}
    vary:                            # one change at a time, all else as in config; axes as above
      window: [1, 4]
    averages: {by: [model], figure: speedup}       # means over points, printed below the table
    check: {tolerance: 0.01, figures: [speedup]}   # for `wss check`

With both, every combination of the grid is varied.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wss.config.averages import AveragesSpec, Label, check_averages
from wss.config.build import build
from wss.config.code import folders_beside
from wss.config.document import Document, Place
from wss.config.experiment import Experiment
from wss.config.load import experiment_of, mapping_document, read_mapping
from wss.config.overrides import Setting, apply_setting, as_setting, put
from wss.config.python_values import is_object
from wss.config.shipped import find
from wss.config.sweep_check import CheckSpec, check_figures
from wss.config.sweep_points import picked
from wss.errors import ConfigError, did_you_mean
from wss.escaping import PLAIN_NAME, is_plain_name

KEYS = ("name", "about", "config", "grid", "vary", "averages", "check")
MOST_POINTS = 10_000
LINE = re.compile(r":\d+:\d+:")  # line and column of an error
VARIED, TO = "varied", "to"  # columns for the varied axis, and its label
CENTRE = "-"  # in both, if nothing is varied
TAKEN = {VARIED, TO, "policy", "task", "baseline", "speedup", "hops", "kernels", "link", "utilization"}
TAKEN |= {"estimated_utilization", "seeds_run"}
TAKEN |= {f"{end}_{axis}" for end in ("source", "target") for axis in ("x", "y", "die")}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One experiment of a sweep, and its label on each axis."""

    labels: dict[str, Label]
    experiment: Experiment


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All points of a sweep, or those that *only* picked of the *whole*, in the order of its axes.

    *settings*, *only* and *allow_code* were given on the command line.
    """

    name: str
    about: str
    axes: tuple[str, ...]
    points: tuple[Point, ...]
    check: CheckSpec
    averages: AveragesSpec | None = None
    settings: tuple[str, ...] = ()
    allow_code: bool = False
    only: tuple[str, ...] = ()
    whole: Sweep | None = None

    @property
    def scope(self) -> str:
        """How many points there are, as text; of picked points also of how many, and their labels."""
        if self.whole is None:
            return f"{len(self.points)} points"
        return f"{len(self.points)} of {len(self.whole.points)} points (only {', '.join(self.only)})"


@dataclass(frozen=True)
class _Choice:
    """One choice on an axis: its label, and its settings with their source locations."""

    axis: str
    label: Label
    puts: tuple[tuple[str, Any, Place], ...]


def load_sweep(
    source: str | Path | Mapping[str, Any],
    settings: Sequence[str | Setting] = (),
    *,
    allow_code: bool = False,
    only: Sequence[str] = (),
) -> Sweep:
    """Read the sweep of *source*; *settings* such as ``steps=8`` change the configuration shared by all points.

    In Python *source* may be a mapping with the keys of a file.

    *only*, such as ``("batch=4096,8192",)``, picks points by their labels; see `picked`.

    With *allow_code* its classes (``package.module:Class``) are imported, also from the file's folder. Raises
    ConfigError with one line per error: ``file:line:col: path: what; what would be right``.
    """
    path, document = _document(source, allow_code)
    name = _text(document, "name", path.stem)
    about = _text(document, "about", "")
    spec = build(document, ("check",), document.value.get("check", {}), CheckSpec)
    check_figures(document, spec)
    grid, vary = _axes(document, "grid"), _axes(document, "vary")
    if not grid and not vary:
        document.fault((), "has neither grid nor vary; give one, such as grid: {batch: [4096, 16384]}")
    for axis in set(grid) & set(vary):
        document.fault(("vary", axis), "is in grid too; keep one")
    _check_puts(document, grid, vary)
    common = _common(document, path, allow_code)
    document.raise_faults()
    changes = [*map(as_setting, settings)]
    for setting in changes:
        _check_free(setting, [choice for axes in (grid, vary) for choices in axes.values() for choice in choices], path)
        apply_setting(common, setting)
    combinations = list(_combinations(grid, vary))
    if len(combinations) > MOST_POINTS:
        raise ConfigError(f"{path}: makes {len(combinations)} points; give axes that make at most {MOST_POINTS}")
    points = _points(document, common, combinations)
    sweep = Sweep(
        name=name,
        about=about,
        axes=(*grid, *((VARIED, TO) if vary else ())),
        points=points,
        check=spec,
        averages=_averages(document, grid, points),
        settings=tuple(setting.text for setting in changes),
        allow_code=allow_code,
    )
    return picked(sweep, only)


def _document(source: str | Path | Mapping[str, Any], allow_code: bool) -> tuple[Path, Document]:
    """Return the path and the document of *source*, with an error for each key that is none."""
    if isinstance(source, Mapping):
        path, document = Path("sweep"), mapping_document("sweep", source)
    else:
        path = Path(source)
        document = read_mapping(path, "config and grid", folders_beside(allow_code, path))
    if "model" in document.value and not {"config", "grid", "vary"} & set(document.value):
        right = "run it with `wss run`, or name it as the config of a sweep"
        raise ConfigError(f"{document.name}: is the configuration of a run; {right}")
    for key in document.value:
        if key not in KEYS:
            document.fault((key,), f"is not a key of a sweep; {did_you_mean(key, KEYS)}")
    return path, document


def _text(document: Document, key: str, default: str) -> str:
    value: Any = document.value.get(key, default)
    if not isinstance(value, str) or not (is_plain_name(value) if key == "name" else value.isprintable()):
        right = PLAIN_NAME if key == "name" else "plain text"
        document.fault((key,), f"{str(value)[:100]!r} is not right; give {right}")
        return default
    return str(value)


def _check_free(setting: Setting, choices: Sequence[_Choice], path: Path) -> None:
    """Check that none of the *choices* of the axes of *path* sets *setting*, or a part of it. Raises ConfigError."""
    key = setting.key
    for choice in choices:
        if any(f"{to}.".startswith(f"{key}.") or f"{key}.".startswith(f"{to}.") for to, _, _ in choice.puts):
            raise ConfigError(f"{setting.source}: the axis {choice.axis} of {path} sets it; change it there")


def _averages(
    document: Document, grid: Mapping[str, Sequence[_Choice]], points: Sequence[Point]
) -> AveragesSpec | None:
    """Read the averages, whose names have to be those of the *grid* and of the policies that all *points* have."""
    if "averages" not in document.value:
        return None
    spec = build(document, ("averages",), document.value["averages"], AveragesSpec)
    if isinstance(spec, AveragesSpec):
        labels = {axis: [choice.label for choice in choices] for axis, choices in grid.items()}
        named = [[policy.name for policy in point.experiment.policies] for point in points]
        check_averages(document, spec, labels, [name for name in named[0] if all(name in each for each in named)])
    document.raise_faults()
    return spec if isinstance(spec, AveragesSpec) else None


def _common(document: Document, path: Path, allow_code: bool) -> Document:
    """Return the configuration shared by all points, as a document of its own."""
    value = document.value.get("config")
    if isinstance(value, str):
        file = find(Path(value), path.parent)
        return read_mapping(file, "model, wafer, trace and policies", folders_beside(allow_code, path, file))
    if not isinstance(value, dict):
        document.fault(("config",), "is missing or no configuration; give keys and values, or a file's path")
        return Document(document.name, {})
    where = {place[1:]: text for place, text in document.where.items() if place[:1] == ("config",)}
    typed = {place[1:] for place in document.typed if place[:1] == ("config",)}
    return Document(document.name, value, where, typed=typed, code_folders=document.code_folders)


def _check_puts(document: Document, grid: dict[str, list[_Choice]], vary: dict[str, list[_Choice]]) -> None:
    """Add an error for settings that would remove those of another axis, or of the same choice."""
    before: list[str] = []  # settings of the grid's axes so far; those of vary are set one at a time
    for choices, in_grid in [*((each, True) for each in grid.values()), *((each, False) for each in vary.values())]:
        for choice in choices:
            _check_choice(document, choice, before)
        before += [to for choice in choices for to, _, _ in choice.puts if in_grid]


def _check_choice(document: Document, choice: _Choice, before: list[str]) -> None:
    for number, (to, _, place) in enumerate(choice.puts):
        others = [*before, *(other for other, _, _ in choice.puts[:number])]
        wiped = next((other for other in others if _wipes(to, other)), None)
        if wiped is not None:
            what = "is set by another axis too" if wiped == to else f"would discard '{wiped}', which is set before it"
            document.fault(place, f"{what}; put both into one choice")


def _wipes(later: str, earlier: str) -> bool:
    """Whether setting *later* removes *earlier*: it is the same, or replaces a value that contains it."""
    parents = {"trace.synth": "trace", "trace.path": "trace", "network.kind": "network", "layers.sample": "layers"}
    whole = parents.get(later, later)
    return f"{earlier}.".startswith(f"{whole}.")


def _axes(document: Document, key: str) -> dict[str, list[_Choice]]:
    """Read the axes under *key*."""
    value = document.value.get(key, {})
    if not isinstance(value, dict):
        document.fault((key,), f"{value!r} is not right; give axes, such as batch: [4096, 16384]")
        return {}
    return {axis: _axis(document, (key, axis), items) for axis, items in value.items()}


def _axis(document: Document, place: Place, items: Any) -> list[_Choice]:
    """Read one axis: a list of values, or a mapping of labels to settings."""
    axis = str(place[-1])
    labels = [axis, *(items if isinstance(items, list | dict) else ())]
    for label in labels:
        if isinstance(label, str) and not label.isprintable():
            document.fault(place, f"{label[:100]!r} is not plain text; give it a label without control characters")
    if axis in TAKEN or axis.endswith(("_s", "_bytes", "_estimate", "_low", "_high")):
        document.fault(place, f"'{axis}' is a column of the results; give the axis another name")
    if isinstance(items, list) and items:
        for i, item in enumerate(items):
            if isinstance(item, list | dict) or item is None or is_object(item):
                document.fault((*place, i), "is not a plain value; give labels, such as half: {network.duplex: half}")
        if len({float(item) if isinstance(item, int | float) else str(item) for item in items}) < len(items):
            document.fault(place, "has a value twice; keep one")
        return [_Choice(axis, item, ((axis, item, (*place, i)),)) for i, item in enumerate(items)]
    if not isinstance(items, dict) or not items:
        document.fault(place, f"{items!r} is not right; give a list of values, or labels with settings")
        return []
    choices = []
    for label, puts in items.items():
        if not isinstance(puts, dict):
            document.fault((*place, label), "is not right; give settings, such as {batch: 4096}")
            continue
        choices.append(_Choice(axis, label, tuple((to, value, (*place, label, to)) for to, value in puts.items())))
    return choices


def _combinations(
    grid: dict[str, list[_Choice]], vary: dict[str, list[_Choice]]
) -> Iterator[tuple[dict[str, Label], list[_Choice]]]:
    """Yield the labels and the choices of every point."""
    for chosen in itertools.product(*grid.values()):
        labels: dict[str, Label] = {choice.axis: choice.label for choice in chosen}
        if not vary:
            yield labels, list(chosen)
            continue
        yield labels | {VARIED: CENTRE, TO: CENTRE}, list(chosen)
        for choices in vary.values():
            for choice in choices:
                yield labels | {VARIED: choice.axis, TO: str(choice.label)}, [*chosen, choice]


def _points(
    document: Document, common: Document, combinations: list[tuple[dict[str, Label], list[_Choice]]]
) -> tuple[Point, ...]:
    """Build every point's experiment, or raise the errors of all of them: each once, at its first place."""
    points: list[Point] = []
    faults: list[str] = []
    for labels, choices in combinations:
        own = common.copy()
        try:
            for choice in choices:
                for to, value, place in choice.puts:
                    size = len(place)
                    where = {at[size:]: text for at, text in document.where.items() if at[:size] == place}
                    steps, typed = tuple(to.split(".")), place in document.typed
                    put(own, steps, copy.deepcopy(value), where, document.where[place], typed=typed)
            points.append(Point(labels=labels, experiment=experiment_of(own)))
        except ConfigError as error:
            faults += error.faults
    if faults:
        first: dict[str, str] = {}
        for fault in faults:
            first.setdefault(LINE.sub(":", fault, count=1), fault)
        raise ConfigError(*first.values())
    return tuple(points)
