"""The compiled networks: the calls of `wss.engine.network.base.Network` on the state of any kind.

A function that uses a network is compiled for one kind: a fluid run does not compile packets and circuits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wss.compiling import borrowing, compiled
from wss.engine.heap import Heap
from wss.engine.network.circuit import advance_circuit, issue_circuit, next_circuit, prepare_circuits
from wss.engine.network.fluid import TIE, advance_fluid, issue_fluid, next_fluid
from wss.engine.network.packet import advance_packets, issue_packets, next_packets, prepare_packets
from wss.engine.network.resources import Accounts, Resources, TransferTable
from wss.engine.network.state import CIRCUIT, FLUID, PACKET, NetworkState, build_resources, build_state
from wss.engine.specs import CircuitSpec, FluidSpec, PacketSpec
from wss.records import FloatArray, IntArray

KINDS = {FluidSpec: FLUID, PacketSpec: PACKET, CircuitSpec: CIRCUIT}


def plain(state: Any) -> Any:
    """Return nested named tuples as plain ones: numba finds the type of a plain argument 100 times as fast."""
    return tuple(plain(each) if isinstance(each, tuple) else each for each in state)


@compiled
def named(state):  # type: ignore[no-untyped-def]
    """Return the `NetworkState` of a `plain` one; the arrays are the same."""
    return NetworkState(Heap(*state[0]), *state[1:])


class _OfKind:
    """One of three compiled functions on a network: the one of its kind, which the type of its state determines.

    To numba it is a dispatcher, as `compiled` is, which hands on to that of the function of this kind.
    """

    is_compiling = False  # for numba: none of them is recursive

    def __init__(self, fluid: compiled, packets: compiled, circuits: compiled) -> None:
        self._fluid, self._packets, self._circuits = fluid, packets, circuits

    def __call__(self, network: NetworkState, *arguments: Any) -> Any:
        """Call the function in plain Python, where compiling is switched off."""
        return self._of(network.used is not None, network.chunks is not None)(network, *arguments)

    def _of(self, is_fluid: bool, is_packets: bool) -> compiled:
        return self._fluid if is_fluid else self._packets if is_packets else self._circuits

    @property
    def _numba_type_(self) -> Any:
        from numba import types  # noqa: PLC0415 -- slow to import

        return types.Dispatcher(self)

    def get_call_template(self, arguments: Sequence[Any], keywords: Any) -> Any:
        """Return numba's template of the function for types of *arguments*."""
        return self._of_type(arguments[0]).get_call_template(arguments, keywords)

    def get_overload(self, arguments: Sequence[Any]) -> Any:
        """Return the function that was compiled for types of *arguments*."""
        return self._of_type(arguments[0]).get_overload(arguments)

    def _of_type(self, state: Any) -> compiled:
        kinds = {field: str(own) for field, own in zip(state.fields, state.types, strict=True)}
        return self._of(kinds["used"] != "none", kinds["chunks"] != "none")


start = _OfKind(issue_fluid, issue_packets, issue_circuit)
# When `advance` is to be called next, from the network and a horizon; see `wss.engine.network.base.Network.next_time`.
next_time = _OfKind(next_fluid, next_packets, next_circuit)
# Advance to *now*; write the transfers that ended to *ended*, [transfers], and return their number. If the next
# transfer of the fluid network ends by *latest*, which differs from *now* by rounding, it ends at *now*.
advance = _OfKind(advance_fluid, advance_packets, advance_circuit)


@borrowing
def issue(network, now, transfer, row):  # type: ignore[no-untyped-def]
    """Start *transfer* at *now* over the resources of *row*; return its end if it is known already, else infinity."""
    network.transfers[transfer].row = row
    return start(network, now, transfer)


@compiled
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
        state = build_state(KINDS[type(spec)], self._records, table, nbytes)
        return prepare_packets(state, spec, longest) if isinstance(spec, PacketSpec) else state

    def start(self, table: TransferTable, nbytes: FloatArray, longest: float) -> CompiledNetwork:
        """Return an idle network; see `wss.engine.network.base.NetworkModel.start`."""
        return CompiledNetwork(self.state(table, nbytes, longest))


@borrowing
def _issue(state, now, transfer, row):  # type: ignore[no-untyped-def]
    return issue(named(state), now, transfer, row)


@borrowing
def _next_time(state, horizon):  # type: ignore[no-untyped-def]
    return next_time(named(state), horizon)


@borrowing
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
