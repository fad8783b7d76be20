"""Circuit transfers over links only: a transfer holds its whole route for its duration.

A transfer takes hops · latency + bytes / bandwidth of its slowest link. Each link serves transfers in order of start,
then of index. None overtakes another on any link, even if the link is idle meanwhile (no backfill).

`held_flows` is compiled; `held_flows.py_func` is the same code as plain Python.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.arrays import stable_order


@numba.njit(cache=True, nogil=True)
def held_flows(start, nbytes, paths, lengths, resource, bandwidth, latency):  # type: ignore[no-untyped-def]
    """Return the end of each transfer, and the time for which each link was held.

    Parameters
    ----------
    start, nbytes, paths, lengths
        As in `packet_flows`.
    resource
        The resource of each link, [links]; with half duplex, both directions share one.
    bandwidth, latency
        B/s of each link, and s of a hop over it, [links] each.

    Returns
    -------
    tuple of arrays
        finish [flows], seconds during which each link was held [links].
    """
    finish = start.copy()
    free = np.zeros(bandwidth.size)
    busy = np.zeros(bandwidth.size)
    for f in stable_order(start):
        if lengths[f] == 0:
            continue
        begin, slowest, hops = start[f], np.inf, 0.0
        for k in range(lengths[f]):
            begin = max(begin, free[resource[paths[f, k]]])
            slowest = min(slowest, bandwidth[paths[f, k]])
            hops += latency[paths[f, k]]
        takes = hops + nbytes[f] / slowest
        finish[f] = begin + takes
        for k in range(lengths[f]):
            free[resource[paths[f, k]]] = finish[f]
            busy[paths[f, k]] += takes
    return finish, busy
