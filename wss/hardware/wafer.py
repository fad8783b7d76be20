"""The wafer as the simulator uses it: built once from the graph, as read-only arrays.

Live dies are indexed in order of (x, y): y + x·Y on a healthy wafer. Switches and network cards follow, in order of
their names. Links are indexed in order of (source, target). Nodes of GPUs are a wafer too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from wss.errors import ConfigError
from wss.hardware import faults, topology
from wss.hardware.faults import FaultSpec
from wss.hardware.routing import live_routes, switched_route, xy_routes
from wss.hardware.specs import SwitchedSpec, SystemSpec
from wss.hardware.topology import Coordinate, DieGraph, End, SystemGraph
from wss.records import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Wafer:
    """A read-only wafer.

    Attributes
    ----------
    spec
        The datasheet it was built from.
    coordinates
        x and y of each die, or node and GPU, [dies, 2].
    switches
        Names of the switches and network cards; none on a mesh.
    links
        Source and target of each link, [links, 2]: a die, or a switch if the index is not below the number of dies.
    link_bandwidth, link_latency
        B/s and s of each link, [links].
    link_request
        Bytes of requests, in the other direction, for each byte that is read over a link, [links].
    hops
        Links on the route from one die to another, [dies, dies].
    routes
        Indices of the links of the route, first link first, padded with -1, [dies, dies, longest route].
    """

    spec: SystemSpec
    coordinates: IntArray
    switches: tuple[str, ...]
    links: IntArray
    link_bandwidth: FloatArray
    link_latency: FloatArray
    link_request: FloatArray
    hops: IntArray
    routes: IntArray

    @property
    def num_dies(self) -> int:
        """Number of dies."""
        return len(self.coordinates)

    @property
    def num_links(self) -> int:
        """Number of directed links."""
        return len(self.links)

    @property
    def nodes(self) -> IntArray | None:
        """The node of each GPU, ascending, [dies]; None on a mesh."""
        return self.coordinates[:, 0] if isinstance(self.spec, SwitchedSpec) else None

    @property
    def dead_dies(self) -> list[tuple[int, int]]:
        """The dead dies of the mesh; none for GPUs."""
        if isinstance(self.spec, SwitchedSpec):
            return []
        living = set(map(tuple, self.coordinates.tolist()))
        return [die for die in sorted(topology.mesh(self.spec)) if die not in living]

    @property
    def dead_links(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """The dead links between live dies, one entry for both directions."""
        if isinstance(self.spec, SwitchedSpec):
            return []
        living = list(map(tuple, self.coordinates.tolist()))
        links = {(living[a], living[b]) for a, b in self.links.tolist()}
        every = sorted(topology.mesh(self.spec).edges)
        return [(a, b) for a, b in every if a < b and a in living and b in living and (a, b) not in links]

    def place(self, end: int) -> tuple[int, int] | None:
        """Return the coordinates of an end of a link; None for a switch."""
        return (int(self.coordinates[end, 0]), int(self.coordinates[end, 1])) if end < self.num_dies else None

    def name(self, end: int) -> str:
        """Return the name of an end of a link, such as ``(0,1)`` or ``switch(0)``."""
        die = self.place(end)
        return self.switches[end - self.num_dies] if die is None else f"({die[0]},{die[1]})"

    def link_name(self, link: int) -> str:
        """Return the name of a link: its two ends, such as ``(0,0)->(1,0)`` or ``(0,3)->switch(0)``."""
        source, target = self.links[link].tolist()
        return f"{self.name(source)}->{self.name(target)}"

    @property
    def usable_hbm(self) -> float:
        """Bytes of one die's HBM that weights and copies may use."""
        return self.spec.die.hbm.size * (1.0 - self.spec.die.hbm.reserve)

    def achieving(self, hbm_share: float) -> Wafer:
        """Return this wafer with HBM that achieves *hbm_share* of its bandwidth."""
        hbm = replace(self.spec.die.hbm, bandwidth=self.spec.die.hbm.bandwidth * hbm_share)
        return replace(self, spec=replace(self.spec, die=replace(self.spec.die, hbm=hbm)))


def build(spec: SystemSpec, fault_spec: FaultSpec | None = None) -> Wafer:
    """Build the wafer of *spec*, with its faults: graph, routes, read-only arrays.

    Raises ConfigError if the faults are not on the mesh, or cut it into parts.
    """
    if fault_spec is not None and (wrong := faults.faults_on(spec, fault_spec)):
        raise ConfigError(*(f"faults: {line}" for line in wrong))
    if isinstance(spec, SwitchedSpec):
        return _seal(spec, topology.switched(spec), switched_route)
    healthy = topology.mesh(spec)
    graph = healthy if fault_spec is None else faults.apply(fault_spec, healthy)
    is_whole = graph.number_of_edges() == healthy.number_of_edges()
    ways = xy_routes(graph) if is_whole else live_routes(graph)
    return _seal(spec, graph, lambda source, target: ways[source][target])


def _seal(
    spec: SystemSpec, graph: SystemGraph | DieGraph, route: Callable[[Coordinate, Coordinate], Sequence[End]]
) -> Wafer:
    """Index the dies, switches and links of *graph*; return the wafer with the *route* of every pair of dies."""
    dies = sorted(end for end in graph if isinstance(end, tuple))
    switches = sorted(end for end in graph if isinstance(end, str))
    ends: list[End] = [*dies, *switches]
    number = {end: i for i, end in enumerate(ends)}
    edges = sorted(((number[a], number[b]), attributes) for a, b, attributes in graph.edges(data=True))
    link_number = {ends: i for i, (ends, _) in enumerate(edges)}

    def along(path: Sequence[End]) -> list[int]:
        return [link_number[number[a], number[b]] for a, b in pairwise(path)]

    def each(attribute: str) -> FloatArray:
        return np.array([attributes[attribute] for _, attributes in edges], dtype=np.float64)

    paths = [[along(route(source, target)) for target in dies] for source in dies]
    hops = np.array([[len(path) for path in row] for row in paths], dtype=np.int64)
    routes = np.full((len(dies), len(dies), int(hops.max())), -1, dtype=np.int64)
    for source, row in enumerate(paths):
        for target, path in enumerate(row):
            routes[source, target, : len(path)] = path
    wafer = Wafer(
        spec=spec,
        coordinates=np.array(dies, dtype=np.int64),
        switches=tuple(switches),
        links=np.array(list(link_number), dtype=np.int64).reshape(-1, 2),
        link_bandwidth=each("bandwidth"),
        link_latency=each("latency"),
        link_request=each("request"),
        hops=hops,
        routes=routes,
    )
    for array in vars(wafer).values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return wafer
