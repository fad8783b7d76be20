"""Max-min fair rates by progressive filling; no clock.

Flow f moves at rate x_f and uses w_fr·x_f of resource r, which offers c_r. The rates are the ones for which

    sum over f of w_fr · x_f  <=  c_r          for every resource r, and
    no x_f can grow without lowering some x_g <= x_f   (max-min fairness: Bertsekas and Gallager, Data Networks, 6.5.2).

All rates grow together until a resource is full; the flows over it stay at that rate, the rest go on growing.

The function is written once. `max_min` is its compiled form, `max_min.py_func` the same lines as plain Python: the
readable twin, equal to the last bit.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.arrays import copy

# Resources whose fair shares differ by less than this are full together; it only absorbs rounding.
TIE = 1e-12


@numba.njit(cache=True, nogil=True)
def scratch(num_flows, num_resources):  # type: ignore[no-untyped-def]
    """Return the arrays that `max_min` works in, for as many flows and resources at most."""
    left, load = np.empty(num_resources), np.empty(num_resources)
    users, full = np.empty(num_resources, np.int64), np.empty(num_resources, np.bool_)
    return left, load, users, full, np.empty(num_resources, np.int64), np.empty(num_flows, np.int64)


@numba.njit(cache=True, nogil=True)
def max_min(flows, row, paths, weights, lengths, capacity, rates, room):  # type: ignore[no-untyped-def]
    """Fill in the rates of *flows*.

    Parameters
    ----------
    flows
        The slots of the flows in progress, [flows].
    row
        Of each slot, its row in the three tables below, [slots].
    paths, weights, lengths
        Resources of a row, how much of each a byte uses, and how many of the entries count:
        [rows, longest], [rows, longest], [rows].
    capacity
        B/s of each resource, [resources].
    rates
        Written: B/s of each flow's slot, [slots].
    room
        What `scratch` gave out; whatever is in it does not matter.
    """
    left, load, users, full, used, growing = room
    copy(capacity, left)
    load[:], users[:], full[:] = 0.0, 0, False
    for f in flows:
        for k in range(lengths[row[f]]):
            r = paths[row[f], k]
            load[r] += weights[row[f], k]
            users[r] += 1
    num_used = 0
    for r in range(capacity.size):
        if users[r] > 0:
            used[num_used] = r
            num_used += 1

    num_growing = flows.size
    copy(flows, growing)
    while num_growing > 0:
        share = np.inf
        still_used = 0
        for i in range(num_used):
            r = used[i]
            if users[r] > 0:
                used[still_used] = r
                still_used += 1
                if left[r] < share * load[r]:
                    share = left[r] / load[r]
        num_used = still_used
        for r in used[:num_used]:
            full[r] = left[r] <= share * (1.0 + TIE) * load[r]  # then it has no users any more when the round is over

        still_growing = 0
        for i in range(num_growing):
            f = growing[i]
            stays = False
            for k in range(lengths[row[f]]):
                if full[paths[row[f], k]]:
                    stays = True
                    break
            if not stays:
                growing[still_growing] = f
                still_growing += 1
                continue
            rates[f] = share
            for k in range(lengths[row[f]]):
                r = paths[row[f], k]
                left[r] -= weights[row[f], k] * share
                load[r] -= weights[row[f], k]
                users[r] -= 1
        num_growing = still_growing
