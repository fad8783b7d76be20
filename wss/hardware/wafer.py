"""The wafer as the simulator uses it: built once from the graph, then sealed into read-only arrays.

Dies are numbered in order of (x, y), dead ones left out: y + x·Y on a healthy wafer. Links are numbered in order of
(source die, target die).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from wss.errors import ConfigError
from wss.hardware import faults, topology
from wss.hardware.faults import FaultSpec
from wss.hardware.routing import live_routes, xy_routes
from wss.hardware.specs import WaferSpec

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Wafer:
    """A sealed wafer.

    Attributes
    ----------
    spec
        The datasheet it was built from.
    coordinates
        x and y of each die, [dies, 2].
    links
        Source and target die of each D2D link, [links, 2].
    link_bandwidth, link_latency
        B/s and s of each link, [links].
    hops
        Links on the route from one die to another, [dies, dies].
    routes
        The link numbers of the route, first link first, -1 after the last, [dies, dies, longest route].
    """

    spec: WaferSpec
    coordinates: IntArray
    links: IntArray
    link_bandwidth: FloatArray
    link_latency: FloatArray
    hops: IntArray
    routes: IntArray

    @property
    def num_dies(self) -> int:
        """How many dies there are."""
        return len(self.coordinates)

    @property
    def num_links(self) -> int:
        """How many directed D2D links there are."""
        return len(self.links)

    @property
    def usable_hbm(self) -> float:
        """Bytes of one die's HBM that weights and copies may use."""
        return self.spec.die.hbm.size * (1.0 - self.spec.die.hbm.reserve)

    def achieving(self, hbm_share: float) -> Wafer:
        """Return this wafer with HBMs that give *hbm_share* of their bandwidth."""
        hbm = replace(self.spec.die.hbm, bandwidth=self.spec.die.hbm.bandwidth * hbm_share)
        return replace(self, spec=replace(self.spec, die=replace(self.spec.die, hbm=hbm)))


def build(spec: WaferSpec, fault_spec: FaultSpec | None = None) -> Wafer:
    """Build the wafer of *spec*, with its faults: graph, routes, sealed arrays.

    Raises
    ------
    ConfigError
        If the faults are not on the mesh, or cut it into parts.
    """
    healthy = topology.mesh(spec)
    graph = healthy
    if fault_spec is not None:
        if wrong := faults.faults_of(fault_spec, healthy):
            raise ConfigError(*(f"faults: {line}" for line in wrong))
        graph = faults.apply(fault_spec, healthy)
    is_whole = graph.number_of_edges() == healthy.number_of_edges()
    ways = xy_routes(graph) if is_whole else live_routes(graph)
    dies = sorted(graph.nodes)
    number = {die: i for i, die in enumerate(dies)}
    links = sorted((number[a], number[b]) for a, b in graph.edges)
    link_number = {link: i for i, link in enumerate(links)}

    def along(path: list[topology.Coordinate]) -> list[int]:
        return [link_number[number[a], number[b]] for a, b in pairwise(path)]

    paths = [[along(ways[source][target]) for target in dies] for source in dies]
    hops = np.array([[len(path) for path in row] for row in paths], dtype=np.int64)
    routes = np.full((len(dies), len(dies), int(hops.max())), -1, dtype=np.int64)
    for source, row in enumerate(paths):
        for target, path in enumerate(row):
            routes[source, target, : len(path)] = path

    edges = [graph.edges[dies[a], dies[b]] for a, b in links]
    wafer = Wafer(
        spec=spec,
        coordinates=np.array(dies, dtype=np.int64),
        links=np.array(links, dtype=np.int64).reshape(-1, 2),
        link_bandwidth=np.array([edge["bandwidth"] for edge in edges], dtype=np.float64),
        link_latency=np.array([edge["latency"] for edge in edges], dtype=np.float64),
        hops=hops,
        routes=routes,
    )
    for array in (wafer.coordinates, wafer.links, wafer.link_bandwidth, wafer.link_latency, wafer.hops, wafer.routes):
        array.flags.writeable = False
    return wafer
