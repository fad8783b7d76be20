"""The wafer as a networkx graph: dies are nodes (x, y), D2D links are directed edges with bandwidth and latency."""

from __future__ import annotations

import networkx as nx

from wss.hardware.specs import WaferSpec

Coordinate = tuple[int, int]
DieGraph = nx.DiGraph


def mesh(spec: WaferSpec) -> DieGraph:
    """Return the mesh of *spec*: a link each way between neighbouring dies.

    Each edge has the attributes ``bandwidth`` (B/s) and ``latency`` (s).
    """
    grid = nx.grid_2d_graph(*spec.mesh).to_directed()
    nx.set_edge_attributes(grid, spec.link.bandwidth, "bandwidth")
    nx.set_edge_attributes(grid, spec.link.latency, "latency")
    return grid
