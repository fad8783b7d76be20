"""Heat maps of the utilisation of the links of a mesh, and of the ports of GPUs behind switches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from wss.report.plotting import WIDTH, paper, save, shorten

Link = dict[str, Any]
Die = tuple[int, int]

ACROSS = 3  # meshes per row
ASIDE = 0.13  # offset between the two directions of a link
LARGEST = 0.9  # inches between dies
DPI = 160
SIDE = 0.32  # side of a die; a link has length 1
TRAFFIC = "YlOrRd"  # colours of links, little traffic to much
LEGEND = (
    "Each square is a die with its own HBM; numbers are x and y. Each arrow is one direction of a die-to-die link; its "
    "colour is the share of the link's bandwidth used during decode, by reads of expert weights from other dies and by "
    "dispatched tokens."
)
PORTS = "switch: NVLink inside a node; nic and fabric: InfiniBand between nodes"
DEAD = " Crosses are dead dies and links."


@dataclass(frozen=True, kw_only=True)
class Map:
    """What a picture of links says beside the links.

    Attributes
    ----------
    title, what
        Its title, and the label of the scale.
    speedups, times, busiest
        By policy: its speedup and its time as text, and the utilisation of its busiest link.
    links
        By policy: the name of that link; None if nothing crossed a link, or seeds differ.
    """

    title: str
    what: str
    speedups: Mapping[str, str]
    times: Mapping[str, str]
    busiest: Mapping[str, float]
    links: Mapping[str, str | None]

    def heading(self, policy: str) -> str:
        """Return the title of the part of *policy*."""
        link = self.links[policy]
        busiest = f"busiest link: {f'{link}, ' if link else ''}{self.busiest[policy]:.1%} used"
        return "\n".join([f"{shorten(policy, 24)}{self.speedups[policy]}", self.times[policy], busiest])


def write_meshmap(links: Sequence[Link], about: Map, path: Path) -> Path:
    """Draw one mesh for each policy in *links*, rows of links.parquet, to *path*, and return it; see `meshmap`."""
    with paper() as plt:
        return save(meshmap(plt, links, about), path, DPI)


def meshmap(plt: Any, links: Sequence[Link], about: Map) -> Any:
    """Return a figure with one mesh for each policy in *links*, rows of links.parquet.

    There must be at least one link.
    """
    policies = list(dict.fromkeys(link["policy"] for link in links))
    most = max(link["utilization"] for link in links) or 1.0
    x, y = (max(max(link[f"source_{c}"], link[f"target_{c}"]) for link in links) + 1 for c in "xy")
    across = min(len(policies), ACROSS)
    down = -(-len(policies) // across)
    wide = min((WIDTH - 0.8) / across, 3.2, max(LARGEST * (x + 0.3), 1.6))
    tall = min(wide * (y + 0.3) / (x + 0.3), 6.0, LARGEST * (y + 0.3))
    size = (max(wide * across + 0.8, WIDTH / 2), (tall + 0.5) * down + 0.55)
    fig = plt.Figure(figsize=size, layout="constrained")
    grid = fig.subplots(down, across, squeeze=False)
    scale = plt.Normalize(0, most)
    for axis, policy in zip(grid.flat, policies, strict=False):
        own = [link for link in links if link["policy"] == policy]
        _mesh(axis, own, scale, 72 * SIDE * min(wide / (x + 0.3), tall / (y + 0.3)))
        axis.set_title(about.heading(policy))
    for axis in grid.flat[len(policies) :]:
        axis.remove()
    _colours(fig, plt.cm.ScalarMappable(scale, TRAFFIC), grid.flat[: len(policies)], about.what, aspect=30)
    columns = int(size[0] / 0.065)
    fig.suptitle(fill(f"Traffic on die-to-die links: {about.title}" + said_dead(*dead_of(links)), columns))
    fig.supxlabel(fill(f"{LEGEND}{DEAD if any(dead_of(links)) else ''}", columns + 8), fontsize=7)
    return fig


def _colours(fig: Any, colours: Any, axes: Any, what: str, **look: Any) -> None:
    """Add the scale of the colours beside *axes*, in percent."""
    fig.colorbar(colours, ax=list(axes), label=what, format=lambda value, _: f"{100 * value:.3g}%", **look)


def dead_of(links: Sequence[Link]) -> tuple[list[Die], list[tuple[Die, Die]]]:
    """Return the dies without links, and the pairs of neighbours, both with links, without one between them."""
    pairs = {tuple((int(link[f"{at}_x"]), int(link[f"{at}_y"])) for at in ("source", "target")) for link in links}
    living = {die for pair in pairs for die in pair}
    wide, tall = (max(die[c] for die in living) + 1 for c in (0, 1))
    dies = [(x, y) for x in range(wide) for y in range(tall) if (x, y) not in living]
    beside = [((x, y), (x + i, y + 1 - i)) for x, y in sorted(living) for i in (0, 1)]
    return dies, [pair for pair in beside if pair[1] in living and pair not in pairs]


def said_dead(dies: Sequence[Die], links: Sequence[tuple[Die, Die]]) -> str:
    """Return the dead dies and links as the end of a title; empty if there are none."""
    named = [f"({x},{y})" for x, y in dies] + [f"({a},{b})-({c},{d})" for (a, b), (c, d) in links]
    return f"; dead (x): {', '.join(named)}" if named else ""


def _mesh(axis: Any, links: Sequence[Link], scale: Any, side: float) -> None:
    """Draw dies as squares of *side* points, and links as arrows, darker and redder with higher utilisation."""
    begin, end = (np.array([[link[f"{at}_{c}"] for c in "xy"] for link in links], float) for at in ("source", "target"))
    dies = np.unique(np.concatenate([begin, end]), axis=0)
    axis.scatter(*dies.T, marker="s", s=side**2, color="#d9d9d9", edgecolor="#555555", lw=0.5)
    dead_dies, dead_links = dead_of(links)
    for where, size in ((dead_dies, side), ([((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in dead_links], side / 2)):
        if where:
            axis.scatter(*np.array(where, float).T, marker="x", s=size**2, color="#bb0000", lw=1.0)
    along = end - begin
    unit = along / np.abs(along).max(axis=1, keepdims=True)
    start = begin + 0.6 * SIDE * unit + ASIDE * np.stack([-unit[:, 1], unit[:, 0]], axis=1)
    carried = [link["utilization"] for link in links]
    axis.quiver(
        *start.T,
        *(along - 1.2 * SIDE * unit).T,
        carried,
        cmap=TRAFFIC,
        norm=scale,
        edgecolor="#888888",
        linewidth=0.25,
        angles="xy",
        scale_units="xy",
        scale=1,
        units="xy",
        width=0.085,
        headwidth=2.8,
        headlength=2.8,
        headaxislength=2.8,
    )
    axis.set(aspect="equal", xticks=np.unique(dies[:, 0]), yticks=np.unique(dies[:, 1]))
    axis.tick_params(length=0, labelsize=6)
    axis.set_xlim(dies[:, 0].min() - 0.3, dies[:, 0].max() + 0.3)
    axis.set_ylim(dies[:, 1].max() + 0.3, dies[:, 1].min() - 0.3)
    for spine in axis.spines.values():
        spine.set_visible(False)


GPU = re.compile(r"\((\d+),(\d+)\)")
KINDS = ("GPU->switch", "switch->GPU", "GPU->nic", "nic->GPU", "nic->fabric", "fabric->nic")


def is_port(link: Link) -> bool:
    """Whether a row of links.parquet is a port, not a link between two dies of a mesh."""
    return kind_of(link["link"]) in KINDS


def kind_of(name: str) -> str:
    """Return the two ends of a port by kind, such as ``GPU->switch`` for ``(0,3)->switch(0)``."""
    return re.sub(r"(?<=\w)\(.*?\)", "", re.sub(r"(?<!\w)\(.*?\)", "GPU", name))


def write_portmap(links: Sequence[Link], about: Map, path: Path) -> Path:
    """Draw the ports of all GPUs, a table for each policy in *links*, to *path*, and return it; see `portmap`."""
    with paper() as plt:
        return save(portmap(plt, links, about), path, DPI)


def portmap(plt: Any, links: Sequence[Link], about: Map) -> Any:
    """Return a figure of the ports of all GPUs, with a table for each policy in *links*, rows of links.parquet.

    A row is a kind of port, a column a GPU, in order of nodes. There must be at least one port.
    """
    policies = list(dict.fromkeys(link["policy"] for link in links))
    kinds = [kind for kind in KINDS if kind in {kind_of(link["link"]) for link in links}]
    most = max(link["utilization"] for link in links) or 1.0
    size = (WIDTH, (0.15 * len(kinds) + 0.45) * len(policies) + 0.6)
    fig = plt.Figure(figsize=size, layout="constrained")
    axes = fig.subplots(len(policies), 1, squeeze=False)
    for axis, policy in zip(axes[:, 0], policies, strict=True):
        shown = ports_of([link for link in links if link["policy"] == policy], kinds)
        image = axis.imshow(shown, cmap=TRAFFIC, vmin=0, vmax=most, aspect="auto", interpolation="nearest")
        axis.set_yticks(range(len(kinds)), kinds)
        axis.set_xticks([])
        axis.set_title(about.heading(policy).replace("\n", ", "))
    axes[-1, 0].set_xlabel(f"{shown.shape[1]} GPUs, in order of nodes. {PORTS}")
    _colours(fig, image, axes[:, 0], about.what)
    fig.suptitle(fill(f"Traffic on the ports of GPUs: {about.title}", 100))
    return fig


def ports_of(links: Sequence[Link], kinds: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return the utilisation of each kind of port of each GPU, [kinds, GPUs]."""
    at: dict[tuple[str, tuple[int, int]], float] = {}
    for link in links:
        node, gpu = GPU.findall(link["link"])[0]
        at[kind_of(link["link"]), (int(node), int(gpu))] = link["utilization"]
    gpus = sorted({gpu for _, gpu in at})
    return np.array([[at[kind, gpu] for gpu in gpus] for kind in kinds])
