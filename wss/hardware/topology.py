"""The system as a networkx graph: dies and switches are nodes, links are directed edges.

A die is its pair of coordinates; a switch or a network card is its name. Each edge has the attributes ``bandwidth``
(B/s), ``latency`` (s) and ``request`` (bytes of requests, in the other direction, for each byte read over it).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, TypeAlias

from wss.hardware.specs import LinkSpec, SwitchedSpec, WaferSpec

if TYPE_CHECKING:
    import networkx as nx

Coordinate = tuple[int, int]
DieGraph: TypeAlias = "nx.DiGraph[Coordinate]"
End = Coordinate | str
SystemGraph: TypeAlias = "nx.DiGraph[End]"

FABRIC = "fabric"


def mesh(spec: WaferSpec) -> DieGraph:
    """Return the mesh of *spec*: a link in each direction between neighbouring dies."""
    import networkx as nx  # noqa: PLC0415 -- slow to import, and no part of reading a file

    grid = nx.grid_2d_graph(*spec.mesh).to_directed()
    for _, _, attributes in grid.edges(data=True):
        attributes.update(_attributes(spec.link))
    return grid


def switched(spec: SwitchedSpec) -> SystemGraph:
    """Return the graph of *spec*: GPUs joined to their node's switch, and between nodes by cards to the fabric."""
    import networkx as nx  # noqa: PLC0415 -- slow to import, and no part of reading a file

    graph: SystemGraph = nx.DiGraph()
    for die in product(range(spec.nodes), range(spec.gpus)):
        joined: list[tuple[End, End, LinkSpec]] = [(die, switch_of(die), spec.link)]
        if spec.nodes > 1:
            joined += [(die, nic_of(die), spec.nic), (nic_of(die), FABRIC, spec.fabric)]
        for a, b, link in joined:
            graph.add_edge(a, b, **_attributes(link))
            graph.add_edge(b, a, **_attributes(link))
    return graph


def switch_of(die: Coordinate) -> str:
    """Return the name of the switch of the node of *die*."""
    return f"switch({die[0]})"


def nic_of(die: Coordinate) -> str:
    """Return the name of the network card of *die*."""
    return f"nic({die[0]},{die[1]})"


def _attributes(link: LinkSpec) -> dict[str, float]:
    return {"bandwidth": link.bandwidth, "latency": link.latency, "request": link.request / link.granule}
