"""The compute side of a die: it runs its tasks in order with a window of reads in flight.

A read slot is taken when a task's read is issued and freed when that task ends. Weights are used as they stream in, so
a task ends at

    end = max(read done, max(read issued, end of the previous task) + compute time).

A read looks up the LLC of the source die when it is issued; look-ups at one instant are in the order of `turns`. A die
without remaining tasks prefetches experts of the next layer into its LLC, one after another, until the last die is
done. A prefetch still in flight then is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import simpy

from wss.engine.llc import Key, Llcs
from wss.engine.network.base import Network
from wss.engine.network.fluid import TIE
from wss.engine.turns import Turns
from wss.records import BoolArray, FloatArray, IntArray, Plan


def _store_at(turns: Turns, die: int, task: int, put: Callable[[], None], read: simpy.Event) -> None:
    """Schedule *put* to store what *die* has read for *task*, now that the *read* has ended."""
    turns.store(die, task, put)


@dataclass(frozen=True, kw_only=True)
class PrefetchPlan:
    """What to prefetch: experts of *layer*, the next to run, for each die, highest priority first, [dies] lists."""

    layer: int
    experts: Sequence[Sequence[int]]


@dataclass(eq=False, kw_only=True)
class LayerProcess:
    """The state of one layer run: what all dies share, and the log, [tasks] and [dies]."""

    env: simpy.Environment
    network: Network
    plan: Plan
    layer: int
    nbytes: float
    compute: FloatArray
    window: int
    llcs: Llcs
    ahead: PrefetchPlan | None
    working: int  # dies with unfinished tasks
    issue: FloatArray = field(init=False)
    read_end: FloatArray = field(init=False)
    end: FloatArray = field(init=False)
    hit: BoolArray = field(init=False)
    prefetched: IntArray = field(init=False)
    turns: Turns | None = field(init=False)  # None if no LLC can hold an expert: look-ups are not needed

    def __post_init__(self) -> None:
        tasks = len(self.plan.expert)
        self.issue, self.read_end, self.end = np.zeros(tasks), np.zeros(tasks), np.zeros(tasks)
        self.hit = np.zeros(tasks, np.bool_)
        self.prefetched = np.zeros(self.llcs.num_dies, np.int64)
        self.turns = Turns(self.env) if self.nbytes <= self.llcs.spec.size else None

    def die(self, die: int, mine: Sequence[int]) -> Generator[simpy.Event, Any, None]:
        """Run the tasks *mine* of the plan on *die*, in that order."""
        env = self.env
        reads: list[simpy.Event] = []
        previous, turn = env.now, -1.0
        for i, task in enumerate(mine):
            wanted = mine[len(reads) : i + self.window]
            if wanted and self.turns is not None and env.now > turn:
                yield self.turns.turn(die)
                turn = env.now
            for ahead in wanted:
                self.issue[ahead] = env.now
                reads.append(self._read(ahead))
            self.read_end[task] = yield reads[i]
            previous = max(env.now, max(self.issue[task], previous) + self.compute[task])
            if previous > env.now:
                yield env.timeout(previous - env.now)
            self.end[task] = previous
        self.working -= 1
        if self.ahead is not None:
            yield from self._prefetch(die, self.ahead)

    def _read(self, task: int) -> simpy.Event:
        plan = self.plan
        source, key = int(plan.source[task]), (self.layer, int(plan.expert[task]))
        llc = self.llcs[source]
        hit = llc.look_up(key, self.env.now * (1.0 + TIE))
        die = int(plan.die[task])
        read = self.network.read(source, die, self.nbytes, bool(plan.copy[task]), hit)
        self.hit[task] = hit
        if (turns := self.turns) is None:
            return read
        stores = [] if hit else [source]
        stores += [die] if self.llcs.copies and plan.copy[task] else []
        assert read.callbacks is not None
        for at in stores:
            read.callbacks.append(partial(_store_at, turns, die, task, partial(self._store, at, key)))
        return read

    def _store(self, die: int, key: Key, *, keep: bool = False) -> None:
        self.llcs[die].store(key, self.nbytes, self.env.now + self.llcs.spec.write, keep=keep)

    def _prefetch(self, die: int, ahead: PrefetchPlan) -> Generator[simpy.Event, Any, None]:
        llc, spec = self.llcs[die], self.llcs.spec
        task = len(self.plan.expert)  # after those of the plan
        for expert in ahead.experts[die][: int(spec.size // self.nbytes)]:
            if not self.working:
                return
            if llc.keep((ahead.layer, expert)):
                continue
            self.prefetched[die] += 1
            yield self.network.read(die, die, self.nbytes, False, False)
            assert self.turns is not None
            self.turns.store(die, task, partial(self._store_ahead, die, (ahead.layer, expert)))
            yield self.turns.turn(die)

    def _store_ahead(self, die: int, key: Key) -> None:
        if self.working:
            self._store(die, key, keep=True)
