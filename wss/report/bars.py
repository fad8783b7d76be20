"""Bars of a sweep or a run: a panel for each choice on the first axis, a group for each of the rest, a bar a policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wss.report.canvas import COLOURS, HATCHES, pyplot, save
from wss.report.sweeps import best

Row = dict[str, Any]

# file, column, what it is, whether the scale is logarithmic
BARS: tuple[tuple[str, str, str, bool], ...] = (
    ("speedup", "speedup", "speedup over the baseline", False),
    ("throughput", "throughput_tokens_per_s", "tokens/s of the MoE layers", False),
    ("paper_throughput", "throughput_paper_tokens_per_s", "tokens/s, as the paper counts", False),
    ("hops", "hops", "hops", True),
    ("bound", "bound_ratio", "decode time over the lower bound", False),
)
DRAM = (
    ("local_read_bytes", "local reads"),
    ("remote_read_bytes", "remote reads"),
    ("local_write_bytes", "copies written"),
)


def write_bars(rows: Sequence[Row], axes: Sequence[str], title: str, folder: Path, kind: str) -> list[Path]:
    """Draw every figure that the rows have into *folder*, and return the paths; *kind* is png or svg."""
    plt = pyplot("report")
    written = []
    for name, column, what, logarithmic in BARS:
        if all(column in row for row in rows) and any(best(row, column) for row in rows):
            fig = _panels(plt, rows, axes, lambda axis, own, c=column: _simple(axis, own, axes, c))
            for axis in fig.axes:
                axis.set_yscale("symlog" if logarithmic else "linear")
            written.append(_finish(plt, fig, what, title, folder / f"{name}.{kind}"))
    fig = _panels(plt, rows, axes, lambda axis, own: _stacked(axis, own, axes))
    written.append(_finish(plt, fig, "DRAM bytes of all decode kernels", title, folder / f"dram.{kind}"))
    return written


def group_of(row: Row, axes: Sequence[str]) -> str:
    """Return what a group of bars is called: the row's labels on all axes but the first, unless it is the only one."""
    return "\n".join(str(row[axis]) for axis in (axes[1:] if len(axes) > 1 else axes))


def _panels(plt: Any, rows: Sequence[Row], axes: Sequence[str], draw: Any) -> Any:
    """Return a figure whose panels *draw* fills, one for each label of the first of several axes."""
    first = axes[0] if len(axes) > 1 else None
    labels = list(dict.fromkeys(row[first] for row in rows)) if first else [None]
    groups = len({group_of(row, axes) for row in rows})
    policies = len({row["policy"] for row in rows})
    wide = min(max(3.0, 0.16 * groups * policies + 1.2), 14.0)
    across = min(len(labels), 2 if wide > 5 else 4)
    down = -(-len(labels) // across)
    fig, grid = plt.subplots(
        down, across, figsize=(wide * across, 3.0 * down + 0.6), layout="constrained", squeeze=False
    )
    for axis, label in zip(grid.flat, labels, strict=False):
        draw(axis, [row for row in rows if first is None or row[first] == label])
        if first:
            axis.set_title(f"{first} {label}", fontsize=10)
    for axis in grid.flat[len(labels) :]:
        axis.remove()
    return fig


def _places(rows: Sequence[Row], axes: Sequence[str]) -> tuple[list[str], list[str], float]:
    """Return groups, policies and the width of a bar."""
    groups = list(dict.fromkeys(group_of(row, axes) for row in rows))
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    return groups, policies, 0.8 / len(policies)


def _look(number: int) -> dict[str, Any]:
    """Return colour and hatch of the *number*-th kind of bar."""
    at = number % len(COLOURS)
    return {"color": COLOURS[at], "hatch": HATCHES[at], "edgecolor": "white", "lw": 0.3}


def _simple(axis: Any, rows: Sequence[Row], axes: Sequence[str], column: str) -> None:
    groups, policies, width = _places(rows, axes)
    for i, policy in enumerate(policies):
        own = [row for row in rows if row["policy"] == policy]
        at = [groups.index(group_of(row, axes)) - 0.4 + (i + 0.5) * width for row in own]
        heights = [best(row, column) or 0 for row in own]
        axis.bar(
            at, heights, width, label=policy, color=COLOURS[i % 8], hatch=HATCHES[i % 8], edgecolor="white", lw=0.3
        )
        low, high = f"{column}_low", f"{column}_high"
        if all(row.get(low) is not None for row in own):
            below = [max(0.0, height - row[low]) for height, row in zip(heights, own, strict=True)]
            above = [max(0.0, row[high] - height) for height, row in zip(heights, own, strict=True)]
            axis.errorbar(at, heights, [below, above], fmt="none", ecolor="black", lw=0.8, capsize=1.5)
    axis.set_xticks(range(len(groups)), groups, fontsize=8)
    axis.grid(axis="y", lw=0.4, alpha=0.6)
    axis.set_axisbelow(True)


def _stacked(axis: Any, rows: Sequence[Row], axes: Sequence[str]) -> None:
    groups, policies, width = _places(rows, axes)
    for i, policy in enumerate(policies):
        own = [row for row in rows if row["policy"] == policy]
        at = [groups.index(group_of(row, axes)) - 0.4 + (i + 0.5) * width for row in own]
        bottom = [0.0] * len(own)
        for k, (column, what) in enumerate(DRAM):
            heights = [float(row[column]) for row in own]
            axis.bar(
                at,
                heights,
                0.92 * width,
                bottom,
                label=what if i == 0 else None,
                color=COLOURS[k],
                hatch=HATCHES[k],
                edgecolor="white",
                lw=0.3,
            )
            bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
        for x, top in zip(at, bottom, strict=True):
            axis.text(x, top, f" {policy}", rotation=90, ha="center", va="bottom", fontsize=5)
    axis.set_ylim(0, 1.25 * max(sum(float(row[column]) for column, _ in DRAM) for row in rows))
    axis.set_xticks(range(len(groups)), groups, fontsize=8)


def _finish(plt: Any, fig: Any, what: str, title: str, path: Path) -> Path:
    try:
        handles, labels = fig.axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=8, fontsize=8, frameon=False)
        fig.suptitle(f"{what} — {title}", fontsize=10)
        return save(fig, path)
    finally:
        plt.close(fig)
