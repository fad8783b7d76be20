"""The fluid network: transfers in progress share HBM ports and links max-min fairly.

A transfer of n bytes joins the sharing after its latency (of a read: LLC miss, HBM, and the hops of request and data).
It then uses, for each byte, its share of every resource in its row: of a read, 1 byte of the source's HBM; 1 byte of
each link on the route from source to die; request/granule bytes of each link from the die to the source, for its
requests; and, if the weights are kept, 1 byte of the die's own HBM. Rates change whenever a transfer joins or ends.
Simultaneous events are batched. Packets, routers and their buffers are not modelled.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import borrowing
from wss.engine.network.maxmin import max_min

# Transfers whose ends differ by less than this share of the time end together; it only absorbs rounding.
TIE = 1e-13


@borrowing
def issue_fluid(network, now, index):  # type: ignore[no-untyped-def]
    """Start a transfer at *now*; when it ends depends on those issued later, so the result is infinite."""
    transfer = network.transfers[index]
    transfer.joins = now + network.rows[transfer.row].latency
    transfer.left, transfer.rate = transfer.total_bytes, 0.0
    network.waiting[network.count[1]] = index
    network.count[1] += 1
    return np.inf


@borrowing
def next_fluid(network, horizon):  # type: ignore[no-untyped-def]
    """Return when the next transfer joins or ends; infinite if none does."""
    then = network.clock[1]
    for i in range(network.count[1]):
        then = min(then, network.transfers[network.waiting[i]].joins)
    return then


@borrowing
def advance_fluid(network, now, latest, ended):  # type: ignore[no-untyped-def]
    """Let transfers join and end at *now*; compute new rates if one does.

    Parameters
    ----------
    now, latest
        s; if the next transfer ends by *latest*, which differs from *now* only by rounding, it ends at *now*.
    ended
        Output: the transfers that ended; the first entries are used, [transfers].

    Returns
    -------
    int
        Number of transfers that ended.
    """
    flowing, clock, transfers = network.count[0], network.clock, network.transfers
    joined = _join(now, transfers, network.flowing, network.waiting, network.count)
    if joined == flowing and clock[1] > latest:
        return 0
    num_ended = _move(network, now, ended)
    clock[0] = now
    flows = network.flowing[: network.count[0]]
    max_min(flows, network)
    soonest = np.inf
    for f in flows:
        transfers[f].finish = now + transfers[f].left / transfers[f].rate
        soonest = min(soonest, transfers[f].finish)
    clock[1] = soonest
    return num_ended


@borrowing
def _join(now, transfers, flowing, waiting, count):  # type: ignore[no-untyped-def]
    """Move transfers that join by *now* from *waiting* to *flowing*; return how many are flowing."""
    kept = 0
    for i in range(count[1]):
        if transfers[waiting[i]].joins <= now:
            flowing[count[0]] = waiting[i]
            count[0] += 1
        else:
            waiting[kept] = waiting[i]
            kept += 1
    count[1] = kept
    return count[0]


@borrowing
def _move(network, now, ended):  # type: ignore[no-untyped-def]
    """Move bytes at the rates since the last change; return how many transfers have ended."""
    stages, rows, resources, flowing = network.stages, network.rows, network.resources, network.flowing
    elapsed = now - network.clock[0]
    for r in range(resources.size):
        resources[r].in_use = False
    going, num_ended = 0, 0
    for f in flowing[: network.count[0]]:
        transfer = network.transfers[f]
        done = transfer.finish <= now * (1.0 + TIE)
        amount = transfer.left if done else min(transfer.left, transfer.rate * elapsed)
        if transfer.rate > 0.0:  # a transfer that joins now has not moved yet
            for k in range(rows[transfer.row].length):
                stage = stages[transfer.row, k]
                resource = resources[stage.resource]
                resource.in_use = True
                if stage.second:
                    resource.also_moved += stage.share * amount
                else:
                    resource.moved += stage.share * amount
        transfer.left -= amount
        if done:
            transfer.finish = now
            ended[num_ended] = f
            num_ended += 1
        else:
            flowing[going] = f
            going += 1
    for r in range(resources.size):
        if resources[r].in_use:
            resources[r].busy += elapsed
    network.count[0] = going
    return num_ended
