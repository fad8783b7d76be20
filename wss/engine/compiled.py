"""The fluid network's kernel in compiled code, without a SimPy process in it: the twin of `simulate` for long runs.

It follows the same rules with the same sharing (`fluid.settle`), but for a die keeps where it stands instead of a
process, and for the clock the least of three times: when the next read joins, when the next task ends, when the next
read ends. It agrees with the SimPy engine to rounding (tests hold it to 1e-9). It does not prefetch.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.engine.fluid import FluidModel, settle
from wss.engine.llc import EMPTY, Llcs
from wss.engine.maxmin import scratch
from wss.records import FloatArray, IntArray, KernelRun, Plan


@numba.njit(cache=True)
def _look_up(keys, ready, key, now):  # type: ignore[no-untyped-def]
    """Whether *key* may be read from one LLC at *now*; then it moves to the end, as the most recently used."""
    for i in range(keys.size):
        if keys[i] == key and ready[i] <= now:
            since = ready[i]
            last = i
            while last + 1 < keys.size and keys[last + 1] != EMPTY:
                keys[last], ready[last] = keys[last + 1], ready[last + 1]
                last += 1
            keys[last], ready[last] = key, since
            return True
    return False


@numba.njit(cache=True)
def _store(keys, ready, key, since):  # type: ignore[no-untyped-def]
    """Put *key* into one LLC, the oldest out if it is full."""
    for i in range(keys.size):
        if keys[i] == key:
            return
        if keys[i] == EMPTY:
            keys[i], ready[i] = key, since
            return
    for i in range(keys.size - 1):
        keys[i], ready[i] = keys[i + 1], ready[i + 1]
    keys[keys.size - 1], ready[keys.size - 1] = key, since


@numba.njit(cache=True)
def _go_on(d, now, window, plan, reads, dies, log, waiting, llcs):  # type: ignore[no-untyped-def]
    """Let die *d* issue reads and end tasks as far as it can at *now*."""
    tasks, bounds, source, key, compute = plan
    rows, latencies, row, joins, is_read, hit = reads
    at, issued, previous, computes = dies
    issue, _, end = log
    keys, ready = llcs
    while at[d] < bounds[d + 1]:
        while issued[d] < min(at[d] + window, bounds[d + 1]):
            task = tasks[issued[d]]
            issue[task] = now
            s = source[task]
            hit[task] = _look_up(keys[s], ready[s], key[task], now)
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


@numba.njit(cache=True)
def run_dies(plan, rows, latencies, nbytes, window, write, tables, capacity, llcs, hit, log, moved, busy):  # type: ignore[no-untyped-def]
    """Run all tasks.

    Parameters
    ----------
    plan
        Tasks by die, where each die's begin and end in them [dies + 1], and of each task source, key of the expert and
        s of computing.
    rows, latencies
        Row of the tables, and s from issue to joining, of each read from HBM and from LLC, [2, tasks].
    nbytes, window, write
        Bytes of an expert; reads in flight of a die; s until what has been read is in the LLC.
    tables, capacity, moved, busy
        As `fluid.settle` takes them.
    llcs
        Keys, oldest first, `EMPTY` behind the last, and since when they may be read, [dies, places]; changed.
    hit, log
        Written: whether an LLC was hit, [tasks]; issue, read end and end, [3, tasks].
    """
    tasks, bounds, source, key, _ = plan
    num_tasks, num_dies = tasks.size, bounds.size - 1
    row = np.zeros(num_tasks, np.int64)
    left, rates = np.full(num_tasks, nbytes), np.zeros(num_tasks)
    finish, joins = np.full(num_tasks, np.inf), np.full(num_tasks, np.inf)
    is_read = np.zeros(num_tasks, np.bool_)
    # of each die: places in tasks of the one at hand and behind the last issued; end of the task before (or of the one
    # that is computed); when the task at hand ends, if its read is done
    at, issued = bounds[:-1].copy(), bounds[:-1].copy()
    previous, computes = np.zeros(num_dies), np.full(num_dies, np.inf)
    die_of = np.zeros(num_tasks, np.int64)
    for d in range(num_dies):
        for place in range(bounds[d], bounds[d + 1]):
            die_of[tasks[place]] = d
    reads, dies = (rows, latencies, row, joins, is_read, hit), (at, issued, previous, computes)
    times = (log[0], log[1], log[2])
    waiting = np.zeros(num_tasks + 1, np.int64)  # how many reads have been issued and not joined, and which
    flows, num_flows = np.zeros(num_tasks, np.int64), 0
    ended, room = np.zeros(num_tasks, np.int64), scratch(num_tasks, capacity.size)
    now, settled, soonest = 0.0, 0.0, np.inf
    for d in range(num_dies):
        _go_on(d, now, window, plan, reads, dies, times, waiting, llcs)
    while True:
        then = soonest
        for i in range(1, waiting[0] + 1):
            then = min(then, joins[waiting[i]])
        for d in range(num_dies):
            then = min(then, computes[d])
        if then == np.inf:
            return
        now = then
        for d in range(num_dies):
            if computes[d] <= now:
                times[2][tasks[at[d]]] = previous[d]
                computes[d] = np.inf
                at[d] += 1
                _go_on(d, now, window, plan, reads, dies, times, waiting, llcs)
        kept = 0
        joined = num_flows
        for i in range(1, waiting[0] + 1):
            if joins[waiting[i]] <= now:
                flows[joined] = waiting[i]
                joined += 1
            else:
                kept += 1
                waiting[kept] = waiting[i]
        waiting[0] = kept
        if joined == num_flows and soonest > now:
            continue
        num_flows, num_ended, soonest = settle(
            now, now - settled, flows[:joined], left, rates, finish, row, tables, capacity, moved, busy, ended, room
        )
        settled = now
        for task in ended[:num_ended]:
            is_read[task] = True
            times[1][task] = now
            s = source[task]
            if llcs[0].shape[1] > 0 and not hit[task]:
                _store(llcs[0][s], llcs[1][s], key[task], now + write)
            d = die_of[task]
            if tasks[at[d]] == task and computes[d] == np.inf:
                _go_on(d, now, window, plan, reads, dies, times, waiting, llcs)


def compiled_kernel(
    model: FluidModel, llcs: Llcs, layer: int, plan: Plan, nbytes: float, compute: FloatArray, window: int
) -> KernelRun:
    """Run *plan* over the fluid network *model*, as `simulate_kernel` does without prefetching."""
    paths, num_dies = model.paths, llcs.num_dies
    places = int(llcs.spec.size // nbytes)
    rows: IntArray = np.stack([paths.rows(plan, hit) for hit in (False, places > 0)])
    order = np.argsort(plan.die, kind="stable")
    bounds = np.searchsorted(plan.die[order], np.arange(num_dies + 1))
    log, hit = np.zeros((3, len(plan.expert))), np.zeros(len(plan.expert), np.bool_)
    moved, busy = np.zeros(paths.num_accounts), np.zeros(len(paths.capacity))
    keys, ready = llcs.as_arrays(places)
    run_dies(
        (order, bounds, plan.source, llcs.keys(layer, plan.expert), compute),
        rows,
        np.ascontiguousarray(paths.latency[:, plan.source, plan.die]),
        float(nbytes),
        window,
        llcs.spec.write,
        paths.tables,
        paths.capacity,
        (keys, ready),
        hit,
        log,
        moved,
        busy,
    )
    llcs.from_arrays(keys, ready, nbytes)
    die_end = np.zeros(num_dies)
    np.maximum.at(die_end, plan.die, log[2])
    return KernelRun(
        issue=log[0],
        read_end=log[1],
        end=log[2],
        hit=hit,
        prefetched=np.zeros(num_dies, np.int64),
        die_end=die_end,
        carried=paths.carried(moved, busy),
    )
