"""Bar charts of a sweep or run: a panel per label of the first axis, a group per label of others, a bar per policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

from wss.metrics import figures
from wss.report.plotting import WIDTH, look, looks, paper, save, shorten
from wss.report.sweep_folder import intervals_of, is_sampled
from wss.units import parse, show

Row = dict[str, Any]

TRAFFIC = (
    ("local_read_bytes", "local reads"),
    ("remote_read_bytes", "remote reads"),
    ("local_write_bytes", "HBM writes"),
)
ROOM = WIDTH - 0.7  # inches, for the bars of a panel that fills a row
CHARACTER = 0.058  # inches, of a character of 7 points
MOST_PANELS = 36
THIN, NAMED = 0.06, 0.13  # inches, least width of a bar; and of one with its policy's name below it


@dataclass(frozen=True)
class Panel:
    """A panel: its title, the groups of bars in it, and its rows."""

    title: str
    groups: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Frame:
    """The layout of all charts of one kind: panels, panels left out, policies, their looks, panels per row, inches."""

    panels: list[Panel]
    left_out: int
    policies: list[str]
    looks: dict[str, dict[str, Any]]
    across: int
    wide: float
    axes: Sequence[str]

    @property
    def bar(self) -> float:
        """Width of a bar; groups are 1 apart."""
        return 0.84 / len(self.policies)

    def at(self, panel: Panel, row: Row) -> float:
        """Return the position of the bar of *row*."""
        number = self.policies.index(row["policy"])
        return panel.groups.index(group_of(row, self.axes)) - 0.42 + (number + 0.5) * self.bar


def write_bars(rows: Sequence[Row], axes: Sequence[str], title: str, folder: Path, kind: str) -> list[Path]:
    """Draw every figure of the rows into *folder*, and return the paths; *kind* is png or svg."""
    written = []
    suffix = ",\nestimated for all layers" if any(map(is_sampled, rows)) else ""
    charts = [(figure.name, figure.bar) for figure in figures.FIGURES if figure.bar]
    for column, bar in sorted(charts, key=lambda chart: chart[0] != "speedup"):  # the speedup first
        if any(_values(rows, column)):
            with paper() as plt:
                fig = bar_chart(plt, rows, axes, title, column, bar.label + suffix, logarithmic=bar.logarithmic)
                written.append(save(fig, folder / f"{bar.file}.{kind}"))
    heights = [sum(row.get(column) or 0 for column, _ in TRAFFIC) for row in rows]
    if any(heights):
        frame = _frame(rows, axes, NAMED)
        unit = show(max(heights), "size").split()[1]
        scale = parse(f"1 {unit}", "size")
        with paper() as plt:
            fig = _draw(plt, frame, partial(_stacked, frame=frame, scale=scale), _linear(max(heights) / scale))
            what = f"bytes of expert weights, all decode layer runs ({unit}){suffix}"
            written.append(save(_labelled(fig, frame, what, title), folder / f"hbm.{kind}"))
    return written


def bar_chart(
    plt: Any, rows: Sequence[Row], axes: Sequence[str], title: str, column: str, label: str, *, logarithmic: bool
) -> Any:
    """Return a figure with a bar for each of *rows* that has the figure *column*; *label* is that of its scale."""
    frame, values = _frame(rows, axes, THIN), _values(rows, column)
    set_scale = _logarithmic(values) if logarithmic else _linear(max(values) or 1.0)
    fig = _draw(plt, frame, partial(_simple, frame=frame, column=column), set_scale)
    _name_once(fig, frame)
    label += " (logarithmic scale)" if logarithmic else ""
    return _labelled(fig, frame, label, title)


def _values(rows: Sequence[Row], column: str) -> list[float]:
    """Return the values of a figure and the upper ends of their intervals."""
    return [value for row in rows for value in (row.get(column), *_ends(row, column)[1:]) if value is not None]


def _ends(row: Row, column: str) -> tuple[float, ...]:
    """Return the ends of the interval to draw: over seeds if there are several, as it includes that over layers."""
    found = intervals_of(row, column)
    return found.get("seeds", found.get("layers", ()))


def group_of(row: Row, axes: Sequence[str]) -> str:
    """Return the name of a group of bars: the row's labels on all axes except the first, unless it is the only one."""
    return "\n".join(str(row[axis]) for axis in (axes[1:] if len(axes) > 1 else axes))


def _frame(rows: Sequence[Row], axes: Sequence[str], bar: float) -> Frame:
    """Return the layout for bars of at least *bar* inches; groups that do not fit into a panel go to another one."""
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    per = max(1, int(ROOM / (bar * len(policies) / 0.84)))
    first = axes[0] if len(axes) > 1 else None
    panels = []
    for label in dict.fromkeys(row[first] for row in rows) if first else [None]:
        own = [row for row in rows if first is None or row[first] == label]
        groups = list(dict.fromkeys(group_of(row, axes) for row in own))
        for start in range(0, len(groups), per):
            part = groups[start : start + per]
            title = f"{first} {label}" if first else ""
            panels.append(Panel(title, part, [row for row in own if group_of(row, axes) in part]))
    most = max(len(panel.groups) for panel in panels)
    need = 0.7 + most * max(1.5 * bar * len(policies), 0.12)
    across = max(1, min(3, len(panels), int(WIDTH / max(need, 2.2))))
    wide = WIDTH if across > 1 else max(WIDTH / 2, min(WIDTH, 2 * need))
    return Frame(panels[:MOST_PANELS], len(panels[MOST_PANELS:]), policies, looks(policies), across, wide, axes)


def _draw(plt: Any, frame: Frame, draw: Callable[[Any, Panel], None], scale: Callable[[Any], None]) -> Any:
    """Return a chart whose panels *draw* fills; they share the *scale* of their y axes."""
    down = -(-len(frame.panels) // frame.across)
    size = (frame.wide, 2.0 * down + 0.7)
    fig = plt.Figure(figsize=size, layout="constrained")
    grid = fig.subplots(down, frame.across, squeeze=False, sharey=True)
    inches = frame.wide / frame.across - 0.5
    for axis, panel in zip(grid.flat, frame.panels, strict=False):
        draw(axis, panel)
        axis.set_title(fill(shorten(panel.title, 80), max(20, int(inches / CHARACTER))))
        axis.set_xlim(-0.55, len(panel.groups) - 0.45)
        axis.grid(axis="y", lw=0.4, alpha=0.6)
        axis.set_axisbelow(True)
        scale(axis)
    for axis in grid.flat[len(frame.panels) :]:
        axis.remove()
    return fig


def _name_groups(axis: Any, panel: Panel, frame: Frame) -> None:
    """Label the groups at the ticks of x; vertically if they do not fit side by side."""
    room = (frame.wide / frame.across - 0.7) / len(panel.groups)
    longest = max(len(line) for group in panel.groups for line in group.split("\n"))
    if longest * CHARACTER < room - 0.05:
        axis.set_xticks(range(len(panel.groups)), panel.groups)
    else:
        names = [shorten(group.replace("\n", ", "), 40) for group in panel.groups]
        axis.set_xticks(range(len(panel.groups)), names, rotation=90)
    axis.tick_params(axis="x", length=0)


def _name_once(fig: Any, frame: Frame) -> None:
    """Label the groups only in the lowest panel of each column, if all panels have the same groups."""
    if all(panel.groups == frame.panels[0].groups for panel in frame.panels):
        for axis in fig.axes[: len(frame.panels) - frame.across]:
            axis.tick_params(axis="x", labelbottom=False)


def _simple(axis: Any, panel: Panel, frame: Frame, column: str) -> None:
    """Draw a bar for each row whose figure is known, with its interval if it has one."""
    for policy in frame.policies:
        own = [row for row in panel.rows if row["policy"] == policy and row.get(column) is not None]
        if own:
            at, heights = [frame.at(panel, row) for row in own], [row[column] for row in own]
            axis.bar(at, heights, frame.bar, label=policy, **frame.looks[policy])
        for row in own:
            if _ends(row, column):
                value, (low, high) = row[column], _ends(row, column)
                ends = [[max(0.0, value - low)], [max(0.0, high - value)]]
                axis.errorbar(frame.at(panel, row), value, ends, fmt="none", ecolor="black", lw=0.8, capsize=1.5)
    if column == "speedup":
        axis.axhline(1, color="black", lw=0.6, ls=":")
    _name_groups(axis, panel, frame)


def _stacked(axis: Any, panel: Panel, frame: Frame, scale: float) -> None:
    """Draw the kinds of bytes of each row as a stack, its policy below and its group above."""
    at = [frame.at(panel, row) for row in panel.rows]
    bottom = [0.0] * len(at)
    for k, (column, what) in enumerate(TRAFFIC):
        heights = [(row.get(column) or 0) / scale for row in panel.rows]
        axis.bar(at, heights, 0.92 * frame.bar, bottom, label=what, **look(k))
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    axis.set_xticks(at, [shorten(row["policy"], 24) for row in panel.rows], rotation=90)
    axis.tick_params(axis="x", length=0)
    if any(panel.groups):
        above = axis.secondary_xaxis("top")
        _name_groups(above, panel, frame)
        above.spines["top"].set_visible(False)


def _linear(most: float) -> Callable[[Any], None]:
    """Return a function that sets a linear scale from zero to above *most*."""

    def apply(axis: Any) -> None:
        axis.set_ylim(0, 1.08 * most)
        axis.yaxis.set_major_formatter(lambda value, _: brief(value))

    return apply


def _logarithmic(values: Sequence[float]) -> Callable[[Any], None]:
    """Return a function that sets a logarithmic scale for *values*; with zeros, linear below the least other value."""
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415 - an extra

    least, most = min(value for value in values if value > 0), max(values)
    subs = (1.0, 2.0, 5.0) if most < 1e3 * least else (1.0,)

    def apply(axis: Any) -> None:
        if min(values) > 0:
            axis.set_yscale("log")
            axis.set_ylim(least / 2, most * 1.5)
            axis.yaxis.set_major_locator(LogLocator(subs=subs))
        else:
            axis.set_yscale("symlog", linthresh=least)
            axis.set_ylim(0, most * 1.5)
        axis.yaxis.set_major_formatter(lambda value, _: brief(value))
        axis.yaxis.set_minor_formatter(NullFormatter())

    return apply


def brief(value: float) -> str:
    """Return a number as short text: 1.5, 20k, 3M, 4G."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{letter}"
    return f"{value:.4g}"


def _labelled(fig: Any, frame: Frame, what: str, title: str) -> Any:
    """Return a chart with its labels and legend added."""
    fig.supylabel(fill(what, 36), fontsize=7.5)
    found = {
        label: handle for axis in fig.axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    order = [label for label in [*frame.policies, *(what for _, what in TRAFFIC)] if label in found]
    columns = max(1, int(frame.wide / (0.45 + CHARACTER * max(map(len, order)))))
    handles = [found[label] for label in order]
    fig.legend(handles, order, loc="outside lower center", ncols=columns, frameon=False)
    note = f"; the first {len(frame.panels)} of {len(frame.panels) + frame.left_out} panels" if frame.left_out else ""
    groups = ", ".join(frame.axes[1:] if len(frame.axes) > 1 else frame.axes)
    fig.suptitle(fill(title + (f", by {groups}" if groups else "") + note, int(frame.wide / 0.07)))
    return fig
