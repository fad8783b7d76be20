"""How far a speedup goes when one thing at a time is changed: as rows, and as a tornado plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wss.report.canvas import COLOURS, pyplot, save
from wss.report.sweeps import best

Row = dict[str, Any]


def ranges(rows: Sequence[Row]) -> dict[str, list[tuple[str, float]]]:
    """Return, by what is varied, the choices and their speedups, widest range first; *rows* are one policy's.

    The centre, where nothing is varied, is one of the choices.
    """
    centre = next(best(row, "speedup") for row in rows if row["varied"] == "-")
    found: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        if row["varied"] != "-":
            found.setdefault(row["varied"], [("as it is", centre)]).append((row["to"], best(row, "speedup")))

    def width(item: tuple[str, list[tuple[str, float]]]) -> float:
        speedups = [speedup for _, speedup in item[1]]
        return min(speedups) - max(speedups)

    return dict(sorted(found.items(), key=width))


def write_tornado(rows: Sequence[Row], policy: str, title: str, path: Path) -> Path:
    """Draw the ranges of *policy*'s speedup to *path*, and return it."""
    plt = pyplot("report")
    found = ranges([row for row in rows if row["policy"] == policy])
    centre = next(iter(found.values()))[0][1]
    fig, axis = plt.subplots(figsize=(8, 0.5 * len(found) + 1.6), layout="constrained")
    try:
        for y, (_, choices) in enumerate(reversed(found.items())):
            low, high = min(choices, key=lambda c: c[1]), max(choices, key=lambda c: c[1])
            axis.barh(y, centre - low[1], left=low[1], color=COLOURS[1], hatch="//", edgecolor="white")
            axis.barh(y, high[1] - centre, left=centre, color=COLOURS[0], edgecolor="white")
            for (label, value), side, shift in ((low, "right", -4), (high, "left", 4)):
                if value != centre:
                    where = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 7}
                    axis.annotate(f"{label}: {value:.3g}x", (value, y), (shift, 0), **where)
        axis.axvline(centre, color="black", lw=1)
        axis.axvline(1, color="grey", lw=0.8, ls=":")
        axis.set_yticks(range(len(found)), list(reversed(found)))
        axis.margins(x=0.35)
        axis.set_xlabel(f"speedup of {policy}; the line is {centre:.3g}x, with nothing varied")
        axis.set_title(title, fontsize=10)
        return save(fig, path)
    finally:
        plt.close(fig)
