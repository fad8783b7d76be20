"""The paper's figures 7 to 9: uses of experts by phase and by subject, and co-activation."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from wss.records import FloatArray
from wss.report.heatmaps import correlations, coverage
from wss.report.plotting import COLOURS, HEAT, WIDTH, shorten
from wss.traces.analysis.coactivation import over_independent, over_uniform
from wss.traces.analysis.counts import Counts, spearman
from wss.traces.analysis.statistics import TOPS
from wss.traces.analysis.top_experts import MOST, SHOWN_LAYER, nearest, of_subjects, top_overlap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure_7(plt: Any, counts: Counts) -> tuple[Figure, str] | None:
    """Draw frequencies in prefill and decode, their overlap and correlation."""
    if not (counts.prefill.tokens and counts.decode.tokens):
        return None
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.4), layout="constrained")
    before, after, layers = counts.prefill.freq, counts.decode.freq, counts.meta.moe_layers
    at = len(before) // 2
    order = np.argsort(-before[at], kind="stable")
    for phase, colour, name in ((before, COLOURS[0], "prefill"), (after, COLOURS[1], "decode")):
        axes[0].plot(100 * phase[at][order] / max(phase[at].sum(), 1), color=colour, label=name, lw=0.8)
    axes[0].set(title=f"layer {layers[at]}", xlabel="expert, by frequency in prefill", ylabel="% of its uses")
    axes[0].legend()
    overlaps = [100 * np.mean([top_overlap(x, y, n) for x, y in zip(before, after, strict=True)]) for n in TOPS]
    bars = axes[1].bar([f"top {n}" for n in TOPS], overlaps, color=COLOURS[0])
    axes[1].bar_label(bars, fmt="%.0f")
    axes[1].set(title="experts in both tops", ylabel="%, mean of layers", ylim=(0, 100))
    correlations(axes[2], layers, [spearman(x, y) for x, y in zip(before, after, strict=True)])
    return fig, "Prefill and decode, frequencies"


def figure_8(plt: Any, counts: Counts) -> tuple[Figure, str] | None:
    """Draw the skew of single experts."""
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.4), layout="constrained")
    layers = counts.meta.moe_layers
    share: FloatArray = counts.main.freq / counts.main.freq.sum(axis=1, keepdims=True) * counts.main.freq.shape[1]
    at = nearest(layers, SHOWN_LAYER)
    instead = "" if layers[at] == SHOWN_LAYER else f" (nearest to {SHOWN_LAYER})"
    axes[0].bar(np.arange(share.shape[1]), share[at], width=1.0, color=COLOURS[0])
    axes[0].axhline(1, color=COLOURS[3], ls="--", lw=0.8)
    axes[0].set(title=f"layer {layers[at]}{instead}", xlabel="expert", ylabel="uses over the mean")
    axes[1].bar(layers, share.max(axis=1), color=COLOURS[0])
    axes[1].set(title="hottest expert of each layer", xlabel="layer", ylabel="uses over the mean")
    for row in np.sort(share, axis=1)[:, ::-1]:
        axes[2].plot(np.arange(1, len(row) + 1), np.maximum(row, 1e-3), color=COLOURS[0], alpha=0.35, lw=0.6)
    axes[2].set(
        title="rank and frequency, all layers", xlabel="rank", ylabel="uses over the mean", xscale="log", yscale="log"
    )
    _plain(axes[2].xaxis, axes[2].yaxis)
    return fig, f"Single experts, {counts.main_name}"


def figure_8b(plt: Any, counts: Counts) -> tuple[Figure, str] | None:
    """Draw each subject's top-10 experts; the experts shared by most subjects come first."""
    found = of_subjects(counts.by_group, counts.meta.moe_layers)
    if not found:
        return None
    tops: dict[str, list[int]] = found["top_10"]
    shared = Counter(expert for top in tops.values() for expert in top)
    experts = sorted(shared, key=lambda expert: (-shared[expert], expert))
    rank = np.full((len(tops), len(experts)), np.nan)
    for row, top in enumerate(tops.values()):
        rank[row, [experts.index(expert) for expert in top]] = np.arange(1, len(top) + 1)
    height = 1.4 + 0.14 * len(tops)
    fig, axis = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    image = axis.imshow(rank, cmap=f"{HEAT}_r", aspect="auto", vmin=1, vmax=MOST, interpolation="nearest")
    step = -(-len(experts) // 60)
    axis.set_xticks(np.arange(len(experts))[::step], [str(expert) for expert in experts[::step]], rotation=90)
    axis.set_yticks(np.arange(len(tops)), [shorten(name, 34) for name in tops])
    axis.tick_params(labelsize=6)
    common = len(found["in_every_top_10_of_the_layer"])
    every = f"{common} in every top 10" if common else "none in every top 10"
    axis.set(
        title=f"top-10 experts of {len(tops)} subjects, layer {found['layer']}: {every}",
        xlabel="expert, by how many subjects share it",
    )
    bar = fig.colorbar(image, ax=axis, label="rank in the subject", ticks=[1, 5, 10], shrink=min(1.0, 3 / height))
    bar.ax.invert_yaxis()
    return fig, f"Single experts by subject, {counts.main_name}"


def figure_9(plt: Any, counts: Counts) -> tuple[Figure, str] | None:
    """Draw co-activations of experts, relative to uniform chance as in the paper, and to independence."""
    pairs, layers = counts.main.pairs, counts.meta.moe_layers
    if not pairs.sum():
        return None
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.2), layout="constrained")
    at = len(pairs) // 2
    both = pairs[at] + pairs[at].T
    size = len(both)
    image = axes[0, 0].imshow(both / max(pairs[at].sum(), 1) * size * (size - 1) / 2, cmap=HEAT, vmin=0, vmax=10)
    axes[0, 0].set(title=f"times uniform chance, layer {layers[at]}", xlabel="expert", ylabel="expert")
    fig.colorbar(image, ax=axes[0, 0], extend="max", shrink=0.8)
    coverage(axes[0, 1], [table[np.triu_indices(size, 1)] for table in pairs], 10)
    axes[0, 1].set(title="co-activations held, all layers", xlabel="% of pairs", ylabel="% of co-activations")
    chances = {
        "uniform chance 2/(n(n-1))": [over_uniform(table) for table in pairs],
        "independence": [over_independent(table, freq) for table, freq in zip(pairs, counts.main.freq, strict=True)],
    }
    for axis, (chance, times) in zip(axes[1], chances.items(), strict=True):
        _times(axis, np.concatenate(times), chance)
    return fig, f"Co-activation, {counts.main_name}"


def _times(axis: Axes, times: FloatArray, chance: str) -> None:
    """Draw the co-activations of the pairs of all layers relative to *chance*."""
    axis.hist(times, bins=80, color=COLOURS[0])
    if times.size:
        p999 = float(np.percentile(times, 99.9))
        axis.axvline(p999, color=COLOURS[3], ls="--", lw=0.8, label=f"99.9%: {p999:.0f}x")
        axis.plot([], [], " ", label=f"largest: {times.max():.0f}x")
        axis.legend()
    axis.set(title=f"all layers, over {chance}", xlabel="times", ylabel="pairs", yscale="log")
    _plain(axis.yaxis)


def _plain(*axes: Any) -> None:
    """Write the numbers of logarithmic axes as plain text, as mathematical text is off."""
    for axis in axes:
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axis.set_minor_formatter(lambda value, _: "")
