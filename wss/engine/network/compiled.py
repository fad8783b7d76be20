"""The compiled networks: one state for all kinds, and the calls of `wss.engine.network.base.Network` on it.

The kind is an integer, and the states of the other kinds are empty: numba's cache on disk does not find functions that
are passed as arguments.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from wss.engine.network.circuit import Circuits, build_circuits, issue_circuit
from wss.engine.network.fluid import TIE, Fluid, advance_fluid, build_fluid, issue_fluid, next_fluid
from wss.engine.network.packet import Packets, advance_packets, build_packets, issue_packets, next_packets
from wss.engine.network.resources import Resources, TransferTable, build_table
from wss.engine.specs import CircuitSpec, FluidSpec, PacketSpec
from wss.records import FloatArray, IntArray

FLUID, PACKET, CIRCUIT = 0, 1, 2
_KINDS = {FluidSpec: FLUID, PacketSpec: PACKET, CircuitSpec: CIRCUIT}


class Transfers(NamedTuple):
    """What the networks have in common.

    Attributes
    ----------
    table, capacity
        The resources of each row, and B/s of each resource, [resources].
    row, nbytes, finish
        Row, bytes and end (s, infinite before) of each transfer, [transfers] each.
    moved, busy
        Bytes booked to each account, [accounts], and seconds in which each resource was in use, [resources].
    """

    table: TransferTable
    capacity: FloatArray
    row: IntArray
    nbytes: FloatArray
    finish: FloatArray
    moved: FloatArray
    busy: FloatArray


class NetworkState(NamedTuple):
    """A network of any kind at work."""

    kind: int
    transfers: Transfers
    fluid: Fluid
    packets: Packets
    circuits: Circuits


@numba.njit(cache=True, nogil=True)
def issue(network, now, transfer, row):  # type: ignore[no-untyped-def]
    """Start *transfer* at *now* over the resources of *row*; return its end if it is known already, else infinity."""
    network.transfers.row[transfer] = row
    if network.kind == FLUID:
        return issue_fluid(network.fluid, network.transfers, now, transfer)
    if network.kind == PACKET:
        return issue_packets(network.packets, now, transfer)
    return issue_circuit(network.circuits, network.transfers, now, transfer)


@numba.njit(cache=True, nogil=True)
def next_time(network, horizon):  # type: ignore[no-untyped-def]
    """Return when `advance` is to be called next; see `wss.engine.network.base.Network.next_time`."""
    if network.kind == FLUID:
        return next_fluid(network.fluid)
    if network.kind == PACKET:
        return next_packets(network.packets, network.transfers, horizon)
    return np.inf


@numba.njit(cache=True, nogil=True)
def advance(network, now, horizon, ended):  # type: ignore[no-untyped-def]
    """Advance to *now*; write the transfers that ended to *ended*, [transfers], and return their number.

    Transfers of the fluid network that end up to *horizon*, which differs from *now* only by rounding, end at *now*.
    """
    if network.kind == FLUID:
        return advance_fluid(network.fluid, network.transfers, now, horizon, ended)
    if network.kind == PACKET:
        return advance_packets(network.packets, network.transfers, now, ended)
    return 0


@numba.njit(cache=True, nogil=True)
def run_transfers(network, start, order):  # type: ignore[no-untyped-def]
    """Run all transfers: each in its own row, issued at *start*, s, [transfers], in the given *order* of start."""
    ended, issued, length = np.zeros(start.size, np.int64), 0, network.transfers.table.length
    while True:
        horizon = start[order[issued]] if issued < start.size else np.inf
        now = min(next_time(network, horizon), horizon)
        if now == np.inf:
            return
        while issued < start.size and start[order[issued]] == now:
            transfer = order[issued]
            issued += 1
            if length[transfer] == 0:
                network.transfers.finish[transfer] = now
            else:
                issue(network, now, transfer, transfer)
        advance(network, now, now, ended)


class CompiledModel:
    """A compiled network over *resources*."""

    def __init__(self, spec: FluidSpec | PacketSpec | CircuitSpec, resources: Resources) -> None:
        self._spec, self.kind, self._resources = spec, _KINDS[type(spec)], resources
        self.in_turns = self.kind == PACKET
        if isinstance(spec, CircuitSpec):
            self._circuits = build_circuits(resources, spec)
        else:
            self._circuits = build_circuits(Resources(np.zeros(0), 0, np.zeros((0, 2), np.int64)), CircuitSpec())
        self._no_fluid = build_fluid(0, 0)
        self._no_packets = build_packets(PacketSpec(), build_table(0, 0), np.zeros(0), np.zeros(0), 0.0)

    def state(self, table: TransferTable, nbytes: FloatArray, idle: float) -> NetworkState:
        """Return the state of an idle network; see `wss.engine.network.base.NetworkModel.start`."""
        capacity, num = self._resources.capacity, len(nbytes)
        accounts, busy = np.zeros(2 * len(capacity)), np.zeros(len(capacity))
        transfers = Transfers(table, capacity, np.zeros(num, np.int64), nbytes, np.full(num, np.inf), accounts, busy)
        fluid, packets = self._no_fluid, self._no_packets
        if isinstance(self._spec, FluidSpec):
            fluid = build_fluid(num, len(capacity))
        elif isinstance(self._spec, PacketSpec):
            packets = build_packets(self._spec, table, nbytes, capacity, idle)
        circuits = self._circuits._replace(free=np.zeros_like(self._circuits.free))
        return NetworkState(self.kind, transfers, fluid, packets, circuits)

    def start(self, table: TransferTable, nbytes: FloatArray, idle: float) -> CompiledNetwork:
        """Return an idle network; see `wss.engine.network.base.NetworkModel.start`."""
        return CompiledNetwork(self.state(table, nbytes, idle))


class CompiledNetwork:
    """A compiled network behind the calls of `wss.engine.network.base.Network`."""

    def __init__(self, state: NetworkState) -> None:
        self._state = state
        self._ended: IntArray = np.zeros(len(state.transfers.nbytes), np.int64)

    def issue(self, now: float, transfer: int, row: int) -> float:
        """Start *transfer* at *now* over the resources of *row*; return its end if it is known already."""
        return float(issue(self._state, now, transfer, row))

    def next_time(self, horizon: float) -> float:
        """Return when to call `advance` next; infinite if nothing is in flight."""
        return float(next_time(self._state, horizon))

    def advance(self, now: float) -> list[tuple[int, float]]:
        """Advance to *now*; return the transfers that ended, and when."""
        number = advance(self._state, now, now * (1.0 + TIE), self._ended)
        finish = self._state.transfers.finish
        return [(transfer, float(finish[transfer])) for transfer in self._ended[:number].tolist()]

    def accounts(self) -> tuple[FloatArray, FloatArray]:
        """Return the bytes of each account and the busy seconds of each resource so far."""
        return self._state.transfers.moved, self._state.transfers.busy
