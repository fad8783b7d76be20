"""The circuit network: a transfer holds all resources of its row, except those of requests, for its whole duration.

A transfer takes its latency plus its bytes over the rate of the slowest resource that it holds. It achieves a share of
each resource's bandwidth. Transfers are served in the order of issue; none overtakes another on any resource, even one
that is idle meanwhile (no backfill). With half duplex, both directions of a link are one resource.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wss.compiling import borrowing
from wss.engine.network.resources import Resources
from wss.engine.specs import CircuitSpec


def prepare_circuits(records: npt.NDArray[Any], resources: Resources, spec: CircuitSpec) -> None:
    """Write to the `RESOURCE` records of *resources* what a transfer achieves of each, and which is held for it."""
    dies = resources.num_dies
    shares = np.where(resources.is_link, spec.link_share, 1.0)
    shares[:dies] = spec.hbm_share
    held = np.arange(len(shares))
    if spec.duplex == "half":
        number = {tuple(link): dies + i for i, link in enumerate(resources.links.tolist())}
        for (a, b), resource in number.items():
            held[resource] = min(resource, number[b, a])
    records["held"], records["achieved"] = held, resources.capacity * shares


@borrowing
def issue_circuit(network, now, index):  # type: ignore[no-untyped-def]
    """Hold the resources of a transfer as soon as all are free, for its duration, and return its end, s."""
    stages, rows, resources, transfer = network.stages, network.rows, network.resources, network.transfers[index]
    row, nbytes = transfer.row, transfer.total_bytes
    begin, slowest = now, np.inf
    for k in range(rows[row].length):
        stage = stages[row, k]
        resource = resources[stage.resource]
        if stage.second:
            resource.also_moved += stage.share * nbytes
        else:
            resource.moved += stage.share * nbytes
        if not stage.request:
            begin, slowest = max(begin, resources[resource.held].free), min(slowest, resource.achieved)
    takes = rows[row].latency + nbytes / slowest
    for k in range(rows[row].length):
        if not stages[row, k].request:
            resource = resources[stages[row, k].resource]
            resources[resource.held].free = begin + takes
            resource.busy += takes
    transfer.finish = begin + takes
    return begin + takes


@borrowing
def next_circuit(network, horizon):  # type: ignore[no-untyped-def]
    """Return infinity: the end of a transfer is known when it is issued."""
    return np.inf


@borrowing
def advance_circuit(network, now, latest, ended):  # type: ignore[no-untyped-def]
    """Return 0: no transfer has an end that is not known already."""
    return 0
