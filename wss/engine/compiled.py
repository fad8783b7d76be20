"""The fluid network's kernel in compiled code, without a SimPy process in it: the twin of `simulate` for long runs.

It follows the same rules with the same sharing (`fluid.settle`), but for a die keeps where it stands instead of a
process, and for the clock the least of three times: when the next read joins, when the next task ends, when the next
read ends. It agrees with the SimPy engine to rounding (tests hold it to 1e-9). It knows no LLC hits and no prefetching;
where an LLC could hold an expert, the SimPy engine is taken.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.engine.fluid import FluidModel, settle
from wss.records import FloatArray, IntArray, KernelRun, Plan


@numba.njit(cache=True)
def run_dies(tasks, bounds, row, latency, compute, nbytes, window, tables, capacity, log, moved, busy):  # type: ignore[no-untyped-def]
    """Run all tasks.

    Parameters
    ----------
    tasks, bounds
        Tasks by die: those of die d are tasks[bounds[d]:bounds[d + 1]], in order.
    row, latency, compute
        Of each task: its read's row of the tables, s from issue to joining, s of computing, [tasks].
    nbytes, window
        Bytes of an expert; reads in flight of a die.
    tables, capacity, moved, busy
        As `fluid.settle` takes them.
    log
        Written: issue, read end and end of each task, [3, tasks].
    """
    issue, read_end, end = log[0], log[1], log[2]
    num_tasks, num_dies = tasks.size, bounds.size - 1
    left, rates = np.full(num_tasks, nbytes), np.zeros(num_tasks)
    finish = np.full(num_tasks, np.inf)
    joins = np.full(num_tasks, np.inf)  # when a read that is issued will join
    is_read = np.zeros(num_tasks, np.bool_)
    at, issued = bounds[:-1].copy(), bounds[:-1].copy()  # places in tasks: of the task at hand, behind the last issued
    previous = np.zeros(num_dies)  # end of the task before, or of the one that is computed
    computes = np.full(num_dies, np.inf)  # when the task at hand ends, if its read is done
    wakes = np.ones(num_dies, np.bool_)  # dies that may go on
    flows = np.zeros(0, np.int64)
    waiting = np.zeros(num_tasks, np.int64)  # reads that have been issued and not joined
    num_waiting = 0
    now, settled, soonest = 0.0, 0.0, np.inf
    while True:
        again = True
        while again:  # all that happens at this instant before rates change
            again = False
            for d in range(num_dies):
                if computes[d] <= now:
                    end[tasks[at[d]]] = previous[d]
                    computes[d] = np.inf
                    at[d] += 1
                    wakes[d] = True
                while wakes[d]:
                    wakes[d] = False
                    if at[d] == bounds[d + 1]:
                        break
                    while issued[d] < min(at[d] + window, bounds[d + 1]):
                        task = tasks[issued[d]]
                        issue[task] = now
                        joins[task] = now + latency[task]
                        waiting[num_waiting] = task
                        num_waiting += 1
                        issued[d] += 1
                    task = tasks[at[d]]
                    if is_read[task]:
                        previous[d] = max(now, max(issue[task], previous[d]) + compute[task])
                        if previous[d] > now:
                            computes[d] = previous[d]
                        else:
                            end[task] = previous[d]
                            at[d] += 1
                            wakes[d] = True
        joining = 0
        for i in range(num_waiting):
            if joins[waiting[i]] <= now:
                joining += 1
        if joining > 0 or soonest <= now:
            before = flows
            flows = np.empty(before.size + joining, np.int64)
            flows[: before.size] = before
            kept, new = 0, before.size
            for i in range(num_waiting):
                if joins[waiting[i]] <= now:
                    flows[new] = waiting[i]
                    new += 1
                else:
                    waiting[kept] = waiting[i]
                    kept += 1
            num_waiting = kept
            flows, ended, soonest = settle(
                now, now - settled, flows, left, rates, finish, row, tables, capacity, moved, busy
            )
            settled = now
            for task in ended:
                is_read[task] = True
                read_end[task] = now
            for d in range(num_dies):
                if at[d] < issued[d] and computes[d] == np.inf and is_read[tasks[at[d]]]:
                    wakes[d] = True
                    again = True
        if again:
            continue
        then = soonest
        for i in range(num_waiting):
            then = min(then, joins[waiting[i]])
        for d in range(num_dies):
            then = min(then, computes[d])
        if then == np.inf:
            return
        now = then


def compiled_kernel(
    model: FluidModel, num_dies: int, plan: Plan, nbytes: float, compute: FloatArray, window: int
) -> KernelRun:
    """Run *plan* over the fluid network *model*, as `simulate_kernel` does where no LLC holds an expert."""
    paths = model.paths
    reads = zip(plan.source.tolist(), plan.die.tolist(), plan.copy.tolist(), strict=True)
    row: IntArray = np.array([paths.row(source, die, copy, False) for source, die, copy in reads], np.int64)
    order = np.argsort(plan.die, kind="stable")
    bounds = np.searchsorted(plan.die[order], np.arange(num_dies + 1))
    log = np.zeros((3, len(row)))
    moved, busy = np.zeros(paths.num_accounts), np.zeros(len(paths.capacity))
    latency = paths.latency[0][plan.source, plan.die]
    run_dies(
        order, bounds, row, latency, compute, float(nbytes), window, paths.tables, paths.capacity, log, moved, busy
    )
    die_end = np.zeros(num_dies)
    np.maximum.at(die_end, plan.die, log[2])
    return KernelRun(
        issue=log[0],
        read_end=log[1],
        end=log[2],
        hit=np.zeros(len(row), np.bool_),
        prefetched=np.zeros(num_dies, np.int64),
        die_end=die_end,
        carried=paths.carried(moved, busy),
    )
