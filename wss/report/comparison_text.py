"""A comparison on the terminal, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wss.escaping import for_terminal
from wss.report.compare import Comparison, Differing
from wss.report.terminal import QUANTITIES, aligned
from wss.report.words import MOST
from wss.units import show

LEAST = 4  # columns that a shortened cell keeps
MOST_LISTED = 10  # points or policies that only one has
ESTIMATED = "figures are estimates with 95% intervals: a difference smaller than these may be chance"


def comparison_text(comparison: Comparison) -> str:
    """Return *comparison* as text: settings, then figures, then what only one has."""
    parts = [
        "\n".join(f"{side}: {for_terminal(folder)}" for side, folder in zip("AB", comparison.folders, strict=True))
    ]
    parts.append(_differing("settings that differ (SI units)", comparison.settings, comparison.points))
    if comparison.provenance:
        parts.append(_differing("versions and files that differ", comparison.provenance, comparison.points))
    figures = list(dict.fromkeys(row["figure"] for row in comparison.rows))
    by_name = {figure: [row for row in comparison.rows if row["figure"] == figure] for figure in figures}
    parts += [_figure(comparison.axes, rows) for rows in by_name.values() if any(map(_differs, rows))]
    if same := [figure for figure, rows in by_name.items() if not any(map(_differs, rows))]:
        parts.append(_wrapped("the same in both: ", same))
    parts += [_only(side, each) for side, each in zip("AB", comparison.only, strict=True) if each]
    return "\n\n".join([*parts, *([ESTIMATED] if comparison.estimated else [])])


def _differs(row: dict[str, Any]) -> bool:
    return bool(row["a"] != row["b"])


def _differing(title: str, found: Sequence[Differing], points: int) -> str:
    if not found:
        return f"{title}: none"
    cells = [[title, "A", "B", ""]]
    for change, count in found:
        cells.append([change.key, *change.texts(), f"at {count} of {points} points" if count < points else ""])
    if not any(row[3] for row in cells):
        cells = [row[:3] for row in cells]
    return aligned(_fitted(cells, range(3)), left=len(cells[0]))


def _figure(axes: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows of one figure that differ as a table."""
    shown = [row for row in rows if _differs(row)]
    cells = [[*axes, "policy", "A", "B", "B - A", "B / A"]]
    for row in shown:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.4g}"
        values = [_value(row[key], row["unit"]) for key in ("a", "b")]
        labels = [str(row["labels"][axis]) for axis in axes]
        cells.append([*labels, row["policy"], *values, _change(row["difference"], row["unit"]), ratio])
    text = f"{rows[0]['figure']}\n" + aligned(_fitted(cells, range(len(axes) + 1)), left=len(axes) + 1)
    same = len(rows) - len(shown)
    return text + (f"\n{same} more {'is' if same == 1 else 'are'} the same in both" if same else "")


def _value(value: Any, unit: str) -> str:
    if value is None:
        return "-"
    if unit in QUANTITIES:
        return show(value, QUANTITIES[unit]) if value else "0"
    if unit == "x":
        return f"{value:.4g}x"
    if unit == "share":
        return f"{100 * value:.2f}%"
    return f"{value:,}" if isinstance(value, int) and abs(value) < 10**9 else f"{value:,.6g}"


def _change(value: Any, unit: str) -> str:
    if value is None:
        return "-"
    sign = "+" if value > 0 else ""
    if unit in QUANTITIES:
        return sign + (show(value, QUANTITIES[unit], 3) if value else "0")
    if unit == "share":
        return f"{100 * value:+.2g} pp"
    if isinstance(value, int) and abs(value) < 10**9:
        return f"{value:+,}"
    return f"{value:+,.3g}" + ("x" if unit == "x" else "")


def _fitted(cells: Sequence[Sequence[str]], columns: Sequence[int]) -> list[list[str]]:
    """Return *cells* with those in *columns* shortened, the widest first, until lines have at most `MOST` columns."""
    rows = [[for_terminal(cell) for cell in row] for row in cells]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    while sum(widths) + 2 * (len(widths) - 1) > MOST:
        widest = max(columns, key=lambda at: widths[at])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    return [[_short(cell, widths[at]) for at, cell in enumerate(row)] for row in rows]


def _short(text: str, width: int) -> str:
    """Return *text* in at most *width* columns, without its middle if it is longer."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def _wrapped(start: str, names: Sequence[str]) -> str:
    """Return *start* and *names*, separated by commas, in lines of at most `MOST` columns."""
    lines = [start]
    for number, name in enumerate(names):
        piece = name + (", " if number < len(names) - 1 else "")
        if len(lines[-1]) + len(piece.rstrip()) > MOST and lines[-1].strip():
            lines.append(" " * len(start))
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _only(side: str, names: Sequence[str]) -> str:
    lines = [for_terminal(name) for name in names[:MOST_LISTED]]
    lines += [f"and {len(names) - MOST_LISTED} more"] if len(names) > MOST_LISTED else []
    return "\n  ".join([f"only in {side}:", *lines])
