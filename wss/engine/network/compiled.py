"""The compiled networks: the calls of `wss.engine.network.base.Network` on the state of any kind.

The kind is an integer: numba's cache on disk does not find functions that are passed as arguments.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from wss.engine.heap import Heap
from wss.engine.network.circuit import issue_circuit, prepare_circuits
from wss.engine.network.fluid import TIE, advance_fluid, issue_fluid, next_fluid
from wss.engine.network.packet import advance_packets, issue_packets, next_packets, prepare_packets
from wss.engine.network.resources import Accounts, Resources, TransferTable
from wss.engine.network.state import NetworkState, build_resources, build_state
from wss.engine.specs import CircuitSpec, FluidSpec, PacketSpec
from wss.records import FloatArray, IntArray

FLUID, PACKET, CIRCUIT = 0, 1, 2
_KINDS = {FluidSpec: FLUID, PacketSpec: PACKET, CircuitSpec: CIRCUIT}


def plain(state: Any) -> Any:
    """Return nested named tuples as plain ones: numba finds the type of a plain argument 100 times as fast."""
    return tuple(plain(each) if isinstance(each, tuple) else each for each in state)


@numba.njit(cache=True, nogil=True)
def named(state):  # type: ignore[no-untyped-def]
    """Return the `NetworkState` of a `plain` one; the arrays are the same."""
    return NetworkState(Heap(*state[0]), *state[1:])


@numba.njit(cache=True, nogil=True)
def issue(network, now, transfer, row):  # type: ignore[no-untyped-def]
    """Start *transfer* at *now* over the resources of *row*; return its end if it is known already, else infinity."""
    network.transfers[transfer].row = row
    if network.kind == FLUID:
        return issue_fluid(network, now, transfer)
    if network.kind == PACKET:
        return issue_packets(network, now, transfer)
    return issue_circuit(network, now, transfer)


@numba.njit(cache=True, nogil=True)
def next_time(network, horizon):  # type: ignore[no-untyped-def]
    """Return when `advance` is to be called next; see `wss.engine.network.base.Network.next_time`."""
    if network.kind == FLUID:
        return next_fluid(network)
    if network.kind == PACKET:
        return next_packets(network, horizon)
    return np.inf


@numba.njit(cache=True, nogil=True)
def advance(network, now, latest, ended):  # type: ignore[no-untyped-def]
    """Advance to *now*; write the transfers that ended to *ended*, [transfers], and return their number.

    If the next transfer of the fluid network ends by *latest*, which differs from *now* by rounding, it ends at *now*.
    """
    if network.kind == FLUID:
        return advance_fluid(network, now, latest, ended)
    if network.kind == PACKET:
        return advance_packets(network, now, ended)
    return 0


@numba.njit(cache=True, nogil=True)
def run_transfers(state, start, order):  # type: ignore[no-untyped-def]
    """Run all transfers of a `plain` state.

    Each uses its own row, and is issued at *start*, s, [transfers], in the given *order* of start.
    """
    network = named(state)
    ended, issued = np.zeros(start.size, np.int64), 0
    while True:
        horizon = start[order[issued]] if issued < start.size else np.inf
        now = min(next_time(network, horizon), horizon)
        if now == np.inf:
            return
        while issued < start.size and start[order[issued]] == now:
            transfer = order[issued]
            issued += 1
            if network.rows[transfer].length == 0:
                network.transfers[transfer].finish = now
            else:
                issue(network, now, transfer, transfer)
        advance(network, now, now, ended)


class CompiledModel:
    """A compiled network over *resources*."""

    def __init__(self, spec: FluidSpec | PacketSpec | CircuitSpec, resources: Resources) -> None:
        self._spec, self._records = spec, build_resources(resources)
        self.in_turns = isinstance(spec, PacketSpec)
        if isinstance(spec, CircuitSpec):
            prepare_circuits(self._records, resources, spec)

    def state(self, table: TransferTable, nbytes: FloatArray, longest: float) -> NetworkState:
        """Return the state of an idle network; see `wss.engine.network.base.NetworkModel.start`."""
        spec = self._spec
        state = build_state(_KINDS[type(spec)], self._records, table, nbytes)
        return prepare_packets(state, spec, longest) if isinstance(spec, PacketSpec) else state

    def start(self, table: TransferTable, nbytes: FloatArray, longest: float) -> CompiledNetwork:
        """Return an idle network; see `wss.engine.network.base.NetworkModel.start`."""
        return CompiledNetwork(self.state(table, nbytes, longest))


@numba.njit(cache=True, nogil=True)
def _issue(state, now, transfer, row):  # type: ignore[no-untyped-def]
    return issue(named(state), now, transfer, row)


@numba.njit(cache=True, nogil=True)
def _next_time(state, horizon):  # type: ignore[no-untyped-def]
    return next_time(named(state), horizon)


@numba.njit(cache=True, nogil=True)
def _advance(state, now, latest, ended):  # type: ignore[no-untyped-def]
    return advance(named(state), now, latest, ended)


class CompiledNetwork:
    """A compiled network behind the calls of `wss.engine.network.base.Network`."""

    def __init__(self, state: NetworkState) -> None:
        self._state, self._plain = state, plain(state)
        self._ended: IntArray = np.zeros(len(state.transfers), np.int64)

    def issue(self, now: float, transfer: int, row: int) -> float:
        """Start *transfer* at *now* over the resources of *row*; return its end if it is known already."""
        return float(_issue(self._plain, now, transfer, row))

    def next_time(self, horizon: float) -> float:
        """Return when to call `advance` next, s; infinite if there is no need to."""
        return float(_next_time(self._plain, horizon))

    def advance(self, now: float) -> list[tuple[int, float]]:
        """Advance to *now*; return the transfers that ended, and when."""
        number = _advance(self._plain, now, now * (1.0 + TIE), self._ended)
        finish = self._state.transfers["finish"]
        return [(transfer, float(finish[transfer])) for transfer in self._ended[:number].tolist()]

    def accounts(self) -> Accounts:
        """Return what each resource has carried so far."""
        return self._state.accounts
