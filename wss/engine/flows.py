"""Fluid transfers over links only: the network of `wss flows`, and a reference for network tests.

A flow waits hops · latency after its start, then shares every link of its route max-min fairly with all flows in
progress, until its last byte has drained. There is no HBM, LLC or request stream here.

`fluid_flows` is compiled; `fluid_flows.py_func` is the same code as plain Python.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.arrays import stable_order

TIE = 1e-13  # flows whose ends differ by less than this share of the time end together; it only absorbs rounding


@numba.njit(cache=True, nogil=True)
def fluid_flows(join, nbytes, paths, lengths, capacity):  # type: ignore[no-untyped-def]
    """Return the end of each flow, and the busy time of each link.

    Parameters
    ----------
    join
        When each flow joins the sharing, s, [flows].
    nbytes
        Bytes, [flows].
    paths, lengths
        Links of each flow and their number, [flows, longest] and [flows]; a flow without links ends when it joins.
    capacity
        B/s, [links].

    Returns
    -------
    tuple of arrays
        finish [flows], seconds during which each link carried anything [links].
    """
    num_flows, num_links = join.size, capacity.size
    finish = join.copy()
    busy = np.zeros(num_links)
    order = stable_order(join)
    left = nbytes.copy()
    rates = np.zeros(num_flows)
    active = np.zeros(num_flows, np.int64)
    num_active = 0
    on_link = np.zeros(num_links, np.int64)
    scratch = (
        np.zeros(num_links),
        np.zeros(num_links, np.int64),
        np.zeros(num_links, np.int64),
        np.zeros(num_flows, np.int64),
    )
    due = 0
    now = 0.0
    while due < num_flows or num_active > 0:
        soonest = np.inf
        for i in range(num_active):
            soonest = min(soonest, finish[active[i]])
        then = min(soonest, join[order[due]]) if due < num_flows else soonest
        elapsed = then - now
        now = then

        for link in range(num_links):
            if on_link[link] > 0:
                busy[link] += elapsed
        still = 0
        for i in range(num_active):
            f = active[i]
            if finish[f] <= now * (1.0 + TIE):
                finish[f] = now
                for k in range(lengths[f]):
                    on_link[paths[f, k]] -= 1
            else:
                left[f] -= rates[f] * elapsed
                active[still] = f
                still += 1
        num_active = still
        while due < num_flows and join[order[due]] <= now:
            f = order[due]
            due += 1
            if lengths[f] > 0 and nbytes[f] > 0:
                active[num_active] = f
                num_active += 1
                for k in range(lengths[f]):
                    on_link[paths[f, k]] += 1
        _share(active, num_active, paths, lengths, capacity, on_link, rates, scratch)
        for i in range(num_active):
            f = active[i]
            finish[f] = now + left[f] / rates[f]
    return finish, busy


@numba.njit(cache=True, nogil=True)
def _share(active, num_active, paths, lengths, capacity, on_link, rates, scratch):  # type: ignore[no-untyped-def]
    """Write max-min fair rates of flows of equal weight, by progressive filling over the links in use."""
    left, users, links, growing = scratch
    num_links = 0
    for link in range(capacity.size):
        if on_link[link] > 0:
            left[link] = capacity[link]
            users[link] = on_link[link]
            links[num_links] = link
            num_links += 1
    for i in range(num_active):
        growing[i] = active[i]
    num_growing = num_active
    while num_growing > 0:
        share = np.inf
        for i in range(num_links):
            link = links[i]
            if users[link] > 0:
                share = min(share, left[link] / users[link])
        limit = share * (1.0 + 1e-12)
        for i in range(num_links):
            link = links[i]
            if users[link] > 0 and left[link] <= limit * users[link]:
                users[link] = -users[link]  # full
        still = 0
        for i in range(num_growing):
            f = growing[i]
            stays = False
            for k in range(lengths[f]):
                if users[paths[f, k]] < 0:
                    stays = True
                    break
            if not stays:
                growing[still] = f
                still += 1
                continue
            rates[f] = share
            for k in range(lengths[f]):
                link = paths[f, k]
                left[link] -= share
                users[link] += 1 if users[link] < 0 else -1
        num_growing = still
