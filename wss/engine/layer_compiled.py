"""A layer run in compiled code, without SimPy processes, over any compiled network: the twin of `simulate_layer`.

It follows the same rules. Instead of a process it keeps indices for each die. Its clock advances to the earliest of
three times: the network's next, the next end of a task's computing, and the next end of a transfer that was fixed at
its issue. Events at one instant are served in the order of `turns`. Only circuits without LLCs serve them one by one,
in scheduling order, as SimPy does. It agrees with the SimPy engine to rounding (tested to 1e-9).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from wss.arrays import sort_front
from wss.engine.heap import Heap, build_heap, pop, push
from wss.engine.llc import PREFETCHED, Llcs, keys_of, look_up, pin_if_cached, store
from wss.engine.network.compiled import CIRCUIT, FLUID, PACKET, CompiledModel, advance, issue, next_time
from wss.engine.network.fluid import TIE
from wss.engine.work import LayerWork, WaferNetwork
from wss.records import BoolArray, FloatArray, IntArray, LayerRun


class Tasks(NamedTuple):
    """The tasks of a layer run, and what dies prefetch.

    Attributes
    ----------
    order, bounds
        Indices of the tasks, ordered by die, [tasks]; the first index in it of each die and the end, [dies + 1].
    source, key, compute, copied
        Of each task: its source, the key of its expert, s of computing, and whether its die's LLC stores a copy,
        [tasks] each.
    rows
        Row in the table of each task's read from HBM and from LLC, [2, tasks].
    window
        Reads in flight per die.
    ahead, ahead_bounds, ahead_row
        Keys to prefetch, ordered by die; the first index of each die and the end, [dies + 1]; the row of the reads of
        each die, [dies]. Empty if nothing is prefetched.
    """

    order: IntArray
    bounds: IntArray
    source: IntArray
    key: IntArray
    compute: FloatArray
    copied: BoolArray
    rows: IntArray
    window: int
    ahead: IntArray
    ahead_bounds: IntArray
    ahead_row: IntArray


class Dies(NamedTuple):
    """What the dies are doing, [dies] each unless stated.

    Attributes
    ----------
    at, issued
        Index in `Tasks.order` of the current task, and of the next one to be read.
    previous
        End of the previous task, or of the current one if its weights are read and it is being computed, s.
    ahead_at, fetching
        Index of the next key to prefetch; the prefetch in flight, -1 for none.
    due, is_due
        The dies that act at this instant (the first are used), and whether each is one.
    die_of, place
        Of each task: its die, and its index in `Tasks.order`, [tasks].
    is_read
        Which transfers have ended, [transfers].
    ended
        The transfers that end at this instant; the first are used, [transfers].
    events
        Ends of computing (values are dies) and of transfers (number of dies + transfer) that are fixed.
    """

    at: IntArray
    issued: IntArray
    previous: FloatArray
    ahead_at: IntArray
    fetching: IntArray
    due: IntArray
    is_due: BoolArray
    die_of: IntArray
    place: IntArray
    is_read: BoolArray
    ended: IntArray
    events: Heap


class Log(NamedTuple):
    """The outputs: issue, read end and end of each task, and whether it hit an LLC, [tasks]; prefetches, [dies]."""

    issue: FloatArray
    read_end: FloatArray
    end: FloatArray
    hit: BoolArray
    prefetched: IntArray


@numba.njit(cache=True, nogil=True)
def _read(network, dies, now, transfer, row):  # type: ignore[no-untyped-def]
    """Issue a read at *now*."""
    end = issue(network, now, transfer, row)
    if end < np.inf:
        push(dies.events, now + (end - now), dies.at.size + transfer)


@numba.njit(cache=True, nogil=True)
def _act(d, now, tasks, dies, caches, network, log):  # type: ignore[no-untyped-def]
    """Issue reads and complete tasks of die *d* at time *now*."""
    while dies.at[d] < tasks.bounds[d + 1]:
        while dies.issued[d] < min(dies.at[d] + tasks.window, tasks.bounds[d + 1]):
            task = tasks.order[dies.issued[d]]
            log.issue[task] = now
            log.hit[task] = look_up(caches, tasks.source[task], tasks.key[task], now)
            _read(network, dies, now, task, tasks.rows[int(log.hit[task]), task])
            dies.issued[d] += 1
        task = tasks.order[dies.at[d]]
        if not dies.is_read[task]:
            return
        end = max(now, max(log.issue[task], dies.previous[d]) + tasks.compute[task])
        dies.previous[d] = end
        if end > now:
            # the fluid network needs no order of ties; the others repeat SimPy's rounding, so that the same events tie
            push(dies.events, end if network.kind == FLUID else now + (end - now), d)
            return
        log.end[task] = end
        dies.at[d] += 1


@numba.njit(cache=True, nogil=True)
def _prefetch(d, now, tasks, dies, caches, network, log, write):  # type: ignore[no-untyped-def]
    """Store what die *d* has prefetched, and prefetch the next expert, if other dies still have tasks."""
    working = False
    for other in range(dies.at.size):
        working |= dies.at[other] < tasks.bounds[other + 1]
    if dies.fetching[d] >= 0:
        if not dies.is_read[dies.fetching[d]]:
            return
        if working:
            store(caches, d, tasks.ahead[dies.ahead_at[d] - 1], now + write, PREFETCHED)
        dies.fetching[d] = -1
    while working and dies.ahead_at[d] < tasks.ahead_bounds[d + 1]:
        index = dies.ahead_at[d]
        dies.ahead_at[d] += 1
        if not pin_if_cached(caches, d, tasks.ahead[index]):
            log.prefetched[d] += 1
            dies.fetching[d] = tasks.order.size + index
            _read(network, dies, now, dies.fetching[d], tasks.ahead_row[d])
            return


@numba.njit(cache=True, nogil=True)
def _happen(now, dies, tasks, log, in_turns, one):  # type: ignore[no-untyped-def]
    """Take the events of the instant *now*, one event if *one*.

    Returns
    -------
    tuple
        The latest of their times, which differ only by rounding; the number of dies due, and of transfers that ended.
    """
    events, num_dies = dies.events, dies.at.size
    horizon = now * (1.0 + TIE) if in_turns else now
    num_due, num_ended = 0, 0
    while events.count[0] > 0 and events.key[0] <= horizon:
        now = max(now, events.key[0])
        value = pop(events)
        if value < num_dies:
            log.end[tasks.order[dies.at[value]]] = dies.previous[value]
            dies.at[value] += 1
            dies.due[num_due], dies.is_due[value] = value, True
            num_due += 1
        else:
            dies.ended[num_ended] = value - num_dies
            num_ended += 1
        if one:
            break
    sort_front(dies.due, num_due)
    return now, num_due, num_ended


@numba.njit(cache=True, nogil=True)
def _finish(now, num_ended, num_due, tasks, dies, caches, log, write):  # type: ignore[no-untyped-def]
    """Store what the ended reads of tasks brought, in order of die and task; return the new number of dies due."""
    num_tasks = tasks.order.size
    for transfer in dies.ended[:num_ended]:
        dies.is_read[transfer] = True
        d = dies.die_of[transfer]
        if transfer >= num_tasks:
            is_next = True
        else:
            if caches.key.shape[1] > 0:
                if not log.hit[transfer]:
                    store(caches, tasks.source[transfer], tasks.key[transfer], now + write, 0)
                if tasks.copied[transfer]:
                    store(caches, d, tasks.key[transfer], now + write, 0)
            is_next = dies.at[d] < tasks.bounds[d + 1] and tasks.order[dies.at[d]] == transfer
        if is_next and not dies.is_due[d]:
            dies.due[num_due], dies.is_due[d] = d, True
            num_due += 1
    return num_due


@numba.njit(cache=True, nogil=True)
def _sort_by_die(dies, num_ended):  # type: ignore[no-untyped-def]
    """Sort the transfers that ended by die, then by task."""
    for i in range(1, num_ended):
        transfer, at = dies.ended[i], i
        while at > 0 and dies.place[dies.ended[at - 1]] > dies.place[transfer]:
            dies.ended[at] = dies.ended[at - 1]
            at -= 1
        dies.ended[at] = transfer


@numba.njit(cache=True, nogil=True)
def run_tasks(tasks, dies, caches, network, log, write):  # type: ignore[no-untyped-def]
    """Run all tasks; *write* is s until a completed read is in the LLC. All else is changed, *log* is written."""
    num_dies, has_llc = dies.at.size, caches.key.shape[1] > 0
    in_turns = has_llc or network.kind == PACKET
    one = network.kind == CIRCUIT and not has_llc
    prefetches = tasks.ahead.size > 0
    now, num_due, num_ended = 0.0, num_dies, 0
    for d in range(num_dies):
        dies.due[d] = d
    while True:
        for d in dies.due[:num_due]:
            dies.is_due[d] = False
            _act(d, now, tasks, dies, caches, network, log)
        if prefetches:
            for d in dies.due[:num_due]:
                if dies.at[d] == tasks.bounds[d + 1]:
                    _prefetch(d, now, tasks, dies, caches, network, log, write)
        fixed = dies.events.key[0] if dies.events.count[0] > 0 else np.inf
        now = min(fixed, next_time(network, fixed))
        if now == np.inf:
            return
        horizon, soonest = now * (1.0 + TIE), network.fluid.clock[1]
        now, num_due, num_ended = _happen(now, dies, tasks, log, in_turns, one)
        if has_llc and soonest <= horizon:
            now = max(now, soonest)
        num_ended += advance(network, now, now, dies.ended[num_ended:])
        for transfer in dies.ended[:num_ended]:
            if transfer < tasks.order.size:
                log.read_end[transfer] = network.transfers.finish[transfer]
        if in_turns:
            _sort_by_die(dies, num_ended)
        num_due = _finish(now, num_ended, num_due, tasks, dies, caches, log, write)
        if in_turns:
            sort_front(dies.due, num_due)


def compiled_layer(network: WaferNetwork, llcs: Llcs, work: LayerWork) -> LayerRun:
    """Run the tasks of *work* over a compiled *network*, as `simulate_layer` does."""
    plan, model = work.plan, network.model
    assert isinstance(model, CompiledModel)
    tasks = _tasks(network, llcs, work)
    nbytes = np.full(len(tasks.order) + len(tasks.ahead), float(work.nbytes))
    state = model.state(network.reads.table, nbytes, float(work.compute.sum()))
    num = len(tasks.order)
    times = (np.zeros(num) for _ in range(3))
    log = Log(*times, np.zeros(num, np.bool_), np.zeros(llcs.num_dies, np.int64))
    run_tasks(tasks, _dies(tasks), llcs.caches, state, log, llcs.spec.write)
    die_end = np.zeros(llcs.num_dies)
    np.maximum.at(die_end, plan.die, log.end)
    return LayerRun(
        issue=log.issue,
        read_end=log.read_end,
        end=log.end,
        hit=log.hit,
        prefetched=log.prefetched,
        die_end=die_end,
        carried=network.reads.resources.traffic(state.transfers.moved, state.transfers.busy),
    )


def _tasks(network: WaferNetwork, llcs: Llcs, work: LayerWork) -> Tasks:
    """Return the tasks of *work* as arrays."""
    plan = work.plan
    order = np.argsort(plan.die, kind="stable")
    experts = [each[: llcs.slots] for each in work.prefetch.experts] if work.prefetch else []
    ahead = np.array([expert for each in experts for expert in each], np.int64)
    # a plan's arrays may be read-only or not; copies never are, so that the loop is compiled once
    return Tasks(
        order=order,
        bounds=np.searchsorted(plan.die[order], np.arange(llcs.num_dies + 1)),
        source=plan.source.copy(),
        key=keys_of(work.layer, plan.expert),
        compute=work.compute.copy(),
        copied=plan.copy & llcs.copies,
        rows=work.rows(network, llcs),
        window=work.window,
        ahead=keys_of(work.prefetch.layer, ahead) if work.prefetch else ahead,
        ahead_bounds=np.cumsum([0, *map(len, experts)]),
        ahead_row=work.prefetch_rows(network),
    )


def _dies(tasks: Tasks) -> Dies:
    """Return the dies before their first task."""
    num_dies, num = len(tasks.bounds) - 1, len(tasks.order) + len(tasks.ahead)
    die_of, place = np.zeros(num, np.int64), np.zeros(num, np.int64)
    die_of[tasks.order] = np.repeat(np.arange(num_dies), np.diff(tasks.bounds))
    place[tasks.order] = np.arange(len(tasks.order))
    if len(tasks.ahead):
        die_of[len(tasks.order) :] = np.repeat(np.arange(num_dies), np.diff(tasks.ahead_bounds))
        place[len(tasks.order) :] = len(tasks.order)  # they are stored in their dies' turns
    return Dies(
        at=tasks.bounds[:-1].copy(),
        issued=tasks.bounds[:-1].copy(),
        previous=np.zeros(num_dies),
        ahead_at=tasks.ahead_bounds[:-1].copy() if len(tasks.ahead) else np.zeros(num_dies, np.int64),
        fetching=np.full(num_dies, -1),
        due=np.zeros(num_dies, np.int64),
        is_due=np.zeros(num_dies, np.bool_),
        die_of=die_of,
        place=place,
        is_read=np.zeros(num, np.bool_),
        ended=np.zeros(num, np.int64),
        events=build_heap(num_dies + num, np.float64),
    )
