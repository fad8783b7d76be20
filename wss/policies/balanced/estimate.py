"""Forecast: predicted end of each task of a plan, from the information in a policy's view.

A small fluid model of the layer run, coarser than the engine's. A die runs its tasks in order, with a window of reads
in flight; a read's slot is free when its task ends. Reads of one HBM share it equally, as do reads over one link, and
each read proceeds at its smallest share. A task ends when its weights have arrived and its computing is done. Its
computing begins when the previous task has ended (its read has been issued by then):

    end = max(read done, end of previous task + computing)

Not modelled: latencies, LLCs, read requests, writes of copies, and that a read which is held up leaves more bandwidth
to the others.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import compiled

ROUNDING = 1e-9


@compiled
def _count(source, die, change, readers, carried, routes):  # type: ignore[no-untyped-def]
    """Add *change* to the reads from an HBM and over the links from there to *die*."""
    readers[source] += change
    if source != die:
        for i in range(routes.shape[2]):
            if routes[source, die, i] >= 0:
                carried[routes[source, die, i]] += change


@compiled
def _seconds(source, die, readers, carried, routes, hbm_read, link_reads):  # type: ignore[no-untyped-def]
    """Return the duration of a whole read at the current shares."""
    slowest = hbm_read * readers[source]
    if source != die:
        for i in range(routes.shape[2]):
            link = routes[source, die, i]
            if link >= 0:
                slowest = max(slowest, link_reads[link] * carried[link])
    return slowest


@compiled
def forecast(dies, begin, seconds, sources, routes, hbm_read, link_reads, window):  # type: ignore[no-untyped-def]
    """Return the predicted end of each task in seconds, [tasks].

    Parameters
    ----------
    dies
        The dies that run them, [dies]; reads of other dies are ignored.
    begin
        First task of each of these dies, and the end of the last die's tasks, [dies + 1].
    seconds, sources
        Computing time of each task, and the die whose HBM it reads, [tasks].
    routes
        Links from one die of the wafer to another, [all dies, all dies, longest], padded with -1.
    hbm_read, link_reads
        Seconds of one read from an HBM, and over each link, [links].
    window
        Reads in flight per die.
    """
    next_read, next_end = begin[:-1].copy(), begin[:-1].copy()
    end = np.full(seconds.size, np.inf)
    arrived, left = np.zeros(seconds.size, np.bool_), np.ones(seconds.size)
    readers, carried = np.zeros(len(routes)), np.zeros(link_reads.size)
    # reads in flight: the task, and the index of its die in *dies*
    flying, at = np.empty(dies.size * window, np.int64), np.empty(dies.size * window, np.int64)
    whole = np.empty(dies.size * window)
    num_flying, now = 0, 0.0
    while True:
        free = np.inf  # when the next read slot is free
        for i in range(dies.size):
            while next_read[i] < begin[i + 1]:
                task = next_read[i]
                if task - begin[i] >= window and end[task - window] > now:
                    free = min(free, end[task - window])
                    break
                flying[num_flying], at[num_flying] = task, i
                num_flying += 1
                next_read[i] += 1
                _count(sources[task], dies[i], 1, readers, carried, routes)
        if num_flying == 0 and free == np.inf:
            return end
        step = free - now
        for j in range(num_flying):
            task = flying[j]
            whole[j] = _seconds(sources[task], dies[at[j]], readers, carried, routes, hbm_read, link_reads)
            step = min(step, left[task] * whole[j])
        now += step
        still = 0
        for j in range(num_flying):
            task, i = flying[j], at[j]
            left[task] -= step / whole[j]
            if left[task] > ROUNDING:
                flying[still], at[still] = task, i
                still += 1
                continue
            arrived[task] = True
            _count(sources[task], dies[i], -1, readers, carried, routes)
            while next_end[i] < begin[i + 1] and arrived[next_end[i]]:
                ends = next_end[i]
                before = end[ends - 1] if ends > begin[i] else 0.0
                end[ends] = max(now, before + seconds[ends])
                next_end[i] += 1
        num_flying = still
