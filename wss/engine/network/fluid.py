"""The fluid network: reads in flight share HBM ports and links max-min fairly.

A read of n bytes joins the sharing after its start latency (LLC miss, HBM, and the hops there and back). It then uses,
for each byte: 1 byte of the source's HBM; 1 byte of each link on the route from source to die; request/granule bytes of
each link on the way back, for the stream of requests; and, if the weights are kept, 1 byte of the die's own HBM. Rates
change whenever a read joins or ends. Simultaneous events are batched.
"""

from __future__ import annotations

from typing import cast

import numba
import numpy as np
import simpy
from simpy.events import EventPriority

from wss.engine.network.maxmin import max_min, scratch
from wss.engine.network.resources import ReadResources
from wss.hardware.wafer import Wafer
from wss.records import Traffic

# Reads whose ends differ by less than this share of the time end together; it only absorbs rounding.
TIE = 1e-13
# SimPy serves equal times by priority, then in scheduling order; sharing is settled after everything else.
LAST = EventPriority(2)


@numba.njit(cache=True, nogil=True)
def settle(now, elapsed, flows, left, rates, finish, row, tables, capacity, moved, busy, ended, room):  # type: ignore[no-untyped-def]
    """Advance all *flows* by *elapsed* seconds, remove those that end, and recompute the rates.

    Arrays by slot: *left* (bytes), *rates* (B/s), *finish* (s), *row* (of the tables). *tables* are the paths, weights
    and lengths of `max_min`, and the accounts, [rows, longest], to which bytes are booked in *moved*, [accounts].
    *flows* is rewritten: those still in progress come first. The slots that ended are written to *ended*, of the same
    length. *room* is the result of `maxmin.scratch`.

    Returns
    -------
    tuple
        How many flows are in progress, how many ended, and when the next will end (infinite if none).
    """
    paths, weights, lengths, accounts = tables
    seen = room[3]
    seen[:] = False
    num_going, num_ended = 0, 0
    for f in flows:
        done = finish[f] <= now * (1.0 + TIE)
        amount = left[f] if done else min(left[f], rates[f] * elapsed)
        if rates[f] > 0.0:  # a flow that joins now has not moved yet
            for k in range(lengths[row[f]]):
                moved[accounts[row[f], k]] += weights[row[f], k] * amount
                seen[paths[row[f], k]] = True
        left[f] -= amount
        if done:
            ended[num_ended] = f
            num_ended += 1
        else:
            flows[num_going] = f
            num_going += 1
    for r in range(busy.size):
        if seen[r]:
            busy[r] += elapsed

    going = flows[:num_going]
    max_min(going, row, paths, weights, lengths, capacity, rates, room)
    soonest = np.inf
    for f in going:
        finish[f] = now + left[f] / rates[f]
        soonest = min(soonest, finish[f])
    return num_going, num_ended, soonest


class FluidModel:
    """The fluid network of a wafer, before it runs: the resources of each read, and their capacity."""

    def __init__(self, wafer: Wafer) -> None:
        self.paths = ReadResources(wafer)

    def start(self, env: simpy.Environment) -> Fluid:
        """Return a running network on the clock *env*."""
        return Fluid(env, self.paths)


class Fluid:
    """The running fluid network. Packets, routers and their buffers are not modelled."""

    def __init__(self, env: simpy.Environment, paths: ReadResources) -> None:
        self._env = env
        self._paths = paths
        self._done: list[simpy.Event] = []
        self._flows = np.zeros(0, np.int64)
        self._joining: list[int] = []
        self._left, self._rates, self._finish = np.zeros(64), np.zeros(64), np.full(64, np.inf)
        self._row = np.zeros(64, np.int64)
        self._moved = np.zeros(paths.num_accounts)
        self._busy = np.zeros(len(paths.capacity))
        self._settled_at = 0.0
        self._settling = False
        self._wake: simpy.Event | None = None

    def read(self, source: int, die: int, nbytes: float, copy: bool, hit: bool = False) -> simpy.Event:
        """Transfer *nbytes* from HBM or LLC of *source* to *die*; the event's value is when the last byte arrives."""
        slot = len(self._done)
        if slot == len(self._left):
            self._grow(slot)
        self._done.append(self._env.event())
        self._left[slot], self._rates[slot] = nbytes, 0.0
        self._row[slot] = self._paths.row(source, die, copy, hit)
        start = self._env.timeout(self._paths.latency[int(hit), source, die], slot)
        start.callbacks.append(self._join)
        return self._done[slot]

    def _grow(self, more: int) -> None:
        self._left = np.concatenate([self._left, np.zeros(more)])
        self._rates = np.concatenate([self._rates, np.zeros(more)])
        self._finish = np.concatenate([self._finish, np.full(more, np.inf)])
        self._row = np.concatenate([self._row, np.zeros(more, np.int64)])

    def carried(self) -> Traffic:
        """Return the traffic up to the last change of rates."""
        return self._paths.carried(self._moved, self._busy)

    def _join(self, start: simpy.Event) -> None:
        self._joining.append(cast("int", start.value))
        self._settle_soon()

    def _wake_up(self, wake: simpy.Event) -> None:
        if wake is self._wake:
            self._settle_soon()

    def _settle_soon(self) -> None:
        if not self._settling:
            self._settling = True
            last = self._env.event()
            last._ok, last._value = True, None
            last.callbacks.append(self._settle)
            self._env.schedule(last, priority=LAST)

    def _settle(self, _: simpy.Event) -> None:
        now = self._env.now
        flows = np.concatenate([self._flows, np.array(self._joining, np.int64)])
        self._joining.clear()
        self._settling = False
        ended = np.empty_like(flows)
        num_going, num_ended, soonest = settle(
            now,
            now - self._settled_at,
            flows,
            self._left,
            self._rates,
            self._finish,
            self._row,
            self._paths.tables,
            self._paths.capacity,
            self._moved,
            self._busy,
            ended,
            scratch(len(flows), len(self._busy)),
        )
        self._flows, self._settled_at = flows[:num_going], now
        for slot in ended[:num_ended].tolist():
            self._done[slot].succeed(now)
        if len(self._flows):
            self._wake = self._env.timeout(soonest - now)
            self._wake.callbacks.append(self._wake_up)
