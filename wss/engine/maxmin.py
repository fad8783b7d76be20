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

# Resources whose fair shares differ by less than this are full together; it only absorbs rounding.
TIE = 1e-12


@numba.njit(cache=True)
def max_min(flows, row, paths, weights, lengths, capacity, rates):  # type: ignore[no-untyped-def]
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
    """
    num_resources = capacity.size
    left = capacity.copy()
    load = np.zeros(num_resources)
    users = np.zeros(num_resources, np.int64)
    for f in flows:
        for k in range(lengths[row[f]]):
            r = paths[row[f], k]
            load[r] += weights[row[f], k]
            users[r] += 1

    growing = flows.copy()
    num_growing = growing.size
    full = np.zeros(num_resources, np.bool_)
    while num_growing > 0:
        share = np.inf
        for r in range(num_resources):
            if users[r] > 0 and left[r] < share * load[r]:
                share = left[r] / load[r]
        for r in range(num_resources):
            full[r] = users[r] > 0 and left[r] <= share * (1.0 + TIE) * load[r]

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
