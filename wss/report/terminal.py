"""The result of a run on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from textwrap import fill, wrap
from typing import Any, Literal

from wss.escaping import for_terminal
from wss.metrics import figures
from wss.metrics.figures import WIDE, Figure, Interval, Value
from wss.report.policy_result import PolicyResult
from wss.report.verdict import marks, verdict
from wss.report.words import MOST
from wss.units import show

QUANTITIES: dict[str, Literal["time", "size"]] = {"s": "time", "B": "size"}


def run_table(
    heading: Sequence[str], runs: Mapping[str, PolicyResult], oracles: Collection[str] = (), wide: bool = False
) -> str:
    """Return the table of a run as text below *heading*, the policies in the order of *runs*; *wide*: all columns."""
    names = {name for run in runs.values() for name in run.figures}
    times = {name: float(run.figures["decode_time_s"].value) for name, run in runs.items()}
    marked = marks(times, oracles)
    labels = {name: labelled(name, name in marked, name in oracles) for name in runs}
    every = [figure for figure in figures.FIGURES if figure.run and figure.name in names]
    columns, text = fitted(every, lambda some: _rows(labels, runs, some), wide)
    legend = _legend(runs, columns, bool(marked), hidden=len(columns) < len(every))
    closing = filled(verdict(runs, oracles), "")
    planning = _planning(runs) if wide else []
    return "\n".join([*map(filled, heading), "", text, "", closing, "", legend, *planning])


def _rows(
    labels: Mapping[str, str], runs: Mapping[str, PolicyResult], columns: Sequence[Figure]
) -> list[Sequence[str]]:
    """Return the cells of a run's table, the headings first; intervals are in rows of their own."""
    cells: list[Sequence[str]] = [["policy", *(figure.run for figure in columns)]]
    for policy, run in runs.items():
        values = [(figure, run.figures.get(figure.name, Value(None))) for figure in columns]
        cells.append([labels[policy], *(figure_text(figure, own.value) for figure, own in values)])
        for over in ("layers", "seeds"):
            if any(getattr(own, over) for _, own in values):
                ends = (interval_text(figure, own.value, getattr(own, over)) for figure, own in values)
                cells.append([f"  95%, {over}", *ends])
    return cells


def labelled(policy: str, is_fastest: bool, is_oracle: bool) -> str:
    """Return the name of a policy with its marks."""
    return policy + " (oracle)" * is_oracle + " *" * is_fastest


def fitted(
    columns: Sequence[Figure], rows: Callable[[Sequence[Figure]], Sequence[Sequence[str]]], wide: bool, left: int = 1
) -> tuple[Sequence[Figure], str]:
    """Return *columns* that fit `MOST` with the table of their *rows*; columns of the highest ranks are left out.

    If the table is *wide*, all columns stay. The first *left* columns of the table are names, and always stay.
    """
    if not wide:
        columns = [figure for figure in columns if figure.rank < WIDE]
    while True:
        text = aligned(rows(columns), left, most=MOST)
        highest = max((figure.rank for figure in columns), default=1)
        if wide or highest == 1 or max(map(len, text.splitlines())) <= MOST:
            return columns, text
        last = max(number for number, figure in enumerate(columns) if figure.rank == highest)
        columns = [*columns[:last], *columns[last + 1 :]]


def aligned(cells: Sequence[Sequence[str]], left: int = 1, most: int | None = None) -> str:
    """Return rows of *cells*, the headings first, as text in columns; the first *left* columns are left-aligned.

    Headings are broken at spaces if the table would be wider than *most*.
    """
    heading, *body = ([*map(for_terminal, row)] for row in cells)
    widths = [max(map(len, column)) for column in zip(heading, *body, strict=True)]
    lines = [heading]
    if most is not None and sum(widths) + 2 * (len(widths) - 1) > most:
        widths = [max(map(len, column), default=1) for column in zip(*body, strict=True)] if body else widths
        widths = [max(width, *map(len, name.split() or [""])) for width, name in zip(widths, heading, strict=True)]
        broken = [wrap(name, width) or [""] for name, width in zip(heading, widths, strict=True)]
        deep = max(map(len, broken))
        lines = [list(line) for line in zip(*([""] * (deep - len(own)) + own for own in broken), strict=True)]
    rows = [*lines, ["-" * width for width in widths], *body]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def filled(text: str, indent: str = "  ") -> str:
    """Return *text*, one line, broken at spaces to fit `MOST`; further lines begin with *indent*."""
    safe = for_terminal(text)
    if len(safe) <= MOST:
        return safe
    return fill(safe, MOST, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def figure_text(figure: Figure, value: Any) -> str:
    """Return a figure as text."""
    if value is None:
        return "-"
    if figure.unit in QUANTITIES:
        return show(value, QUANTITIES[figure.unit]) if value else "0"
    if figure.unit == "J":
        return f"{value:.3g} J"
    if figure.unit == "x":
        return f"{value:.2f}x"
    if figure.unit == "share":
        return f"{100 * value:.1f}%"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def interval_text(figure: Figure, value: Any, interval: Interval | None) -> str:
    """Return the interval of a figure: both ends for ratios, for others half its width relative to the figure."""
    if interval is None or value is None:
        return "-"
    low, high = interval
    if figure.unit == "x":
        return f"[{low:.2f}, {high:.2f}]"
    if figure.unit == "share":
        return f"[{100 * low:.1f}%, {100 * high:.1f}%]"
    half = max(high - value, value - low)
    if not value:
        return f"to {figure_text(figure, half)}" if half else "±0%"
    return f"±{100 * half / value:.1f}%"


def _legend(runs: Mapping[str, PolicyResult], columns: Sequence[Figure], is_marked: bool, hidden: bool) -> str:
    """Return the meaning of the *columns* and of the marks, in a few lines."""
    first = next(iter(runs.values())).figures
    layers, seeds = first["decode_time_s"].layers, first["decode_time_s"].seeds
    notes = [
        *(figure.note.format(baseline=first["baseline"].value) for figure in columns if figure.note),
        "95%, layers: interval over draws of layers" if layers else "",
        "95%, seeds: interval of the mean over seeds" if seeds else "",
        "*: fastest (within 1%), oracles aside" if is_marked else "",
        "--wide: all columns" if hidden else "",
    ]
    text = for_terminal("; ".join(note for note in notes if note))
    return fill(f"{text}.", MOST, break_long_words=False, break_on_hyphens=False)


def _planning(runs: Mapping[str, PolicyResult]) -> list[str]:
    """Return a line on the planning time of the policies; none if no policy planned."""
    said = [f"{name} {1e3 * run.planning['median_cpu_s']:.2g}" for name, run in runs.items() if run.planning]
    return [filled(f"planning, median CPU time per layer run: {', '.join(said)} ms.")] if said else []
