"""The fluid network: transfers in progress share HBM ports and links max-min fairly.

A transfer of n bytes joins the sharing after its latency (of a read: LLC miss, HBM, and the hops of request and data).
It then uses, for each byte, its share of every resource in its row: of a read, 1 byte of the source's HBM; 1 byte of
each link on the route from source to die; request/granule bytes of each link on the way back, for the stream of
requests; and, if the weights are kept, 1 byte of the die's own HBM. Rates change whenever a transfer joins or ends.
Simultaneous events are batched. Packets, routers and their buffers are not modelled.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from wss.engine.network.maxmin import max_min, scratch
from wss.records import BoolArray, FloatArray, IntArray

# Transfers whose ends differ by less than this share of the time end together; it only absorbs rounding.
TIE = 1e-13


class Fluid(NamedTuple):
    """The state of the fluid network.

    Attributes
    ----------
    clock
        When the rates were last computed, and when the next transfer ends (infinite if none is in progress), s, [2].
    count
        Number of transfers in progress, and of those that have not joined yet, [2].
    flowing, waiting
        The transfers in progress, and those that have not joined; the first entries are used, [transfers] each.
    joins, left, rates
        When each transfer joins, s; its remaining bytes; its rate, B/s; [transfers] each.
    work
        The work arrays of `max_min`.
    """

    clock: FloatArray
    count: IntArray
    flowing: IntArray
    waiting: IntArray
    joins: FloatArray
    left: FloatArray
    rates: FloatArray
    work: tuple[FloatArray, FloatArray, IntArray, BoolArray, IntArray, IntArray]


def build_fluid(transfers: int, resources: int) -> Fluid:
    """Return the state for up to *transfers* transfers over *resources* resources."""
    flowing, waiting = (np.zeros(transfers, np.int64) for _ in range(2))
    joins, left, rates = (np.zeros(transfers) for _ in range(3))
    work = scratch(transfers, resources)
    return Fluid(np.array([0.0, np.inf]), np.zeros(2, np.int64), flowing, waiting, joins, left, rates, work)


@numba.njit(cache=True, nogil=True)
def issue_fluid(fluid, transfers, now, transfer):  # type: ignore[no-untyped-def]
    """Start *transfer* at *now*; when it ends depends on those issued later, so the result is infinite."""
    fluid.joins[transfer] = now + transfers.table.latency[transfers.row[transfer]]
    fluid.left[transfer], fluid.rates[transfer] = transfers.nbytes[transfer], 0.0
    fluid.waiting[fluid.count[1]] = transfer
    fluid.count[1] += 1
    return np.inf


@numba.njit(cache=True, nogil=True)
def next_fluid(fluid):  # type: ignore[no-untyped-def]
    """Return when the next transfer joins or ends; infinite if none does."""
    then = fluid.clock[1]
    for i in range(fluid.count[1]):
        then = min(then, fluid.joins[fluid.waiting[i]])
    return then


@numba.njit(cache=True, nogil=True)
def advance_fluid(fluid, transfers, now, horizon, ended):  # type: ignore[no-untyped-def]
    """Let transfers join and end at *now*; compute new rates if one does.

    Parameters
    ----------
    now, horizon
        s; transfers that end up to *horizon* end at *now*. It differs from *now* only by rounding.
    ended
        Output: the transfers that ended; the first entries are used, [transfers].

    Returns
    -------
    int
        Number of transfers that ended.
    """
    flowing = fluid.count[0]
    joined = _join(fluid, now)
    if joined == flowing and fluid.clock[1] > horizon:
        return 0
    going, num_ended = _move(fluid, transfers, now, ended)
    fluid.count[0], fluid.clock[0] = going, now
    flows, table, rates = fluid.flowing[:going], transfers.table, fluid.rates
    row, capacity = transfers.row, transfers.capacity
    max_min(flows, row, table.resource, table.share, table.length, capacity, rates, fluid.work)
    soonest = np.inf
    for f in flows:
        transfers.finish[f] = now + fluid.left[f] / rates[f]
        soonest = min(soonest, transfers.finish[f])
    fluid.clock[1] = soonest
    return num_ended


@numba.njit(cache=True, nogil=True)
def _join(fluid, now):  # type: ignore[no-untyped-def]
    """Move transfers that join by *now* to those in progress, and return how many are in progress."""
    flowing, kept = fluid.count[0], 0
    for i in range(fluid.count[1]):
        transfer = fluid.waiting[i]
        if fluid.joins[transfer] <= now:
            fluid.flowing[flowing] = transfer
            flowing += 1
        else:
            fluid.waiting[kept] = transfer
            kept += 1
    fluid.count[0], fluid.count[1] = flowing, kept
    return flowing


@numba.njit(cache=True, nogil=True)
def _move(fluid, transfers, now, ended):  # type: ignore[no-untyped-def]
    """Move bytes at the rates since the last change; return how many transfers go on, and how many have ended."""
    table, left, finish, elapsed = transfers.table, fluid.left, transfers.finish, now - fluid.clock[0]
    in_use = fluid.work[3]
    in_use[:] = False
    going, num_ended = 0, 0
    for f in fluid.flowing[: fluid.count[0]]:
        row = transfers.row[f]
        done = finish[f] <= now * (1.0 + TIE)
        amount = left[f] if done else min(left[f], fluid.rates[f] * elapsed)
        if fluid.rates[f] > 0.0:  # a transfer that joins now has not moved yet
            for k in range(table.length[row]):
                transfers.moved[table.account[row, k]] += table.share[row, k] * amount
                in_use[table.resource[row, k]] = True
        left[f] -= amount
        if done:
            finish[f] = now
            ended[num_ended] = f
            num_ended += 1
        else:
            fluid.flowing[going] = f
            going += 1
    for r in range(in_use.size):
        if in_use[r]:
            transfers.busy[r] += elapsed
    return going, num_ended
