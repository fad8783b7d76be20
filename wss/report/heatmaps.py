"""The paper's figures 4 to 6: transitions between experts, to the next layer and to the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wss.records import IntArray
from wss.report.plotting import COLOURS, HEAT, WIDTH
from wss.traces.analysis.counts import Counts
from wss.traces.analysis.statistics import MODERATE, STRONG, correlation, strengths
from wss.traces.analysis.top_experts import nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BETWEEN_LAYERS = (3, 30)  # the first of each pair of layers in the paper's figure 4
WITHIN_LAYERS = (1, 3, 17, 43)  # the layers of its figure 5


def figure_4(plt: Any, counts: Counts) -> tuple[Figure, str] | None:
    """Draw transitions to experts of the next layer."""
    tables, layers = counts.main.layer.sum(axis=0)[:-1], counts.meta.moe_layers
    if not tables.sum():
        return None
    drawn = shown(layers[:-1], BETWEEN_LAYERS)
    fig, axes = plt.subplots(1, len(drawn) + 1, figsize=(WIDTH, 2.5), layout="constrained")
    for axis, (at, wanted) in zip(axes[:-1], drawn.items(), strict=True):
        title = f"layers {layers[at]} to {layers[at + 1]}{_instead(layers[at], wanted)}"
        _heat(axis, tables[at], title, "next layer")
    _held(axes[-1], tables, "next layer")
    return fig, f"Layer to layer, {counts.main_name}"


def figure_5(plt: Any, counts: Counts) -> tuple[Figure, str] | None:
    """Draw transitions to experts of the next token."""
    tables, layers = counts.main.token.sum(axis=0), counts.meta.moe_layers
    if not tables.sum():
        return None
    drawn = shown(layers, WITHIN_LAYERS)
    columns = 3 if len(drawn) == len(WITHIN_LAYERS) else 2
    fig, axes = plt.subplots(2, columns, figsize=(WIDTH, 4.7 if columns == 3 else 5.8), layout="constrained")
    *places, last = axes.ravel()[: len(drawn) + 1]
    for axis, (at, wanted) in zip(places, drawn.items(), strict=True):
        _heat(axis, tables[at], f"layer {layers[at]}{_instead(layers[at], wanted)}", "next token")
    _held(last, tables, "next token")
    for axis in axes.ravel()[len(drawn) + 1 :]:
        axis.axis("off")
    return fig, f"Token to token, {counts.main_name}"


def figure_6(plt: Any, counts: Counts) -> tuple[Figure, str] | None:
    """Draw transitions in prefill beside those in decode, to the next token and layer, and their correlation."""
    before, after, layers = counts.prefill, counts.decode, counts.meta.moe_layers
    kinds = (("next token", before.token, after.token), ("next layer", before.layer[:, :-1], after.layer[:, :-1]))
    rows = [kind for kind in kinds if kind[1].any() and kind[2].any()]
    if not rows:
        return None
    fig, axes = plt.subplots(len(rows), 3, figsize=(WIDTH, 2.45 * len(rows)), layout="constrained", squeeze=False)
    for (image_1, image_2, curve), (step, prefill, decode) in zip(axes, rows, strict=True):
        at = prefill.shape[1] // 2
        for axis, halves, phase in ((image_1, prefill, "prefill"), (image_2, decode, "decode")):
            _heat(axis, halves[:, at].sum(axis=0), f"{phase}, layer {layers[at]}", step)
        rho = [correlation(prefill[:, i], decode[:, i]) for i in range(prefill.shape[1])]
        correlations(curve, layers[: len(rho)], rho)
    return fig, "Prefill and decode, pairs"


def shown(layers: Sequence[int], wanted: Sequence[int]) -> dict[int, list[int]]:
    """Return the indices of the *layers* nearest to the *wanted* ones, each once, with those it stands for."""
    found: dict[int, list[int]] = {}
    for layer in wanted:
        found.setdefault(nearest(layers, layer), []).append(layer)
    return found


def _instead(layer: int, wanted: Sequence[int]) -> str:
    """Return the paper's layers that *layer* stands for, as text, if they differ."""
    others = [str(other) for other in wanted if other != layer]
    return f" (nearest to {' and '.join(others)})" if others else ""


def correlations(axis: Axes, layers: Sequence[int], rho: Sequence[float]) -> None:
    """Draw the rank correlation of prefill and decode by layer, and count its classes."""
    counted = "\n".join(f"{count} {kind}" for kind, count in strengths(rho).items())
    axis.plot(layers, rho, color=COLOURS[0], marker=".", ms=3, lw=0.8)
    for level, colour in ((STRONG, COLOURS[3]), (MODERATE, COLOURS[1])):
        axis.axhline(level, color=colour, ls="--", lw=0.8)
    least = min([0.0, *(value for value in rho if value == value)])
    axis.set(title="Spearman by layer", xlabel="layer", ylim=(1.1 * least, 1.02))
    axis.text(0.05, 0.05, counted, transform=axis.transAxes, va="bottom")


def _heat(axis: Axes, table: IntArray, title: str, step: str) -> None:
    rows = table.sum(axis=1, keepdims=True)
    image = axis.imshow(
        100 * table / np.maximum(rows, 1), cmap=HEAT, aspect="equal", vmin=0, vmax=max(1, 500 / len(table))
    )
    axis.set(title=title, xlabel=f"expert, {step}", ylabel="expert")
    axis.figure.colorbar(image, ax=axis, label="% of the row", extend="max", shrink=0.8)


def _held(axis: Axes, tables: IntArray, step: str) -> None:
    """Draw the share of the top source's row that its largest targets cover, for every layer and their mean."""
    coverage(axis, [table[table.sum(axis=1).argmax()] for table in tables], 20)
    axis.set(title="after the hottest expert", xlabel="% of experts", ylabel=f"% of {step}", ylim=(0, 101))


def coverage(axis: Axes, layers: Sequence[IntArray], top: int) -> None:
    """Draw the share that the largest counts of each layer have, and the mean of *layers*; mark the *top* percent."""
    places = 100 * np.arange(1, len(layers[0]) + 1) / len(layers[0])
    curves = [100 * np.cumsum(np.sort(counts)[::-1]) / max(counts.sum(), 1) for counts in layers]
    for curve in curves:
        axis.plot(places, curve, color=COLOURS[0], alpha=0.25, lw=0.5)
    axis.plot(places, np.mean(curves, axis=0), color=COLOURS[7], lw=1.2, label="mean of layers")
    axis.axvline(top, color=COLOURS[3], ls="--", lw=0.8, label=f"top {top}%")
    axis.legend(loc="lower right")
