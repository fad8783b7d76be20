"""The figures of a sweep or a run as Markdown: every row, and mean speedups."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from wss.escaping import for_markdown
from wss.report.sweep_folder import cell, shown
from wss.report.tornado import ranges

Row = dict[str, Any]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the last columns, of numbers, are right-aligned."""
    head, *lines = ("| " + " | ".join(map(_in_cell, row)) + " |" for row in (headings, *rows))
    return "\n".join([head, "|" + "---|" * len(headings), *lines])


def _in_cell(text: str) -> str:
    """Return *text* escaped for a table cell."""
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(text.split()))


def rows_table(axes: Sequence[str], rows: Sequence[Row], wide: bool = False) -> str:
    """Return all rows with their main figures and intervals; *wide*: with all figures that tables show."""
    columns = shown(rows, wide)
    headings = [*map(for_markdown, axes), "policy", *(figure.sweep for figure in columns)]
    body = [
        [*(for_markdown(row[axis]) for axis in (*axes, "policy")), *(cell(row, figure) for figure in columns)]
        for row in rows
    ]
    return table(headings, body)


def means_table(axes: Sequence[str], rows: Sequence[Row]) -> str:
    """Return the mean speedup of each policy, by each label of each axis and over all points that have the policy."""
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    groups: list[tuple[str, list[Row]]] = [
        (for_markdown(f"{axis} {label}"), [row for row in rows if row[axis] == label])
        for axis in axes
        for label in dict.fromkeys(row[axis] for row in rows)
    ]
    body = []
    for name, group in [*groups, ("all", list(rows))]:
        speedups = {policy: [row["speedup"] for row in group if row["policy"] == policy] for policy in policies}
        body.append([name, *(_mean(values) for values in speedups.values())])
    return table(["arithmetic (geometric) mean of speedups", *map(for_markdown, policies)], body)


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    arithmetic = sum(values) / len(values)
    geometric = math.exp(sum(math.log(value) for value in values) / len(values))
    return f"{arithmetic:.3g}x ({geometric:.3g}x)"


def tornado_table(rows: Sequence[Row], policy: str) -> str:
    """Return the varied axes, with the lowest and the highest speedup of *policy* and their labels."""
    body = []
    for varied, choices in ranges([row for row in rows if row["policy"] == policy]).items():
        low, high = min(choices, key=lambda c: c[1]), max(choices, key=lambda c: c[1])
        every = ", ".join(f"{for_markdown(label)} {value:.3g}x" for label, value in choices)
        body.append([for_markdown(varied), f"{low[1]:.3g}x", f"{high[1]:.3g}x", every])
    return table(["varied", "least", "most", "all choices"], body)
