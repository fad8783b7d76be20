"""Phases of a collective: when flows that start together have all ended, and the traffic of each link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wss.engine.held import held_flows
from wss.engine.network.base import CircuitSpec, FluidSpec, PacketSpec
from wss.engine.network.circuit import CircuitModel
from wss.engine.packet import packet_flows
from wss.hardware.wafer import Wafer
from wss.records import BoolArray, FloatArray, IntArray


class PhaseRoutes(NamedTuple):
    """The routes of flows, one for each pair of dies.

    Attributes
    ----------
    paths, lengths
        Links of each flow and their number, [flows, longest] and [flows]; -1 is no link.
    latency
        Seconds over the links of each flow, [flows].
    """

    paths: IntArray
    lengths: IntArray
    latency: FloatArray

    def only(self, flows: BoolArray) -> PhaseRoutes:
        """Return the routes of the selected *flows*, bool [flows]."""
        return PhaseRoutes(self.paths[flows], self.lengths[flows], self.latency[flows])

    def loads(self, nbytes: FloatArray, num_links: int) -> FloatArray:
        """Return the bytes over each link, [links], for flows of *nbytes*, [flows]."""
        links = self.paths[self.paths >= 0]
        return np.bincount(links, np.repeat(nbytes, self.lengths), num_links).astype(np.float64)


def build_routes(wafer: Wafer, source: IntArray, *stops: IntArray) -> PhaseRoutes:
    """Return the routes of flows from each *source* to its next stop, and on from stop to stop, [flows] each."""
    legs = list(zip((source, *stops), stops, strict=False))
    paths = np.ascontiguousarray(np.concatenate([wafer.routes[a, b] for a, b in legs], axis=1))
    latency = np.where(paths >= 0, wafer.link_latency[paths], 0.0).sum(axis=1)
    return PhaseRoutes(paths, np.add.reduce([wafer.hops[a, b] for a, b in legs]), latency)


class PhaseResult(NamedTuple):
    """The result of a phase: its end (s), and bytes and busy seconds of each link, [links] each."""

    end: float
    carried: FloatArray
    busy: FloatArray


PhaseModel = Callable[[PhaseRoutes, FloatArray], PhaseResult]


def proportional_share(way: PhaseRoutes, loads: FloatArray, wafer: Wafer) -> PhaseResult:
    """Return the phase in which flows along *way* share links in proportion to their bytes; *loads* is bytes, [links].

    All flows over the busiest link end together, when it has carried everything. The same holds for the next busiest
    link and the remaining flows. So a flow ends its latency after its busiest link has carried its whole load.
    """
    seconds = loads / wafer.link_bandwidth
    slowest = np.where(way.paths >= 0, seconds[way.paths], 0.0).max(axis=1)
    return PhaseResult(float((way.latency + slowest).max()), loads, seconds)


def _fluid(_: FluidSpec, wafer: Wafer) -> PhaseModel:
    """Return the phase model of fluid flows: shares by bytes, as in a well-scheduled collective (docs/model.md)."""
    return lambda way, nbytes: proportional_share(way, way.loads(nbytes, wafer.num_links), wafer)


def _packet(spec: PacketSpec, wafer: Wafer) -> PhaseModel:
    """Return the phase model of chunks that queue first come, first served; simultaneous flows alternate."""

    def carry(way: PhaseRoutes, nbytes: FloatArray) -> PhaseResult:
        start = np.zeros(len(nbytes))
        finish, busy = packet_flows(
            start, nbytes, spec.chunk, spec.window, way.paths, way.lengths, wafer.link_bandwidth, wafer.link_latency
        )
        return PhaseResult(float(finish.max()), busy * wafer.link_bandwidth, busy)

    return carry


def _circuit(spec: CircuitSpec, wafer: Wafer) -> PhaseModel:
    """Return the phase model of transfers that hold whole routes, in the order of the flows, without overtaking."""
    model = CircuitModel(wafer, spec.duplex)
    resource = model.shared[model.is_link] - wafer.num_dies
    bandwidth = wafer.link_bandwidth * spec.link_share

    def carry(way: PhaseRoutes, nbytes: FloatArray) -> PhaseResult:
        start = np.zeros(len(nbytes))
        finish, busy = held_flows(start, nbytes, way.paths, way.lengths, resource, bandwidth, wafer.link_latency)
        return PhaseResult(float(finish.max()), way.loads(nbytes, wafer.num_links), busy)

    return carry


CARRIERS: dict[type, Callable[[Any, Wafer], PhaseModel]] = {
    FluidSpec: _fluid,
    PacketSpec: _packet,
    CircuitSpec: _circuit,
}
