"""A layer run on the fluid network in compiled code, without SimPy processes: the twin of `simulate_layer`.

It follows the same rules with the same sharing (`fluid.settle`). Instead of a process it keeps indices for each die.
Its clock advances to the earliest of three times: the next read joins, the next task ends, the next read ends. Events
at one instant are served in the order of `turns`. It agrees with the SimPy engine to rounding (tested to 1e-9). There
is no prefetching.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.arrays import sort_front
from wss.engine.layer_arrays import Tasks, look_up, store
from wss.engine.llc import Llcs
from wss.engine.network.fluid import TIE, FluidModel, settle
from wss.engine.network.maxmin import scratch
from wss.records import FloatArray, LayerRun, Plan


@numba.njit(cache=True, nogil=True)
def _go_on(d, now, window, plan, reads, dies, log, waiting, llcs):  # type: ignore[no-untyped-def]
    """Issue reads and complete tasks of die *d* at time *now*."""
    tasks, bounds, source, key, compute, _ = plan
    rows, latencies, row, joins, is_read, hit = reads
    at, issued, previous, computes = dies
    issue, _, end = log
    keys, ready = llcs
    while at[d] < bounds[d + 1]:
        while issued[d] < min(at[d] + window, bounds[d + 1]):
            task = tasks[issued[d]]
            issue[task] = now
            s = source[task]
            hit[task] = look_up(keys[s], ready[s], key[task], now)
            row[task] = rows[int(hit[task]), task]
            joins[task] = now + latencies[int(hit[task]), task]
            waiting[0] += 1
            waiting[waiting[0]] = task
            issued[d] += 1
        task = tasks[at[d]]
        if not is_read[task]:
            return
        previous[d] = max(now, max(issue[task], previous[d]) + compute[task])
        if previous[d] > now:
            computes[d] = previous[d]
            return
        end[task] = previous[d]
        at[d] += 1


@numba.njit(cache=True, nogil=True)
def _next_time(soonest, joins, computes, waiting):  # type: ignore[no-untyped-def]
    """Return the time of the next event: a read ends (*soonest*), a read joins or a task ends; infinite if none."""
    then = soonest
    for i in range(1, waiting[0] + 1):
        then = min(then, joins[waiting[i]])
    for d in range(computes.size):
        then = min(then, computes[d])
    return then


@numba.njit(cache=True, nogil=True)
def _end_of_instant(now, soonest, computes):  # type: ignore[no-untyped-def]
    """Return the latest end of a read or a task that differs from *now* only by rounding."""
    horizon, then = now * (1.0 + TIE), now
    if soonest <= horizon:
        then = max(then, soonest)
    for d in range(computes.size):
        if computes[d] <= horizon:
            then = max(then, computes[d])
    return then


@numba.njit(cache=True, nogil=True)
def _join(now, joins, waiting, flows, num_flows):  # type: ignore[no-untyped-def]
    """Move reads that join by *now* from *waiting* to *flows*, and return the new number of flows."""
    kept = 0
    for i in range(1, waiting[0] + 1):
        if joins[waiting[i]] <= now:
            flows[num_flows] = waiting[i]
            num_flows += 1
        else:
            kept += 1
            waiting[kept] = waiting[i]
    waiting[0] = kept
    return num_flows


@numba.njit(cache=True, nogil=True)
def run_dies(plan, rows, latencies, nbytes, window, write, tables, capacity, llcs, hit, log, moved, busy):  # type: ignore[no-untyped-def]
    """Run all tasks.

    Parameters
    ----------
    plan, rows, latencies, llcs, hit, log, moved, busy
        As in `Tasks`; *llcs* is changed, the last four are written.
    nbytes, window, write
        Bytes of an expert; reads in flight per die; s until a completed read is in the LLC.
    tables, capacity
        As in `fluid.settle`.
    """
    tasks, bounds, source, key, _, cached = plan
    num_tasks, num_dies = tasks.size, bounds.size - 1
    row = np.zeros(num_tasks, np.int64)
    left, rates = np.full(num_tasks, nbytes), np.zeros(num_tasks)
    finish, joins = np.full(num_tasks, np.inf), np.full(num_tasks, np.inf)
    is_read = np.zeros(num_tasks, np.bool_)
    # for each die: index in tasks of the current one, index after the last issued; end of the previous task (or of the
    # one being computed); when the current task ends, if its read is done
    at, issued = bounds[:-1].copy(), bounds[:-1].copy()
    previous, computes = np.zeros(num_dies), np.full(num_dies, np.inf)
    die_of, place_of = np.zeros(num_tasks, np.int64), np.zeros(num_tasks, np.int64)
    for d in range(num_dies):
        for place in range(bounds[d], bounds[d + 1]):
            die_of[tasks[place]], place_of[tasks[place]] = d, place
    reads, dies = (rows, latencies, row, joins, is_read, hit), (at, issued, previous, computes)
    times = (log[0], log[1], log[2])
    waiting = np.zeros(num_tasks + 1, np.int64)  # the number of reads issued and not yet joined, then their tasks
    flows, num_flows = np.zeros(num_tasks, np.int64), 0
    ended, room = np.zeros(num_tasks, np.int64), scratch(num_tasks, capacity.size)
    settled, soonest = 0.0, np.inf
    for d in range(num_dies):
        _go_on(d, 0.0, window, plan, reads, dies, times, waiting, llcs)
    has_llc = llcs[0].shape[1] > 0
    due, is_due = np.zeros(num_dies, np.int64), np.zeros(num_dies, np.bool_)  # the dies that advance at this instant
    while True:
        now = _next_time(soonest, joins, computes, waiting)
        if now == np.inf:
            return
        if has_llc:
            now = _end_of_instant(now, soonest, computes)
        num_due = 0
        for d in range(num_dies):
            if computes[d] <= now:
                times[2][tasks[at[d]]] = previous[d]
                computes[d] = np.inf
                at[d] += 1
                due[num_due], is_due[d] = d, True
                num_due += 1
        joined = _join(now, joins, waiting, flows, num_flows)
        num_ended = 0
        if joined > num_flows or soonest <= now:
            num_flows, num_ended, soonest = settle(
                now, now - settled, flows[:joined], left, rates, finish, row, tables, capacity, moved, busy, ended, room
            )
            settled = now
        if has_llc:
            for i in range(num_ended):
                ended[i] = place_of[ended[i]]
            sort_front(ended, num_ended)
            for i in range(num_ended):
                ended[i] = tasks[ended[i]]
        for task in ended[:num_ended]:
            is_read[task] = True
            times[1][task] = now
            s = source[task]
            if has_llc and not hit[task]:
                store(llcs[0][s], llcs[1][s], key[task], now + write)
            d = die_of[task]
            if has_llc and cached[task]:
                store(llcs[0][d], llcs[1][d], key[task], now + write)
            if tasks[at[d]] == task and computes[d] == np.inf and not is_due[d]:
                due[num_due], is_due[d] = d, True
                num_due += 1
        if has_llc:
            sort_front(due, num_due)
        for d in due[:num_due]:
            is_due[d] = False
            _go_on(d, now, window, plan, reads, dies, times, waiting, llcs)


def compiled_layer(
    model: FluidModel, llcs: Llcs, layer: int, plan: Plan, nbytes: float, compute: FloatArray, window: int
) -> LayerRun:
    """Run *plan* over the fluid network *model*, as `simulate_layer` does without prefetching."""
    tasks = Tasks(model.paths, llcs, layer, plan, nbytes, compute)
    return tasks.run(run_dies, window, model.paths.tables, model.paths.capacity)
