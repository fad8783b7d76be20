"""Shared by the compiled networks: the tasks of a layer run as arrays, and the LLCs in compiled code."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from wss.engine.llc import EMPTY, Llcs
from wss.engine.network.fluid import TIE
from wss.engine.network.resources import ReadResources
from wss.records import FloatArray, IntArray, LayerRun, Plan


@numba.njit(cache=True, nogil=True)
def look_up(keys, ready, key, now):  # type: ignore[no-untyped-def]
    """Whether *key* can be read from one LLC at *now*; if so it moves to the end, as the most recently used."""
    for i in range(keys.size):
        if keys[i] == key and ready[i] <= now * (1.0 + TIE):
            since = ready[i]
            last = i
            while last + 1 < keys.size and keys[last + 1] != EMPTY:
                keys[last], ready[last] = keys[last + 1], ready[last + 1]
                last += 1
            keys[last], ready[last] = key, since
            return True
    return False


@numba.njit(cache=True, nogil=True)
def store(keys, ready, key, since):  # type: ignore[no-untyped-def]
    """Store *key* in one LLC; if it is full, evict the least recently used."""
    for i in range(keys.size):
        if keys[i] == key:
            return
        if keys[i] == EMPTY:
            keys[i], ready[i] = key, since
            return
    for i in range(keys.size - 1):
        keys[i], ready[i] = keys[i + 1], ready[i + 1]
    keys[keys.size - 1], ready[keys.size - 1] = key, since


class Tasks:
    """The inputs and outputs of compiled code for the tasks of a layer run.

    Attributes
    ----------
    plan
        Indices of the tasks, ordered by die, [tasks]; the first index of each die and the end, [dies + 1]; for each
        task its source, the key of its expert, s of computing, and whether its die's LLC stores a copy, [tasks] each.
    rows, latencies
        Row in the path tables, and s from issue to joining, of each read from HBM and from LLC, [2, tasks].
    llcs
        Keys, oldest first, padded with `EMPTY`, and from when they can be read, [dies, places] each.
    hit, log
        Outputs: whether an LLC was hit, [tasks]; issue, read end and end, [3, tasks].
    moved, busy
        Outputs: bytes booked to each account, [accounts], and s of use of each resource, [resources].
    """

    def __init__(
        self, paths: ReadResources, llcs: Llcs, layer: int, plan: Plan, nbytes: float, compute: FloatArray
    ) -> None:
        self._paths, self._llcs, self._plan, self._nbytes = paths, llcs, plan, nbytes
        num_tasks, places = len(plan.expert), llcs.places(nbytes)
        order = np.argsort(plan.die, kind="stable")
        bounds = np.searchsorted(plan.die[order], np.arange(llcs.num_dies + 1))
        # a plan's arrays may be read-only or not; copies never are, so that networks are compiled once
        cached = plan.copy & llcs.copies
        self.plan = (order, bounds, plan.source.copy(), llcs.keys(layer, plan.expert), compute, cached)
        self.rows: IntArray = np.stack([paths.rows(plan, hit) for hit in (False, places > 0)])
        self.latencies: FloatArray = np.ascontiguousarray(paths.latency[:, plan.source, plan.die])
        self.llcs = llcs.as_arrays(places)
        self.hit, self.log = np.zeros(num_tasks, np.bool_), np.zeros((3, num_tasks))
        self.moved, self.busy = np.zeros(paths.num_accounts), np.zeros(len(paths.capacity))

    def run(self, compiled: Callable[..., None], window: int, *network: object) -> LayerRun:
        """Run the tasks in *compiled* over its *network*, with *window* reads in flight per die."""
        before = (self.plan, self.rows, self.latencies, float(self._nbytes), window, self._llcs.spec.write)
        compiled(*before, *network, self.llcs, self.hit, self.log, self.moved, self.busy)
        return self._outcome()

    def _outcome(self) -> LayerRun:
        """Store the contents of the LLCs, and return the result."""
        self._llcs.from_arrays(*self.llcs, self._nbytes)
        die_end = np.zeros(self._llcs.num_dies)
        np.maximum.at(die_end, self._plan.die, self.log[2])
        return LayerRun(
            issue=self.log[0],
            read_end=self.log[1],
            end=self.log[2],
            hit=self.hit,
            prefetched=np.zeros(self._llcs.num_dies, np.int64),
            die_end=die_end,
            carried=self._paths.carried(self.moved, self.busy),
        )
