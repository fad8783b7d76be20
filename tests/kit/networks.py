"""A network as a plug-in would bring it: one transfer after another, first come, first served, over the whole wafer."""

import math
from dataclasses import dataclass

import numpy as np

from wss.engine.network.resources import Accounts


@dataclass(frozen=True)
class OneByOne:
    """The network part of a configuration."""

    speed: float = 1.0

    def model(self, resources):
        return _Model(resources, self.speed)


class _Model:
    in_turns = True

    def __init__(self, resources, speed):
        self._capacity, self._speed = resources.capacity, speed

    def start(self, table, nbytes, longest):
        return _Running(self._capacity * self._speed, table, nbytes)


class _Running:
    def __init__(self, capacity, table, nbytes):
        self._capacity, self._table, self._nbytes = capacity, table, nbytes
        self._queue = []  # transfer, and when it ends
        self._moved, self._also_moved, self._busy = (np.zeros(len(capacity)) for _ in range(3))

    def issue(self, now, transfer, row):
        used = self._table.stages[row, : self._table.rows["length"][row]]
        resource, nbytes = used["resource"], self._nbytes[transfer]
        takes = self._table.rows["latency"][row] + (nbytes * used["share"] / self._capacity[resource]).sum()
        begins = max(now, self._queue[-1][1] if self._queue else 0.0)
        self._queue.append((transfer, begins + takes))
        for account, selected in ((self._moved, ~used["second"]), (self._also_moved, used["second"])):
            np.add.at(account, resource[selected], nbytes * used["share"][selected])
        self._busy[np.unique(resource)] += takes
        return math.inf

    def next_time(self, horizon):
        return self._queue[0][1] if self._queue else math.inf

    def advance(self, now):
        ended = [each for each in self._queue if each[1] <= now]
        self._queue = self._queue[len(ended) :]
        return ended

    def accounts(self):
        return Accounts(self._moved, self._also_moved, self._busy)
