"""The paper's figures 4 to 9 for any trace, as PNG or SVG; needs the extra ``plot`` (matplotlib)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wss.report.heatmaps import figure_4, figure_5, figure_6
from wss.report.plotting import paper, save, shorten
from wss.report.skews import figure_7, figure_8, figure_8b, figure_9
from wss.traces.analysis.counts import Counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Each draws with pyplot and returns the picture and its name, or None if the trace lacks the data.
FIGURES: dict[str, Callable[[Any, Counts], tuple[Figure, str] | None]] = {
    "fig4_layers": figure_4,
    "fig5_tokens": figure_5,
    "fig6_phases_pairs": figure_6,
    "fig7_phases": figure_7,
    "fig8_skew": figure_8,
    "fig8b_subjects": figure_8b,
    "fig9_pairs": figure_9,
}


def write_plots(counts: Counts, folder: Path, name: str, kind: str) -> list[Path]:
    """Write the figures of a trace into *folder* and return their paths; *kind* is png or svg.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    OutputError
        If a figure cannot be written.
    """
    meta = counts.meta
    subject = f"{len(counts.by_group)} subjects" if len(counts.by_group) > 1 else meta.subject
    source = "SYNTHETIC" if meta.synthetic else meta.benchmark
    label = shorten(f"{meta.model.split('/')[-1]}, {source}, {subject}", 90)
    written = []
    for figure, draw in FIGURES.items():
        with paper("--plot") as plt:
            drawn = draw(plt, counts)
            if drawn is not None:
                fig, title = drawn
                fig.suptitle(f"{title}: {label}")
                written.append(save(fig, folder / f"{name}_{figure}.{kind}"))
    return written
