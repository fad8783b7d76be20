"""The paper's figures 4 to 9 for any trace, as PNG or SVG; needs the extra ``plot`` (matplotlib)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wss.records import FloatArray, IntArray
from wss.report.canvas import COLOURS, HEAT, pyplot, save
from wss.traces.counting import Counts, spearman
from wss.traces.stats import TOPS, top_overlap

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_plots(counts: Counts, folder: Path, name: str, kind: str) -> list[Path]:
    """Write the figures of a trace into *folder* and return their paths; *kind* is png or svg.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    OutputError
        If a figure cannot be written.
    """
    plt = pyplot("--plot")
    label = f"{counts.meta.model.split('/')[-1]}, {counts.meta.subject}, {counts.main_name}"
    if counts.meta.synthetic:
        label += " (SYNTHETIC)"
    written = []
    for figure, draw in FIGURES.items():
        fig, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
        try:
            drawn = draw(axes, counts)
            if drawn:
                fig.suptitle(f"{drawn}: {label}")
                written.append(save(fig, folder / f"{name}_{figure}.{kind}"))
        finally:
            plt.close(fig)
    return written


def _heat(axis: Axes, table: IntArray, title: str, x: str, y: str) -> None:
    rows = table.sum(axis=1, keepdims=True)
    image = axis.imshow(table / np.maximum(rows, 1), cmap=HEAT, aspect="auto", vmax=max(0.01, 5 / len(table)))
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.figure.colorbar(image, ax=axis, label="share of the row")


def _follow(axes: Any, counts: Counts, tables: IntArray, step: str) -> None:
    """Two heat maps, of an early and a late layer, and how much of the top source's row its largest targets hold."""
    last = len(tables) - 1
    for axis, at in zip(axes, (0, last), strict=False):
        _heat(axis, tables[at], f"MoE layer {counts.meta.moe_layers[at]}", f"expert, {step}", "expert")
    places = np.arange(1, tables.shape[1] + 1) / tables.shape[1]
    for at, table in enumerate(tables):
        row = np.sort(table[table.sum(axis=1).argmax()])[::-1]
        axes[2].plot(100 * places, 100 * np.cumsum(row) / max(row.sum(), 1), color=COLOURS[0], alpha=0.35, lw=0.8)
        if at == last:
            axes[2].axvline(20, color=COLOURS[3], ls="--", lw=1, label="top 20%")
    axes[2].set(
        title="after the hottest expert, all layers", xlabel="% of experts", ylabel=f"% of {step}", ylim=(0, 101)
    )
    axes[2].legend()


def figure_4(axes: Any, counts: Counts) -> str:
    """Draw which experts of the next layer follow."""
    tables = counts.main.layer.sum(axis=0)[:-1]
    if not tables.sum():
        return ""
    _follow(axes, counts, tables, "next layer")
    return "Layer to layer"


def figure_5(axes: Any, counts: Counts) -> str:
    """Draw which experts of the next token follow."""
    tables = counts.main.token.sum(axis=0)
    if not tables.sum():
        return ""
    _follow(axes, counts, tables, "next token")
    return "Token to token"


def _both(counts: Counts) -> bool:
    return counts.prefill.tokens > 0 and counts.decode.tokens > 0


def figure_6(axes: Any, counts: Counts) -> str:
    """Draw the token heat maps of prefill and decode, and how they correlate."""
    if not (_both(counts) and counts.prefill.adjacent):
        return ""
    at = len(counts.meta.moe_layers) // 2
    tables = [phase.token.sum(axis=0) for phase in (counts.prefill, counts.decode)]
    for axis, table, name in zip(axes, tables, ("prefill", "decode"), strict=False):
        _heat(axis, table[at], f"{name}, MoE layer {counts.meta.moe_layers[at]}", "expert, next token", "expert")
    rho = [spearman(a.ravel(), b.ravel()) for a, b in zip(*tables, strict=True)]
    axes[2].plot(counts.meta.moe_layers, rho, color=COLOURS[0], marker=".")
    axes[2].set(title="Spearman of the two", xlabel="layer", ylim=(-0.1, 1))
    return "Prefill and decode, pairs"


def figure_7(axes: Any, counts: Counts) -> str:
    """Draw frequencies in prefill and decode, their overlap and correlation."""
    if not _both(counts):
        return ""
    before, after = counts.prefill.freq, counts.decode.freq
    at = len(before) // 2
    order = np.argsort(-before[at], kind="stable")
    for phase, colour, name in ((before, COLOURS[0], "prefill"), (after, COLOURS[1], "decode")):
        axes[0].plot(100 * phase[at][order] / max(phase[at].sum(), 1), color=colour, label=name, lw=1)
    axes[0].set(
        title=f"MoE layer {counts.meta.moe_layers[at]}", xlabel="expert, by frequency in prefill", ylabel="% of tokens"
    )
    axes[0].legend()
    overlaps = [100 * np.mean([top_overlap(x, y, n) for x, y in zip(before, after, strict=True)]) for n in TOPS]
    axes[1].bar([f"top {n}" for n in TOPS], overlaps, color=COLOURS[0])
    axes[1].set(title="experts in both tops", ylabel="%", ylim=(0, 100))
    rho = [spearman(x, y) for x, y in zip(before, after, strict=True)]
    axes[2].plot(counts.meta.moe_layers, rho, color=COLOURS[0], marker=".")
    axes[2].axhline(0.7, color=COLOURS[3], ls="--", lw=1)
    axes[2].set(title="Spearman of frequencies", xlabel="layer", ylim=(-0.1, 1))
    return "Prefill and decode, frequencies"


def figure_8(axes: Any, counts: Counts) -> str:
    """Draw the skew of single experts."""
    share: FloatArray = counts.main.freq / counts.main.freq.sum(axis=1, keepdims=True) * counts.main.freq.shape[1]
    image = axes[0].imshow(share, cmap=HEAT, aspect="auto", vmax=min(8.0, float(share.max())))
    axes[0].set(title="tokens over the mean", xlabel="expert", ylabel="MoE layer, in order")
    axes[0].figure.colorbar(image, ax=axes[0])
    axes[1].bar(counts.meta.moe_layers, share.max(axis=1), color=COLOURS[0])
    axes[1].set(title="hottest expert over the mean", xlabel="layer")
    for row in np.sort(share, axis=1)[:, ::-1]:
        axes[2].plot(np.arange(1, len(row) + 1), np.maximum(row, 1e-3), color=COLOURS[0], alpha=0.35, lw=0.8)
    axes[2].set(
        title="rank and frequency, all layers", xlabel="rank", ylabel="over the mean", xscale="log", yscale="log"
    )
    return "Single experts"


def figure_9(axes: Any, counts: Counts) -> str:
    """Draw which experts meet in a token."""
    pairs = counts.main.pairs
    if not pairs.sum():
        return ""
    at = len(pairs) // 2
    both = pairs[at] + pairs[at].T
    axes[0].imshow(np.log1p(both), cmap=HEAT)
    axes[0].set(title=f"pairs, log, MoE layer {counts.meta.moe_layers[at]}", xlabel="expert", ylabel="expert")
    upper = np.triu_indices(pairs.shape[1], 1)
    x = 100 * np.arange(1, len(upper[0]) + 1) / len(upper[0])
    for table in pairs:
        met = np.sort(table[upper])[::-1]
        axes[1].plot(x, 100 * np.cumsum(met) / met.sum(), color=COLOURS[0], alpha=0.35, lw=0.8)
    axes[1].axvline(10, color=COLOURS[3], ls="--", lw=1)
    axes[1].set(title="co-activations held", xlabel="% of pairs", ylabel="% of co-activations")
    freq = counts.main.freq[at].astype(np.float64)
    product = (freq[:, None] * freq)[upper]
    expected = product / product.sum() * both[upper].sum()
    sure = expected >= 1
    axes[2].hist(both[upper][sure] / expected[sure], bins=60, color=COLOURS[0])
    axes[2].set(title="pairs over independence", xlabel="times", ylabel="pairs", yscale="log")
    return "Co-activation"


FIGURES: dict[str, Callable[[Any, Counts], str]] = {
    "fig4_layers": figure_4,
    "fig5_tokens": figure_5,
    "fig6_phases_pairs": figure_6,
    "fig7_phases": figure_7,
    "fig8_skew": figure_8,
    "fig9_pairs": figure_9,
}
