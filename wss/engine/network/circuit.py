"""The circuit network in a run: a read holds the source's HBM and its whole route for its duration.

A read takes its start latency plus its bytes over the rate of the slowest resource it holds. It achieves a share of
each resource's bandwidth. Reads are served in the order of issue; none overtakes another on any resource, even one that
is idle meanwhile. With half duplex, both directions of a link are one resource. Requests hold no resource.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import simpy

from wss.engine.network.resources import ReadResources
from wss.hardware.wafer import Wafer
from wss.records import FloatArray, IntArray, Traffic


class CircuitModel:
    """The circuit network of a wafer, before it runs."""

    def __init__(
        self, wafer: Wafer, duplex: Literal["full", "half"], hbm_share: float = 1.0, link_share: float = 1.0
    ) -> None:
        self.paths = ReadResources(wafer)
        dies = wafer.num_dies
        self.achieved: FloatArray = self.paths.capacity.copy()
        self.achieved[:dies] *= hbm_share
        self.achieved[dies:-dies] *= link_share
        self.is_link = np.zeros(len(self.achieved), np.bool_)
        self.is_link[dies:-dies] = True
        self.shared: IntArray = np.arange(len(self.paths.capacity))
        if duplex == "half":
            number = {tuple(link): wafer.num_dies + i for i, link in enumerate(wafer.links.tolist())}
            for (a, b), resource in number.items():
                self.shared[resource] = min(resource, number[b, a])

    def start(self, env: simpy.Environment) -> Circuits:
        """Return a running network on the clock *env*."""
        return Circuits(env, self)


class Circuits:
    """The running circuit network."""

    def __init__(self, env: simpy.Environment, model: CircuitModel) -> None:
        self._env, self._paths, self._shared = env, model.paths, model.shared
        self._achieved, self._is_link = model.achieved, model.is_link
        self._free = np.zeros(len(model.paths.capacity))
        self._busy = np.zeros(len(model.paths.capacity))
        self._moved = np.zeros(model.paths.num_accounts)

    def read(self, source: int, die: int, nbytes: float, copy: bool, hit: bool = False) -> simpy.Event:
        """Transfer *nbytes* from HBM or LLC of *source* to *die*; the event's value is when the last byte arrives."""
        row = self._paths.row(source, die, copy, hit)
        resources, weights, lengths, accounts = self._paths.tables
        used = slice(0, int(lengths[row]))
        self._moved[accounts[row, used]] += weights[row, used] * nbytes
        is_request = (accounts[row, used] >= len(self._busy)) & self._is_link[resources[row, used]]
        held = resources[row, used][~is_request]
        takes = float(self._paths.latency[int(hit), source, die]) + nbytes / float(self._achieved[held].min())
        servers = self._shared[held]
        end = max(self._env.now, float(self._free[servers].max())) + takes
        self._free[servers] = end
        self._busy[held] += takes
        return self._env.timeout(end - self._env.now, end)

    def carried(self) -> Traffic:
        """Return the traffic so far; a link is busy while it is held."""
        return self._paths.carried(self._moved, self._busy)
