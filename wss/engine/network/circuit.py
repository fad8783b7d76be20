"""The circuit network: a transfer holds all resources of its row, except those of requests, for its whole duration.

A transfer takes its latency plus its bytes over the rate of the slowest resource that it holds. It achieves a share of
each resource's bandwidth. Transfers are served in the order of issue; none overtakes another on any resource, even one
that is idle meanwhile (no backfill). With half duplex, both directions of a link are one resource.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from wss.engine.network.resources import Resources
from wss.engine.specs import CircuitSpec
from wss.records import BoolArray, FloatArray, IntArray


class Circuits(NamedTuple):
    """The state of the circuit network.

    Attributes
    ----------
    held
        The resource that is held for each resource: with half duplex the same one for both directions, [resources].
    achieved
        B/s that a transfer achieves, [resources].
    is_link
        Which resources are links, [resources].
    free
        When each resource is free again, s, [resources].
    """

    held: IntArray
    achieved: FloatArray
    is_link: BoolArray
    free: FloatArray


def build_circuits(resources: Resources, spec: CircuitSpec) -> Circuits:
    """Return the state of idle circuits."""
    is_link, dies = resources.is_link, resources.num_dies
    shares = np.where(is_link, spec.link_share, 1.0)
    shares[:dies] = spec.hbm_share
    held = np.arange(len(is_link))
    if spec.duplex == "half":
        number = {tuple(link): dies + i for i, link in enumerate(resources.links.tolist())}
        for (a, b), resource in number.items():
            held[resource] = min(resource, number[b, a])
    return Circuits(held, resources.capacity * shares, is_link, np.zeros(len(held)))


@numba.njit(cache=True, nogil=True)
def issue_circuit(circuits, transfers, now, transfer):  # type: ignore[no-untyped-def]
    """Hold the resources of *transfer* as soon as all are free, for its duration, and return its end, s."""
    table, busy, nbytes = transfers.table, transfers.busy, transfers.nbytes[transfer]
    row = transfers.row[transfer]
    begin, slowest = now, np.inf
    for k in range(table.length[row]):
        r, account = table.resource[row, k], table.account[row, k]
        transfers.moved[account] += table.share[row, k] * nbytes
        if account < busy.size or not circuits.is_link[r]:  # requests hold nothing
            begin = max(begin, circuits.free[circuits.held[r]])
            slowest = min(slowest, circuits.achieved[r])
    takes = table.latency[row] + nbytes / slowest
    for k in range(table.length[row]):
        r = table.resource[row, k]
        if table.account[row, k] < busy.size or not circuits.is_link[r]:
            circuits.free[circuits.held[r]] = begin + takes
            busy[r] += takes
    transfers.finish[transfer] = begin + takes
    return begin + takes
