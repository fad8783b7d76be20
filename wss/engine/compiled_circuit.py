"""A layer run on the circuit network in compiled code, without SimPy processes: the twin of `simulate_layer`.

The end of a read is fixed when it is issued. So there are only two kinds of events: the end of a read, and the end of a
task's computing. Events are served in time order. Ties are served in scheduling order, or in the order of `turns` if
LLCs hold experts. Times are summed as in SimPy, so the same events tie and are served in the same order. There is no
prefetching.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numba
import numpy as np

from wss.arrays import sort_front
from wss.engine.layer_arrays import Tasks, look_up, store
from wss.engine.llc import Llcs
from wss.engine.network.circuit import CircuitModel
from wss.engine.network.fluid import TIE
from wss.records import FloatArray, LayerRun, Plan

COMPUTED = -1  # in place of a task: the event that a die's current task has been computed


@numba.njit(cache=True, nogil=True)
def _hold(now, row, latency, nbytes, tables, circuits, free, moved, busy):  # type: ignore[no-untyped-def]
    """Hold the resources of a read of *row* for its duration, and return its end."""
    resources, weights, lengths, accounts = tables
    shared, achieved, is_link = circuits
    held = np.empty(lengths[row], np.int64)
    num_held = 0
    begin, slowest = now, np.inf
    for k in range(lengths[row]):
        r, account = resources[row, k], accounts[row, k]
        moved[account] += weights[row, k] * nbytes
        if account < busy.size or not is_link[r]:  # requests hold nothing
            held[num_held] = r
            num_held += 1
            begin, slowest = max(begin, free[shared[r]]), min(slowest, achieved[r])
    takes = latency + nbytes / slowest
    for r in held[:num_held]:
        free[shared[r]] = begin + takes
        busy[r] += takes
    return begin + takes


@numba.njit(cache=True, nogil=True)
def _go_on(d, now, number, plan, reads, network, dies, log, llcs, events):  # type: ignore[no-untyped-def]
    """Issue reads and complete tasks of die *d* at time *now*; return the *number* of the next event."""
    tasks, bounds, source, key, compute, _ = plan
    rows, latencies, nbytes, window, hit, is_read = reads
    tables, circuits, free, moved, busy = network
    at, issued, previous = dies
    issue, read_end, end = log
    keys, ready = llcs
    while at[d] < bounds[d + 1]:
        while issued[d] < min(at[d] + window, bounds[d + 1]):
            task = tasks[issued[d]]
            issue[task] = now
            s = source[task]
            hit[task] = look_up(keys[s], ready[s], key[task], now)
            row, latency = rows[int(hit[task]), task], latencies[int(hit[task]), task]
            read_end[task] = _hold(now, row, latency, nbytes, tables, circuits, free, moved, busy)
            heappush(events, (now + (read_end[task] - now), number, d, task))
            number += 1
            issued[d] += 1
        task = tasks[at[d]]
        if not is_read[task]:
            return number
        previous[d] = max(now, max(issue[task], previous[d]) + compute[task])
        if previous[d] > now:
            heappush(events, (now + (previous[d] - now), number, d, COMPUTED))
            return number + 1
        end[task] = previous[d]
        at[d] += 1
    return number


@numba.njit(cache=True, nogil=True)
def _take_instant(events, together):  # type: ignore[no-untyped-def]
    """Pop the next of the *events*; if *together*, also those whose times differ from it only by rounding."""
    taken = [heappop(events)]
    while together and events[0][0] <= taken[0][0] * (1.0 + TIE):
        taken.append(heappop(events))
    return taken


@numba.njit(cache=True, nogil=True)
def run_circuits(plan, rows, latencies, nbytes, window, write, tables, circuits, llcs, hit, log, moved, busy):  # type: ignore[no-untyped-def]
    """Run all tasks.

    Parameters
    ----------
    plan, rows, latencies, llcs, hit, log, moved, busy
        As in `Tasks`; *llcs* is changed, the last four are written.
    nbytes, window, write
        Bytes of an expert; reads in flight per die; s until a completed read is in the LLC.
    tables
        As `ReadResources.tables`.
    circuits
        For each resource, the resource that is held for it, B/s that a read achieves, and whether it is a link,
        [resources].
    """
    tasks, bounds, source, key, _, cached = plan
    num_dies = bounds.size - 1
    is_read = np.zeros(tasks.size, np.bool_)
    reads = (rows, latencies, nbytes, window, hit, is_read)
    network = (tables, circuits, np.zeros(busy.size), moved, busy)
    # for each die: index in tasks of the current one, index after the last issued, end of the previous or current task
    at, issued, previous = bounds[:-1].copy(), bounds[:-1].copy(), np.zeros(num_dies)
    dies, times = (at, issued, previous), (log[0], log[1], log[2])
    events = [(np.inf, 0, 0, COMPUTED)]  # time, number, die, and the task whose read ends
    number = 1
    has_llc = llcs[0].shape[1] > 0
    die_at, place_of = np.zeros(tasks.size, np.int64), np.zeros(tasks.size, np.int64)
    for d in range(num_dies):
        for place in range(bounds[d], bounds[d + 1]):
            die_at[place], place_of[tasks[place]] = d, place
    for d in range(num_dies):
        number = _go_on(d, 0.0, number, plan, reads, network, dies, times, llcs, events)
    due, ended = np.zeros(num_dies, np.int64), np.zeros(tasks.size, np.int64)
    while len(events) > 1:
        happens = _take_instant(events, has_llc)
        now, num_due, num_ended = happens[-1][0], 0, 0
        for _, _, d, task in happens:
            if task == COMPUTED:
                times[2][tasks[at[d]]] = previous[d]
                at[d] += 1
                due[num_due] = d
                num_due += 1
            else:
                ended[num_ended] = place_of[task]
                num_ended += 1
        sort_front(ended, num_ended)
        for place in ended[:num_ended]:
            task, d = tasks[place], die_at[place]
            is_read[task] = True
            s = source[task]
            if has_llc and not hit[task]:
                store(llcs[0][s], llcs[1][s], key[task], now + write)
            if has_llc and cached[task]:
                store(llcs[0][d], llcs[1][d], key[task], now + write)
            if at[d] == place and d not in due[:num_due]:
                due[num_due] = d
                num_due += 1
        sort_front(due, num_due)
        for d in due[:num_due]:
            number = _go_on(d, now, number, plan, reads, network, dies, times, llcs, events)


def compiled_circuit_layer(
    model: CircuitModel, llcs: Llcs, layer: int, plan: Plan, nbytes: float, compute: FloatArray, window: int
) -> LayerRun:
    """Run *plan* over the circuit network *model*, as `simulate_layer` does without prefetching."""
    tasks = Tasks(model.paths, llcs, layer, plan, nbytes, compute)
    return tasks.run(run_circuits, window, model.paths.tables, (model.shared, model.achieved, model.is_link))
