"""Transfers over links alone, in packets: chunks queue first come, first served at each link, store and forward.

A flow is cut into chunks of equal size, the last one shorter. A link is busy for bytes / bandwidth with a chunk, which
arrives hop latency later, whole, at the next link. All chunks of a flow queue at its first link at its start, unless a
window limits how many may be under way: the next one then starts when one has been delivered. Chunks of flows that
start together take turns, in the order of the flows. Chunks that reach a link at the same instant are served in the
order in which they were sent on.

Written once: `packet_flows` is compiled, `packet_flows.py_func` is the same lines as plain Python.
"""

from __future__ import annotations

import heapq
from typing import Any

import numba
import numpy as np


@numba.njit(cache=True)
def packet_flows(start, nbytes, chunk, window, paths, lengths, bandwidth, latency):  # type: ignore[no-untyped-def]
    """Return when the last chunk of each flow arrives, and what each link carried.

    Parameters
    ----------
    start, nbytes
        Start (s) and bytes of each flow, [flows].
    chunk
        Bytes of a chunk.
    window
        Chunks of a flow that may be under way; 0 for no limit.
    paths, lengths
        Links of each flow and how many they are, [flows, longest] and [flows]; a flow without links ends as it starts.
    bandwidth, latency
        B/s of each link [links], and s of a hop.

    Returns
    -------
    tuple of arrays
        finish [flows], seconds during which each link was busy [links].
    """
    num_flows = start.size
    finish = start.copy()
    free = np.zeros(bandwidth.size)  # when each link falls idle
    busy = np.zeros(bandwidth.size)
    chunks = np.ceil(nbytes / chunk).astype(np.int64)
    for f in range(num_flows):
        if lengths[f] == 0:
            chunks[f] = 0
        elif chunks[f] == 0:  # a flow of no bytes still takes its hops
            finish[f] = start[f] + lengths[f] * latency
    sent = np.zeros(num_flows, np.int64)  # chunks given to the first link so far
    order = np.argsort(start, kind="mergesort")
    due = 0
    serial = 0
    # (time, order of sending, flow, chunk, place on the route)
    events: list[Any] = [(np.inf, 0, 0, 0, 0)]
    while True:
        if due < num_flows and start[order[due]] <= events[0][0]:
            last = due
            while last < num_flows and start[order[last]] == start[order[due]]:
                last += 1
            turn, some = 0, True
            while some:  # take turns, one chunk each
                some = False
                for i in range(due, last):
                    f = order[i]
                    if turn < chunks[f] and (window == 0 or turn < window):
                        serial += 1
                        heapq.heappush(events, (start[f], serial, f, turn, 0))
                        sent[f] += 1
                        some = True
                turn += 1
            due = last
            continue
        now, _, f, c, place = heapq.heappop(events)
        if now == np.inf:
            break
        if place == lengths[f]:
            finish[f] = max(finish[f], now)
            if window > 0 and sent[f] < chunks[f]:
                serial += 1
                heapq.heappush(events, (now, serial, f, sent[f], 0))
                sent[f] += 1
            continue
        link = paths[f, place]
        size = min(chunk, nbytes[f] - c * chunk)
        takes = size / bandwidth[link]
        free[link] = max(now, free[link]) + takes
        busy[link] += takes
        serial += 1
        heapq.heappush(events, (free[link] + latency, serial, f, c, place + 1))
    return finish, busy
