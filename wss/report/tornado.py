"""The range of a speedup when one axis at a time is varied: as rows, and as a tornado plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from wss.report.plotting import WIDTH, look, paper, save, shorten

Row = dict[str, Any]


def ranges(rows: Sequence[Row]) -> dict[str, list[tuple[str, float]]]:
    """Return, by varied axis, the labels and their speedups, widest range first; *rows* are one policy's.

    The centre, with nothing varied, is one of the choices.
    """
    centre = next(row["speedup"] for row in rows if row["varied"] == "-")
    found: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        if row["varied"] != "-":
            found.setdefault(row["varied"], [("as it is", centre)]).append((row["to"], row["speedup"]))

    def width(item: tuple[str, list[tuple[str, float]]]) -> float:
        speedups = [speedup for _, speedup in item[1]]
        return min(speedups) - max(speedups)

    return dict(sorted(found.items(), key=width))


def shown_policies(rows: Sequence[Row]) -> list[str]:
    """Return the policies, except the baseline, that are run both at the centre and with an axis varied."""
    varied = {row["policy"] for row in rows if row["varied"] != "-"}
    found = [row["policy"] for row in rows if row["varied"] == "-" and row["policy"] != row.get("baseline")]
    return [policy for policy in found if policy in varied]


def write_tornado(rows: Sequence[Row], policy: str, title: str, path: Path) -> Path:
    """Draw the ranges of *policy*'s speedup to *path*, and return it."""
    found = ranges([row for row in rows if row["policy"] == policy])
    centre = next(iter(found.values()))[0][1]
    with paper() as plt:
        fig, axis = plt.subplots(figsize=(WIDTH, 0.32 * len(found) + 1.1), layout="constrained")
        for y, (_, choices) in enumerate(reversed(found.items())):
            low, high = min(choices, key=lambda c: c[1]), max(choices, key=lambda c: c[1])
            axis.barh(y, centre - low[1], left=low[1], **look(1))
            axis.barh(y, high[1] - centre, left=centre, **look(0))
            for (label, value), side, shift in ((low, "right", -4), (high, "left", 4)):
                if value != centre:
                    where = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 7}
                    axis.annotate(f"{shorten(label, 30)}: {value:.3g}x", (value, y), (shift, 0), **where)
        axis.axvline(centre, color="black", lw=1)
        axis.axvline(1, color="grey", lw=0.8, ls=":")
        axis.set_yticks(range(len(found)), [shorten(name, 30) for name in reversed(found)])
        axis.use_sticky_edges = False
        axis.margins(x=0.35)
        axis.set_xlabel(f"speedup of {policy} over the baseline; the line is {centre:.3g}x, with nothing varied")
        axis.set_title(fill(title, 100))
        return save(fig, path)
