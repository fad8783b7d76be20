"""Plots of the errors of kernel models. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen


class Panel(NamedTuple):
    """The errors of one family: *error* (predicted / measured - 1) over *size*, both [rows]."""

    title: str
    size: np.ndarray
    error: np.ndarray


def plot_residuals(path: Path, panels: Sequence[Panel], size: str) -> None:
    """Write a picture with a scatter of each panel's errors over *size*, with medians and the middle 80%."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 3), sharey=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        axis.scatter(panel.size, 100 * panel.error, s=3, alpha=0.25, linewidths=0, color="tab:blue")
        bins = np.round(2 * np.log2(np.maximum(panel.size, 1))) / 2
        for one in np.unique(bins):
            low, middle, high = np.quantile(100 * panel.error[bins == one], (0.1, 0.5, 0.9))
            axis.plot([2**one] * 2, [low, high], color="black", linewidth=1)
            axis.plot(2**one, middle, "o", color="black", markersize=3)
        axis.axhline(0, color="grey", linewidth=0.5)
        axis.set(xscale="log", xlabel=size, title=panel.title, ylim=(-60, 60))
    axes[0, 0].set_ylabel("predicted / measured - 1, %")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
