"""Transfers over links that start at given times: phases of an all-to-all, and `wss flows`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import simpy

from wss.engine.network.base import Network, NetworkModel
from wss.engine.network.compiled import CompiledModel, plain, run_transfers
from wss.engine.network.resources import Accounts, Resources, TransferTable, link_table
from wss.engine.network.simpy_network import SimpyNetwork
from wss.engine.specs import NetworkSpec
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
        return self if flows.all() else PhaseRoutes(self.paths[flows], self.lengths[flows], self.latency[flows])

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
    link_bytes: FloatArray
    link_busy: FloatArray


PhaseModel = Callable[[PhaseRoutes, FloatArray], PhaseResult]


def proportional_share(routes: PhaseRoutes, loads: FloatArray, wafer: Wafer) -> PhaseResult:
    """Return the phase in which flows along *routes* share links in proportion to their bytes; *loads* is [links].

    All flows over the busiest link end together, when it has carried everything. The same holds for the next busiest
    link and the remaining flows. So a flow ends its latency after its busiest link has carried its whole load.
    """
    seconds = loads / wafer.link_bandwidth
    slowest = np.where(routes.paths >= 0, seconds[routes.paths], 0.0).max(axis=1)
    return PhaseResult(float((routes.latency + slowest).max()), loads, seconds)


def network_share(spec: NetworkSpec, wafer: Wafer) -> PhaseModel:
    """Return the model of phases whose flows start together and share links as the network of *spec* does."""
    resources = Resources.from_wafer(wafer)
    model = spec.model(resources)
    tables: dict[int, tuple[PhaseRoutes, TransferTable]] = {}  # with the routes, so that their ids stay theirs

    def share(routes: PhaseRoutes, nbytes: FloatArray) -> PhaseResult:
        if id(routes) not in tables:
            if len(tables) == 2:  # dispatch and combine, if every die sends to every other; else routes are new
                tables.clear()
            tables[id(routes)] = routes, link_table(resources, routes.paths, routes.latency, wafer.link_latency)
        _, table = tables[id(routes)]
        finish, accounts = transfer_all(model, resources, table, nbytes, np.zeros(len(nbytes)))
        traffic = resources.traffic(accounts)
        return PhaseResult(float(finish.max()), traffic.link_data, traffic.link_busy)

    return share


def transfer_all(
    model: NetworkModel, resources: Resources, table: TransferTable, nbytes: FloatArray, start: FloatArray
) -> tuple[FloatArray, Accounts]:
    """Run transfers of *nbytes* from their *start*, s, each over its own row of *table*; [transfers] each.

    Those that start together are issued in order of index. A transfer that uses no resource ends when it starts.

    Returns
    -------
    tuple
        When each ends, s, [transfers], and what each resource has carried.
    """
    order, longest = np.argsort(start, kind="stable"), float(start.max()) + table.longest(resources, nbytes)
    if isinstance(model, CompiledModel):
        state = model.state(table, nbytes, longest)
        run_transfers(plain(state), start, order)
        return np.array(state.transfers["finish"]), state.accounts
    network = model.start(table, nbytes, longest)
    return _run_on_simpy(network, table, start, order), network.accounts()


def _run_on_simpy(network: Network, table: TransferTable, start: FloatArray, order: IntArray) -> FloatArray:
    """Run all transfers on a SimPy clock; return when each ends, s, [transfers]."""
    env, finish = simpy.Environment(), start.copy()
    on_clock = SimpyNetwork(env, network)

    def issue(begin: simpy.Event) -> None:
        transfer = cast("int", begin.value)
        end = on_clock.transfer(transfer, transfer)
        assert end.callbacks is not None
        end.callbacks.append(lambda event: finish.__setitem__(transfer, event.value))

    for transfer in order.tolist():
        if table.rows[transfer]["length"] > 0:
            begin = env.timeout(float(start[transfer]), transfer)
            assert begin.callbacks is not None
            begin.callbacks.append(issue)
    env.run()
    return finish
