"""The result of a check as a table of families, which fits `words.MOST` columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wss.escaping import for_terminal
from wss.report.words import MOST, counted

FIGURES = ("rows", "mean", "p90", "worst", "bias")
ALWAYS = ("precision", "framework")  # shown even if all families agree; the others only if they tell families apart
SIGNED = ("worst", "bias")
_CELL = 8  # columns of a figure


def check_text(found: dict[str, Any]) -> str:
    """Return the result of `check` as text."""
    lines = [
        f"{found['file']}: {found['table']}, {counted(found['rows'], 'row')}, of which {found['counted']:,} count",
        f"device: {found['device']}",
        "errors are predicted / measured - 1; mean and p90 of absolute errors, worst and bias with their sign",
        "",
    ]
    lines += _families(found["families"], found["all"])
    if found["fastest"]:
        lines += ["", "the fastest kernel of each shape"]
        lines += _grid([[f"{row['gpu']} {row['precision']}"] for row in found["fastest"]], found["fastest"])
    if found["left_out"]:
        lines += ["", "left out:"] + [
            f"{row['rows']:>9,}  {for_terminal(row['reason'])}"[:MOST] for row in found["left_out"]
        ]
    return "\n".join(lines + [""] * bool(found["notes"]) + [f"note: {for_terminal(note)}" for note in found["notes"]])


def _families(families: Sequence[dict[str, Any]], total: dict[str, Any] | None) -> list[str]:
    if total is None:
        return ["no row counts"]
    names = telling(families)
    labels = [[for_terminal(str(family[name])) for name in names] for family in families]
    last = ["all", *[""] * (len(names) - 1)]
    return _grid([*labels, last], [*families, total], names)


def telling(families: Sequence[dict[str, Any]]) -> list[str]:
    """Return the columns to show: those of `ALWAYS`, and as many others as tell the families apart."""
    columns = [name for name in families[0] if name not in (*FIGURES, "table", "left_out", "parameters")]
    shown = [name for name in columns if name in ALWAYS]
    for name in columns:
        if name not in shown and _distinct(families, [*shown, name]) > _distinct(families, shown):
            shown.append(name)
    return shown or columns[:1]


def _distinct(families: Sequence[dict[str, Any]], names: Sequence[str]) -> int:
    return len({tuple(family[name] for name in names) for family in families})


def _grid(labels: Sequence[list[str]], rows: Sequence[dict[str, Any]], headings: Sequence[str] = ("",)) -> list[str]:
    widths = [max(map(len, column)) for column in zip(headings, *labels, strict=True)]
    while sum(widths) + 2 * len(widths) > MOST - _CELL * len(FIGURES):
        widths[widths.index(max(widths))] -= 1
    return [
        _line(headings, widths, FIGURES),
        *(_line(texts, widths, _cells(row)) for texts, row in zip(labels, rows, strict=True)),
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    signed = [f"{100 * row[name]:+.1f}%" if name in SIGNED else f"{100 * row[name]:.1f}%" for name in FIGURES[1:]]
    return [f"{row['rows']:,}", *signed]


def _line(texts: Sequence[str], widths: Sequence[int], cells: Sequence[str]) -> str:
    left = "  ".join(_cut(text, width).ljust(width) for text, width in zip(texts, widths, strict=True))
    return left + "".join(f" {cell:>{_CELL - 1}}" for cell in cells)


def _cut(text: str, width: int) -> str:
    """Return *text* without its middle if it is wider than *width*."""
    end = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - end]}~{text[len(text) - end :]}"
