"""One MoE layer run from start to barrier, on SimPy: a process per die, a network between them, one clock.

A die runs its tasks in order with a window of reads in flight. A read slot is taken when a task's read is issued and
freed when that task ends. Weights are used as they stream in, so a task ends at

    end = max(read done, max(read issued, end of the previous task) + compute time).

A read looks up the LLC of the source die when it is issued; look-ups at one instant are in the order of `turns`. A die
without remaining tasks prefetches experts of the next layer into its LLC, one after another, until the last die is
done. A prefetch still in flight then is not stored. Of dies that end last at one instant, the one with the highest
index counts as the last: the others may still begin a prefetch.

This engine is the reference, to be read. `wss.engine.layer_compiled` does the same in compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import simpy

from wss.engine.llc import PREFETCHED, Llcs, keys_of, look_up, pin_if_cached, store
from wss.engine.network.simpy_network import SimpyNetwork
from wss.engine.turns import Turns
from wss.engine.work import LayerWork, WaferNetwork
from wss.records import LayerRun


def simulate_layer(network: WaferNetwork, llcs: Llcs, work: LayerWork) -> LayerRun:
    """Run the tasks of *work* and return the result.

    Only copies and LLC contents outlive a layer run, and all dies wait for the last one. So every layer run has its own
    clock, which starts at zero, and depends on nothing but its arguments.

    Parameters
    ----------
    network
        The network of the wafer.
    llcs
        The LLCs of all dies, after their `begin` for this layer run; modified.
    work
        The tasks.
    """
    return _SimpyLayer(network, llcs, work).run()


class _SimpyLayer:
    """The state of one layer run: what all dies share, and the log."""

    def __init__(self, network: WaferNetwork, llcs: Llcs, work: LayerWork) -> None:
        self._work, self._llcs, self._wafer_network = work, llcs, network
        self._env = simpy.Environment()
        self._rows = work.rows(network, llcs)
        self._prefetch_rows = work.prefetch_rows(network)
        running = network.model.start(network.reads.table, work.transfer_bytes, work.longest(network))
        self._network = SimpyNetwork(self._env, running)
        # None if no LLC can hold an expert, and the network does not need an order
        self._turns = Turns(self._env) if llcs.slots > 0 or network.model.in_turns else None
        self._keys = keys_of(work.layer, work.plan.expert)
        tasks = len(work.plan.expert)
        self._issue, self._read_end, self._end = np.zeros(tasks), np.zeros(tasks), np.zeros(tasks)
        self._hit = np.zeros(tasks, np.bool_)
        self._prefetched = np.zeros(llcs.num_dies, np.int64)

    def run(self) -> LayerRun:
        """Run all tasks."""
        plan, dies = self._work.plan, self._llcs.num_dies
        by_die = np.argsort(plan.die, kind="stable")
        bounds = np.searchsorted(plan.die[by_die], np.arange(dies + 1))
        tasks = {die: by_die[bounds[die] : bounds[die + 1]].tolist() for die in range(dies)}
        if not self._work.prefetches:
            tasks = {die: own for die, own in tasks.items() if own}
        self._working, self._ending = len(tasks), 0  # dies with tasks; those that end now and have not had their turn
        for die, own in tasks.items():
            self._env.process(self._die(die, own))
        self._env.run()
        die_end = np.zeros(dies)
        np.maximum.at(die_end, plan.die, self._end)
        return LayerRun(
            issue=self._issue,
            read_end=self._read_end,
            end=self._end,
            hit=self._hit,
            prefetched=self._prefetched,
            die_end=die_end,
            traffic=self._wafer_network.reads.resources.traffic(self._network.accounts()),
        )

    def _die(self, die: int, own: Sequence[int]) -> Generator[simpy.Event, Any, None]:
        """Run the tasks *own* on *die*, in that order; then prefetch."""
        env, issue, compute = self._env, self._issue, self._work.compute
        reads: list[simpy.Event] = []
        previous, turn = env.now, -1.0
        for i, task in enumerate(own):
            to_issue = own[len(reads) : i + self._work.window]
            if to_issue and self._turns is not None and env.now > turn:
                yield self._turns.turn(die)
                turn = env.now
            for each in to_issue:
                issue[each] = env.now
                reads.append(self._read(each))
            self._read_end[task] = yield reads[i]
            previous = max(env.now, max(issue[task], previous) + compute[task])
            if previous > env.now:
                yield env.timeout(previous - env.now)
            self._end[task] = previous
        self._working -= 1
        if self._work.prefetches and self._turns is not None:
            self._ending += 1
            yield self._turns.turn(self._llcs.num_dies + die)  # after the turns of dies with tasks
            self._ending -= 1
            yield from self._prefetch(die, self._turns)

    def _read(self, task: int) -> simpy.Event:
        """Start the read of *task*; schedule what it stores in LLCs."""
        plan, key, now = self._work.plan, self._keys[task], self._env.now
        source, die = int(plan.source[task]), int(plan.die[task])
        hit = self._hit[task] = bool(look_up(self._llcs.caches, source, key, now))
        read = self._network.transfer(task, int(self._rows[int(hit), task]))
        if self._turns is not None:
            stores = [] if hit else [source]
            stores += [die] if self._llcs.copies and plan.copy[task] else []
            assert read.callbacks is not None
            for at in stores:
                put = partial(self._store, at, key, 0)
                read.callbacks.append(partial(_store_in_turn, self._turns, die, task, put))
        return read

    def _store(self, die: int, key: int, pin: int) -> None:
        store(self._llcs.caches, die, key, self._env.now + self._llcs.spec.write, pin)

    def _prefetch(self, die: int, turns: Turns) -> Generator[simpy.Event, Any, None]:
        """Prefetch experts of the next layer into the LLC of *die*, one after another, until all dies are done."""
        work, others_work = self._work, self._working + self._ending > 0
        experts = zip(work.prefetch_transfers(die), work.prefetch_keys(die), strict=True)
        for transfer, key in experts:
            if not others_work:
                return
            if pin_if_cached(self._llcs.caches, die, key):
                continue
            self._prefetched[die] += 1
            yield self._network.transfer(transfer, int(self._prefetch_rows[die]))
            yield turns.turn(self._llcs.num_dies + die)
            others_work = self._working > 0
            if others_work:
                self._store(die, key, PREFETCHED)


def _store_in_turn(turns: Turns, die: int, task: int, put: Callable[[], None], _: simpy.Event) -> None:
    """Schedule *put* to store what *die* has read for *task*, now that the read has ended."""
    turns.store(die, task, put)
