"""A layer run in compiled code, without SimPy processes, over any compiled network: the twin of `simulate_layer`.

It follows the same rules. Instead of a process it keeps a record for each die. Its clock advances to the earliest of
three times: the network's next, the next end of a task's computing, and the next end of a transfer that was fixed at
its issue. Events at one instant are served in the order of `turns`. Only circuits without LLCs serve them one by one,
in scheduling order, as SimPy does. It agrees with the SimPy engine to rounding (tested to 1e-9).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wss.arrays import records, sort_front
from wss.compiling import borrowing
from wss.engine.heap import Heap, build_heap, pop, push
from wss.engine.llc import PREFETCHED, Llcs, keys_of, look_up, pin_if_cached, store
from wss.engine.network.compiled import CompiledModel, advance, issue, named, next_time, plain
from wss.engine.network.fluid import TIE
from wss.engine.network.state import CIRCUIT, FLUID, PACKET, NetworkState
from wss.engine.work import LayerWork, WaferNetwork
from wss.records import IntArray, LayerRun

TASK = np.dtype(
    [
        # inputs: the die that runs it, that from which it reads, the key of its expert, s of computing, whether the
        # die's LLC stores a copy, and the rows of its read from HBM and from LLC
        ("die", np.int64),
        ("source", np.int64),
        ("key", np.int64),
        ("compute", np.float64),
        ("copied", np.bool_),
        ("hbm_row", np.int64),
        ("llc_row", np.int64),
        # outputs: s of issue, end of the read and end; whether it hit an LLC
        ("issue", np.float64),
        ("read_end", np.float64),
        ("end", np.float64),
        ("hit", np.bool_),
        ("is_read", np.bool_),
    ],
    align=True,
)
PREFETCH = np.dtype([("die", np.int64), ("key", np.int64), ("is_read", np.bool_)], align=True)
DIE = np.dtype(
    [
        # the current task, the next one to be read, and the one after the last
        ("at", np.int64),
        ("issued", np.int64),
        ("last", np.int64),
        # s when the previous task ended, or the current one ends if its weights are read and it is being computed
        ("previous", np.float64),
        # the next expert to prefetch, the one after the last, the one in flight (-1 for none), the row of the reads,
        # and how many were fetched
        ("ahead", np.int64),
        ("ahead_last", np.int64),
        ("fetching", np.int64),
        ("ahead_row", np.int64),
        ("prefetched", np.int64),
        # whether it acts at this instant; whether it has had the turn in which its last task ended
        ("is_due", np.bool_),
        ("is_done", np.bool_),
    ],
    align=True,
)


class Layer(NamedTuple):
    """The state of a layer run.

    Attributes
    ----------
    events
        Ends of computing (values are dies) and of transfers (number of dies + transfer) that are fixed.
    dies, tasks, prefetches
        `DIE`, `TASK` and `PREFETCH` records; the last two are ordered by die.
    due, ended
        The dies that act at this instant, [dies], and the transfers that end, [transfers]; the first are used.
    window, write
        Reads in flight per die; s until a completed read is in the LLC.
    """

    events: Heap
    dies: npt.NDArray[Any]
    tasks: npt.NDArray[Any]
    prefetches: npt.NDArray[Any]
    due: IntArray
    ended: IntArray
    window: int
    write: float


@borrowing
def _read(network, events, now, transfer, row, num_dies):  # type: ignore[no-untyped-def]
    """Issue a read at *now*."""
    end = issue(network, now, transfer, row)
    if end < np.inf:
        push(events, now + (end - now), num_dies + transfer)


@borrowing
def _act(die, d, now, layer, caches, network):  # type: ignore[no-untyped-def]
    """Issue reads and complete tasks of the *die* of index *d* at time *now*."""
    tasks = layer.tasks
    while die.at < die.last:
        while die.issued < min(die.at + layer.window, die.last):
            task = tasks[die.issued]
            task.issue = now
            if caches is not None:
                task.hit = look_up(caches, task.source, task.key, now)
            row = task.llc_row if task.hit else task.hbm_row
            _read(network, layer.events, now, die.issued, row, layer.dies.size)
            die.issued += 1
        task = tasks[die.at]
        if not task.is_read:
            return
        end = max(now, max(task.issue, die.previous) + task.compute)
        die.previous = end
        if end > now:
            # the fluid network needs no order of ties; the others repeat SimPy's rounding, so that the same events tie
            push(layer.events, end if network.kind == FLUID else now + (end - now), d)
            return
        task.end = end
        die.at += 1


@borrowing
def _prefetch(d, ending, now, layer, caches, network):  # type: ignore[no-untyped-def]
    """Store what die *d* has prefetched, and prefetch the next expert, while any die has tasks.

    *ending* dies end at this instant and have not had their turn; they count only for a die that ends too.
    """
    die, prefetches = layer.dies[d], layer.prefetches
    working = not die.is_done and ending > 0
    for other in range(layer.dies.size):
        working |= layer.dies[other].at < layer.dies[other].last
    die.is_done = True
    if die.fetching >= 0:
        if not prefetches[die.fetching].is_read:
            return
        if working:
            store(caches, d, prefetches[die.fetching].key, now + layer.write, PREFETCHED)
        die.fetching = -1
    while working and die.ahead < die.ahead_last:
        index = die.ahead
        die.ahead += 1
        if not pin_if_cached(caches, d, prefetches[index].key):
            die.prefetched += 1
            die.fetching = index
            _read(network, layer.events, now, layer.tasks.size + index, die.ahead_row, layer.dies.size)
            return


@borrowing
def _happen(now, horizon, layer, one):  # type: ignore[no-untyped-def]
    """Take the events up to *horizon*, which differs from *now* only by rounding; one event if *one*.

    Returns
    -------
    tuple
        The latest of their times; the number of dies due, and of transfers that ended.
    """
    events, dies, num_due, num_ended = layer.events, layer.dies, 0, 0
    while events.count[0] > 0 and events.events[0].key <= horizon:
        now = max(now, events.events[0].key)
        value = pop(events)
        if value < dies.size:
            die = dies[value]
            layer.tasks[die.at].end = die.previous
            die.at += 1
            layer.due[num_due], die.is_due = value, True
            num_due += 1
        else:
            layer.ended[num_ended] = value - dies.size
            num_ended += 1
        if one:
            break
    sort_front(layer.due, num_due)
    return now, num_due, num_ended


@borrowing
def _finish(now, num_ended, num_due, layer, caches, transfers):  # type: ignore[no-untyped-def]
    """Store what the ended reads of tasks brought; return the new number of dies due."""
    dies, tasks = layer.dies, layer.tasks
    for transfer in layer.ended[:num_ended]:
        if transfer >= tasks.size:
            prefetch = layer.prefetches[transfer - tasks.size]
            prefetch.is_read = True
            d, acts = prefetch.die, True  # it is stored in the turn of the die
        else:
            task = tasks[transfer]
            task.is_read, task.read_end = True, transfers[transfer].finish
            d = task.die
            acts = dies[d].at == transfer
            if caches is not None:
                if not task.hit:
                    store(caches, task.source, task.key, now + layer.write, 0)
                if task.copied:
                    store(caches, d, task.key, now + layer.write, 0)
        if acts and not dies[d].is_due:
            layer.due[num_due], dies[d].is_due = d, True
            num_due += 1
    return num_due


@borrowing
def run_tasks(plain_layer, caches, plain_network):  # type: ignore[no-untyped-def]
    """Run all tasks; the states are changed in place.

    *plain_layer* and *plain_network* are `plain`. *caches* is None without LLCs; then their code is not compiled.
    """
    layer, network = Layer(Heap(*plain_layer[0]), *plain_layer[1:]), named(plain_network)
    dies, due, events, clock = layer.dies, layer.due, layer.events, network.clock
    has_llc = caches is not None
    in_turns = has_llc or network.kind == PACKET
    one = network.kind == CIRCUIT and not has_llc
    merges_ends = has_llc and network.kind == FLUID
    now, num_due = 0.0, dies.size
    while True:
        for d in due[:num_due]:
            dies[d].is_due = False
            _act(dies[d], d, now, layer, caches, network)
        if caches is not None and layer.prefetches.size > 0:
            ending = 0
            for d in due[:num_due]:
                ending += dies[d].at == dies[d].last and not dies[d].is_done
            for d in due[:num_due]:
                if dies[d].at == dies[d].last:
                    ending -= not dies[d].is_done
                    _prefetch(d, ending, now, layer, caches, network)
        fixed = events.events[0].key if events.count[0] > 0 else np.inf
        now = fixed if network.kind == CIRCUIT else min(fixed, next_time(network, fixed))
        if now == np.inf:
            return
        horizon = now * (1.0 + TIE) if in_turns else now
        soonest = clock[1]
        now, num_due, num_ended = _happen(now, horizon, layer, one)
        if merges_ends and soonest <= horizon:
            now = max(now, soonest)
        if network.kind != CIRCUIT:
            num_ended = advance(network, now, now, layer.ended)
        if in_turns:
            sort_front(layer.ended, num_ended)
        num_due = _finish(now, num_ended, num_due, layer, caches, network.transfers)
        if in_turns:
            sort_front(due, num_due)


def compiled_layer(network: WaferNetwork, llcs: Llcs, work: LayerWork) -> LayerRun:
    """Run the tasks of *work* over a compiled *network*, as `simulate_layer` does."""
    model = network.model
    assert isinstance(model, CompiledModel)
    order = np.argsort(work.plan.die, kind="stable")
    layer = _layer(network, llcs, work, order)
    state: NetworkState = model.state(network.reads.table, work.transfer_bytes, work.longest(network))
    run_tasks(plain(layer), llcs.caches if llcs.slots else None, plain(state))
    tasks = np.empty_like(layer.tasks)
    tasks[order] = layer.tasks  # in the order of the plan
    die_end = np.zeros(llcs.num_dies)
    np.maximum.at(die_end, tasks["die"], tasks["end"])
    return LayerRun(
        issue=tasks["issue"],
        read_end=tasks["read_end"],
        end=tasks["end"],
        hit=tasks["hit"],
        prefetched=layer.dies["prefetched"],
        die_end=die_end,
        traffic=network.reads.resources.traffic(state.accounts),
    )


def _layer(network: WaferNetwork, llcs: Llcs, work: LayerWork, order: IntArray) -> Layer:
    """Return *work* before its first task; *order* sorts the tasks by die."""
    plan, num_dies = work.plan, llcs.num_dies
    tasks = records(len(order), TASK)
    tasks["die"], tasks["source"], tasks["compute"] = plan.die[order], plan.source[order], work.compute[order]
    tasks["key"], tasks["copied"] = keys_of(work.layer, plan.expert[order]), plan.copy[order] & llcs.copies
    tasks["hbm_row"], tasks["llc_row"] = work.rows(network, llcs)[:, order]
    dies = records(num_dies, DIE)
    bounds = np.searchsorted(tasks["die"], np.arange(num_dies + 1))
    dies["at"], dies["issued"], dies["last"], dies["fetching"] = bounds[:-1], bounds[:-1], bounds[1:], -1
    prefetches = records(0, PREFETCH)
    if work.prefetch is not None:
        experts = work.prefetch.experts if llcs.slots else [[] for _ in range(num_dies)]
        ends = np.cumsum([len(each) for each in experts])
        prefetches = records(int(ends[-1]), PREFETCH)
        prefetches["die"] = np.repeat(np.arange(num_dies), np.diff(ends, prepend=0))
        prefetches["key"] = keys_of(work.prefetch.layer, np.array([e for each in experts for e in each], np.int64))
        dies["ahead"], dies["ahead_last"] = np.concatenate([[0], ends[:-1]]), ends
        dies["ahead_row"] = work.prefetch_rows(network)
    num = len(tasks) + len(prefetches)
    return Layer(
        events=build_heap(num_dies + num),
        dies=dies,
        tasks=tasks,
        prefetches=prefetches,
        due=np.arange(num_dies),
        ended=np.zeros(num, np.int64),
        window=work.window,
        write=llcs.spec.write,
    )
