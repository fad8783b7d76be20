"""Max-min fair rates by progressive filling; no clock.

Flow f moves at rate x_f and uses w_fr·x_f of resource r, whose capacity is c_r. The rates satisfy

    sum over f of w_fr · x_f  <=  c_r          for every resource r, and
    no x_f can grow without lowering some x_g <= x_f   (max-min fairness: Bertsekas and Gallager, Data Networks, 6.5.2).

All rates grow together until a resource is full. The flows over it stay at that rate; the others continue to grow.

`max_min` is compiled; `max_min.py_func` is the same code as plain Python, with bit-identical results.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.arrays import copy

# Resources whose fair shares differ by less than this are full together; it only absorbs rounding.
TIE = 1e-12


@numba.njit(cache=True, nogil=True)
def scratch(num_flows, num_resources):  # type: ignore[no-untyped-def]
    """Return the work arrays of `max_min` for up to *num_flows* flows and *num_resources* resources."""
    left, load = np.empty(num_resources), np.empty(num_resources)
    users, full = np.empty(num_resources, np.int64), np.empty(num_resources, np.bool_)
    return left, load, users, full, np.empty(num_resources, np.int64), np.empty(num_flows, np.int64)


@numba.njit(cache=True, nogil=True)
def max_min(flows, row, paths, weights, lengths, capacity, rates, room):  # type: ignore[no-untyped-def]
    """Write the rates of *flows*.

    Parameters
    ----------
    flows
        The slots of the flows in progress, [flows].
    row
        The row of each slot in the three tables below, [slots].
    paths, weights, lengths
        Resources of a row, how much of each a byte uses, and the number of valid entries:
        [rows, longest], [rows, longest], [rows].
    capacity
        B/s of each resource, [resources].
    rates
        Output: B/s of each flow's slot, [slots].
    room
        The result of `scratch`; its contents are ignored.
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
            full[r] = left[r] <= share * (1.0 + TIE) * load[r]  # if full, it has no users left after this round

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
