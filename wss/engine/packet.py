"""Packet transfers over links only: chunks queue first come, first served at each link, store and forward.

A flow is cut into chunks of equal size; the last one may be shorter. A chunk keeps a link busy for bytes / bandwidth
and arrives, whole, at the next link a hop latency later. All chunks of a flow queue at its first link at its start,
unless a window limits the chunks in flight: then the next chunk starts when one has been delivered. A flow of no bytes
is one empty chunk.

Ties are part of the model. Times are compared as whole ticks, so rounding does not decide ties. At one instant, flow
starts come first; flows that start together alternate, one chunk each, in the order of the flows. Other events follow
in scheduling order; the service of a chunk schedules its arrival first, then its own end. This is ASTRA-sim's order.

`packet_flows` is compiled; `packet_flows.py_func` has the same events as plain Python.
"""

from __future__ import annotations

import heapq
from typing import Any

import numba
import numpy as np

from wss.arrays import stable_order


@numba.njit(cache=True, nogil=True)
def _cut(nbytes, chunk, lengths):  # type: ignore[no-untyped-def]
    """Return the chunks of each flow, none without links, [flows], and the index of its first chunk, [flows + 1]."""
    chunks, first = np.zeros(nbytes.size, np.int64), np.zeros(nbytes.size + 1, np.int64)
    for f in range(nbytes.size):
        if lengths[f] > 0:
            chunks[f] = max(1, np.int64(np.ceil(nbytes[f] / chunk)))
        first[f + 1] = first[f] + chunks[f]
    return chunks, first


@numba.njit(cache=True, nogil=True)
def _ticks(start, nbytes, paths, lengths, bandwidth, latency):  # type: ignore[no-untyped-def]
    """Return the ticks per second: femtoseconds, or longer ticks in a long scenario."""
    longest = 1e-9
    for begin in start:
        longest = max(longest, begin)
    for f in range(start.size):
        for k in range(lengths[f]):
            longest += nbytes[f] / bandwidth[paths[f, k]] + latency[paths[f, k]]
    return min(1e15, 1e14 / longest)


@numba.njit(cache=True, nogil=True)
def _line_up(this, link, head, tail, behind):  # type: ignore[no-untyped-def]
    """Append the chunk *this* to the queue of *link*."""
    behind[this] = -1
    if head[link] < 0:
        head[link] = this
    else:
        behind[tail[link]] = this
    tail[link] = this


@numba.njit(cache=True, nogil=True)
def packet_flows(start, nbytes, chunk, window, paths, lengths, bandwidth, latency):  # type: ignore[no-untyped-def]
    """Return when the last chunk of each flow arrives, and the busy time of each link.

    Parameters
    ----------
    start, nbytes
        Start (s) and bytes of each flow, [flows].
    chunk
        Bytes of a chunk.
    window
        Maximum chunks of a flow in flight; 0 for no limit.
    paths, lengths
        Links of each flow and their number, [flows, longest] and [flows]; a flow without links ends when it starts.
    bandwidth, latency
        B/s of each link, and s of a hop over it, [links] each.

    Returns
    -------
    tuple of arrays
        finish [flows], seconds during which each link was busy [links].
    """
    num_flows = start.size
    finish = start.copy()
    busy = np.zeros(bandwidth.size)
    chunks, first = _cut(nbytes, chunk, lengths)
    ticks = _ticks(start, nbytes, paths, lengths, bandwidth, latency)
    sent = np.zeros(num_flows, np.int64)  # chunks sent to the first link so far

    serving = np.zeros(bandwidth.size, np.bool_)
    free = np.zeros(bandwidth.size)  # when the service in progress ends
    head, tail = np.full(bandwidth.size, -1), np.full(bandwidth.size, -1)  # the queue of each link
    behind = np.full(first[-1], -1)  # by chunk: the next one in the queue
    came = np.zeros(first[-1])  # by chunk: when it joined the queue
    owner = np.zeros(first[-1], np.int64)  # by chunk: its flow, and its index on the route
    where = np.zeros(first[-1], np.int64)

    order = stable_order(start)
    due = 0
    early = -(1 << 62)  # starts are scheduled before everything else
    serial = 0
    # (time in ticks, serial, time, flow or -1 - the link whose service ends, chunk, index on the route)
    events: list[Any] = [(np.int64(1 << 62), 0, np.inf, 0, 0, 0)]
    while True:
        if due < num_flows and np.int64(np.rint(start[order[due]] * ticks)) <= events[0][0]:
            last = due
            while last < num_flows and start[order[last]] == start[order[due]]:
                last += 1
            turn, some = 0, True
            while some:  # alternate, one chunk each
                some = False
                for i in range(due, last):
                    f = order[i]
                    if turn < chunks[f] and (window == 0 or turn < window):
                        early += 1
                        heapq.heappush(events, (np.int64(np.rint(start[f] * ticks)), early, start[f], f, turn, 0))
                        sent[f] += 1
                        some = True
                turn += 1
            due = last
            continue

        _, _, now, f, c, place = heapq.heappop(events)
        if now == np.inf:
            break
        if f < 0:  # a service ends: start the next chunk in the queue
            link = -1 - f
            serving[link] = False
            waiting = head[link]
            if waiting < 0:
                continue
            head[link] = behind[waiting]
            f, place, now = owner[waiting], where[waiting], max(now, came[waiting])
            c = waiting - first[f]
        elif place == lengths[f]:  # delivered: send the next chunk that the window held back
            finish[f] = max(finish[f], now)
            if sent[f] == chunks[f]:
                continue
            c, place = sent[f], 0
            sent[f] += 1
        link = paths[f, place]
        if serving[link]:
            this = first[f] + c
            owner[this], where[this], came[this] = f, place, now
            _line_up(this, link, head, tail, behind)
            continue
        takes = min(chunk, nbytes[f] - c * chunk) / bandwidth[link]
        free[link] = max(now, free[link]) + takes
        serving[link] = True
        busy[link] += takes
        there = free[link] + latency[link]
        heapq.heappush(events, (np.int64(np.rint(there * ticks)), serial, there, f, c, place + 1))
        heapq.heappush(events, (np.int64(np.rint(free[link] * ticks)), serial + 1, free[link], -1 - link, 0, 0))
        serial += 2
    return finish, busy
