"""The wafer as a networkx graph: dies are nodes (x, y), D2D links are directed edges with bandwidth and latency."""

from __future__ import annotations

from typing import TypeAlias

import networkx as nx

from wss.hardware.specs import WaferSpec

Coordinate = tuple[int, int]
DieGraph: TypeAlias = "nx.DiGraph[Coordinate]"


def mesh(spec: WaferSpec) -> DieGraph:
    """Return the mesh of *spec*: a link each way between neighbouring dies.

    Each edge has the attributes ``bandwidth`` (B/s) and ``latency`` (s).
    """
    grid = nx.grid_2d_graph(*spec.mesh).to_directed()
    for _, _, attributes in grid.edges(data=True):
        attributes.update(bandwidth=spec.link.bandwidth, latency=spec.link.latency)
    return grid
