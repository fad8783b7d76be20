"""Heat maps of the ports of GPUs behind switches: how much of what it could carry each port carried."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from wss.report.plotting import HEAT, WIDTH, paper, save, shorten

Link = dict[str, Any]

GPU = re.compile(r"\((\d+),(\d+)\)")
KINDS = ("GPU->switch", "switch->GPU", "GPU->nic", "nic->GPU", "nic->fabric", "fabric->nic")


def is_port(link: Link) -> bool:
    """Whether a row of links.parquet is of a port, not of a link between two dies of a mesh."""
    return kind_of(link["link"]) in KINDS


def kind_of(name: str) -> str:
    """Return what a port joins, which way, such as ``GPU->switch`` for ``(0,3)->switch(0)``."""
    return re.sub(r"(?<=\w)\(.*?\)", "", re.sub(r"(?<!\w)\(.*?\)", "GPU", name))


def write_portmap(links: Sequence[Link], title: str, path: Path, what: str, busiest: Mapping[str, float]) -> Path:
    """Draw the ports of all GPUs, a table for each policy in *links*, rows of links.parquet, to *path*; return it.

    A row is a kind of port, a column a GPU, in order of nodes. *what* is the name of the scale, *busiest* by policy how
    much of what it could carry the busiest port carried. There has to be a port.
    """
    policies = list(dict.fromkeys(link["policy"] for link in links))
    kinds = [kind for kind in KINDS if kind in {kind_of(link["link"]) for link in links}]
    most = max(link["utilization"] for link in links) or 1.0
    with paper() as plt:
        size = (WIDTH, (0.15 * len(kinds) + 0.45) * len(policies) + 0.6)
        fig, axes = plt.subplots(len(policies), 1, figsize=size, layout="constrained", squeeze=False)
        for axis, policy in zip(axes[:, 0], policies, strict=True):
            shown = ports_of([link for link in links if link["policy"] == policy], kinds)
            image = axis.imshow(shown, cmap=f"{HEAT}_r", vmin=0, vmax=most, aspect="auto", interpolation="nearest")
            axis.set_yticks(range(len(kinds)), kinds)
            axis.set_xticks([])
            axis.set_title(f"{shorten(policy, 24)}, busiest {busiest[policy]:.1%}")
        axes[-1, 0].set_xlabel(f"{shown.shape[1]} GPUs, in order of nodes")
        fig.colorbar(image, ax=list(axes[:, 0]), label=what, format=lambda value, _: f"{100 * value:.3g}%")
        fig.suptitle(fill(title, 100))
        return save(fig, path)


def ports_of(links: Sequence[Link], kinds: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return the utilisation of each kind of port of each GPU, [kinds, GPUs]."""
    at: dict[tuple[str, tuple[int, int]], float] = {}
    for link in links:
        node, gpu = GPU.findall(link["link"])[0]
        at[kind_of(link["link"]), (int(node), int(gpu))] = link["utilization"]
    gpus = sorted({gpu for _, gpu in at})
    return np.array([[at[kind, gpu] for gpu in gpus] for kind in kinds])
