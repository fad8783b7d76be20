"""Heat maps of the links on the mesh: how much of what it could carry each link carried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wss.report.canvas import HEAT, pyplot, save

Link = dict[str, Any]

ARROW = {"arrowstyle": "-|>", "lw": 2.2, "shrinkA": 4, "shrinkB": 4}
ASIDE = 0.13  # the two directions of a link stand beside each other


def write_meshmap(links: Sequence[Link], title: str, path: Path) -> Path:
    """Draw one mesh for each policy in *links*, rows of links.parquet, to *path*, and return it."""
    plt = pyplot("report")
    policies = list(dict.fromkeys(link["policy"] for link in links))
    most = max((link["utilization"] for link in links), default=0.0) or 1.0
    x, y = (max(max(link[f"source_{c}"], link[f"target_{c}"]) for link in links) + 1 for c in "xy")
    size = (min(1.0 + 0.62 * x, 9.0), min(0.8 + 0.62 * y, 9.0))
    fig, grid = plt.subplots(
        1, len(policies), figsize=(size[0] * len(policies) + 1, size[1]), layout="constrained", squeeze=False
    )
    try:
        scale = plt.Normalize(0, most)
        colours = plt.get_cmap(HEAT)
        for axis, policy in zip(grid[0], policies, strict=True):
            own = [link for link in links if link["policy"] == policy]
            _mesh(axis, own, lambda value: colours(scale(value)))
            axis.set_title(f"{policy}, at most {max(link['utilization'] for link in own):.0%}", fontsize=8)
        bar = plt.cm.ScalarMappable(scale, HEAT)
        fig.colorbar(bar, ax=grid[0], label="link utilisation", format=lambda value, _: f"{value:.0%}")
        fig.suptitle(title, fontsize=9)
        return save(fig, path)
    finally:
        plt.close(fig)


def _mesh(axis: Any, links: Sequence[Link], colour: Any) -> None:
    dies = {(link[f"{end}_x"], link[f"{end}_y"]) for link in links for end in ("source", "target")}
    for die in dies:
        axis.scatter(*die, marker="s", s=60, color="#dddddd", edgecolor="black", lw=0.5, zorder=3)
    for link in links:
        begin, end = ((link[f"{side}_x"], link[f"{side}_y"]) for side in ("source", "target"))
        along = (end[0] - begin[0], end[1] - begin[1])
        far = max(abs(along[0]), abs(along[1]), 1)
        aside = (-ASIDE * along[1] / far, ASIDE * along[0] / far)
        axis.annotate(
            "",
            (end[0] + aside[0], end[1] + aside[1]),
            (begin[0] + aside[0], begin[1] + aside[1]),
            arrowprops={
                "arrowstyle": "-|>",
                "color": colour(link["utilization"]),
                "lw": 2.2,
                "shrinkA": 4,
                "shrinkB": 4,
            },
        )
    axis.set(aspect="equal", xticks=[], yticks=[])
    axis.margins(0.12)
    axis.invert_yaxis()
    for spine in axis.spines.values():
        spine.set_visible(False)
