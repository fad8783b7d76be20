"""Max-min fair rates by progressive filling; no clock.

Flow f moves at rate x_f and uses w_fr·x_f of resource r, whose capacity is c_r. The rates satisfy

    sum over f of w_fr · x_f  <=  c_r          for every resource r, and
    no x_f can grow without lowering some x_g <= x_f   (max-min fairness: Bertsekas and Gallager, Data Networks, 6.5.2).

All rates grow together until a resource is full. The flows over it stay at that rate; the others continue to grow.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import borrowing

# Resources whose fair shares differ by less than this are full together; it only absorbs rounding.
TIE = 1e-12


@borrowing
def max_min(flows, network):  # type: ignore[no-untyped-def]
    """Write the rate of each of the transfers *flows* of a `NetworkState`, B/s, [flows].

    The work arrays *work* and *used*, and the work fields of the resources, are overwritten.
    """
    stages, rows, transfers, resources = network.stages, network.rows, network.transfers, network.resources
    growing, used = network.work, network.used
    for r in range(resources.size):
        resources[r].unused, resources[r].weight = resources[r].capacity, 0.0
        resources[r].users, resources[r].full = 0, False
    for f in flows:
        row = transfers[f].row
        for k in range(rows[row].length):
            r = stages[row, k].resource
            resources[r].weight += stages[row, k].share
            resources[r].users += 1
    num_used = 0
    for r in range(resources.size):
        if resources[r].users > 0:
            used[num_used] = r
            num_used += 1

    num_growing = flows.size
    for i in range(num_growing):
        growing[i] = flows[i]
    while num_growing > 0:
        level = np.inf  # B/s of all growing flows
        still_used = 0
        for i in range(num_used):
            r = used[i]
            if resources[r].users > 0:
                used[still_used] = r
                still_used += 1
                if resources[r].unused < level * resources[r].weight:
                    level = resources[r].unused / resources[r].weight
        num_used = still_used
        for r in used[:num_used]:  # if full, it has no users left after this round
            resources[r].full = resources[r].unused <= level * (1.0 + TIE) * resources[r].weight
        num_growing = _fix(level, num_growing, growing, transfers, rows, stages, resources)


@borrowing
def _fix(level, num_growing, growing, transfers, rows, stages, resources):  # type: ignore[no-untyped-def]
    """Fix the rates of flows over full resources at *level*, B/s; return how many flows go on growing."""
    still_growing = 0
    for i in range(num_growing):
        f = growing[i]
        row = transfers[f].row
        stays = False
        for k in range(rows[row].length):
            if resources[stages[row, k].resource].full:
                stays = True
                break
        if not stays:
            growing[still_growing] = f
            still_growing += 1
            continue
        transfers[f].rate = level
        for k in range(rows[row].length):
            r, weight = stages[row, k].resource, stages[row, k].share
            resources[r].unused -= weight * level
            resources[r].weight -= weight
            resources[r].users -= 1
    return still_growing
