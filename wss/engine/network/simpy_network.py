"""Any network on a SimPy clock: a transfer is an event."""

from __future__ import annotations

import math
from typing import cast

import simpy
from simpy.events import EventPriority

from wss.engine.network.base import Network
from wss.engine.network.resources import Accounts

# SimPy serves equal times by priority, then in scheduling order. The network advances after the dies have computed, and
# before they take turns; it looks ahead after all of that.
ADVANCE, TURNS, LOOK_AHEAD = EventPriority(2), EventPriority(3), EventPriority(4)


class SimpyNetwork:
    """*network* on the clock *env*."""

    def __init__(self, env: simpy.Environment, network: Network) -> None:
        self._env, self._network = env, network
        self._transfers: dict[int, simpy.Event] = {}  # in flight, with an end that is not known yet
        self._looking = False
        self._wake = math.inf

    def transfer(self, transfer: int, row: int) -> simpy.Event:
        """Start *transfer*; the event occurs when its last byte has arrived, and its value is that time."""
        now = self._env.now
        end = self._network.issue(now, transfer, row)
        if end < math.inf:
            return self._env.timeout(end - now, end)
        self._transfers[transfer] = self._env.event()
        self._look_ahead_soon()
        return self._transfers[transfer]

    def accounts(self) -> Accounts:
        """Return what each resource has carried so far."""
        return self._network.accounts()

    def _look_ahead_soon(self) -> None:
        if not self._looking:
            self._looking = True
            event_in(self._env, 0.0, LOOK_AHEAD).callbacks.append(self._look_ahead)

    def _look_ahead(self, _: simpy.Event) -> None:
        self._looking = False
        then = self._network.next_time(self._env.peek())
        if then < math.inf and then != self._wake:
            self._wake = then
            event_in(self._env, max(0.0, then - self._env.now), ADVANCE, then).callbacks.append(self._advance)

    def _advance(self, wake: simpy.Event) -> None:
        if cast("float", wake.value) != self._wake:  # the network has changed its plan since
            return
        self._wake = math.inf
        for transfer, end in self._network.advance(self._env.now):
            self._transfers.pop(transfer).succeed(end)
        self._look_ahead_soon()


def event_in(env: simpy.Environment, delay: float, priority: EventPriority, value: object = None) -> simpy.Event:
    """Return an event in *delay* seconds, after the events at that time whose priority number is smaller."""
    event = env.event()
    event._ok, event._value = True, value
    env.schedule(event, priority=priority, delay=delay)
    return event
