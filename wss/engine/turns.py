"""The order of simultaneous events: by die, then by task.

An expert may be looked up in an LLC at the instant at which another one evicts it; the order decides whether this is a
hit. So all experts read by an instant are stored first, ordered by the die that read them, then by task. Then the dies
advance in order of index, each as far as it can, and so look up their tasks in order. Times that differ only by
rounding are one instant. The compiled networks follow the same rule.
"""

from __future__ import annotations

from collections.abc import Callable

import simpy
from simpy.events import EventPriority

from wss.engine.network.fluid import TIE

AFTER_ALL = EventPriority(3)  # after the networks have settled


class Turns:
    """The order in which the dies of one layer run act at an instant."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._stores: list[tuple[int, int, Callable[[], None]]] = []
        self._waiting: dict[int, simpy.Event] = {}
        self._due = False

    def store(self, die: int, task: int, put: Callable[[], None]) -> None:
        """Schedule *put* at this instant, to store what *die* has read for *task*."""
        self._stores.append((die, task, put))
        self._call(0.0)

    def turn(self, die: int) -> simpy.Event:
        """Return the event at which *die* may act, at this instant."""
        self._waiting[die] = self._env.event()
        self._call(0.0)
        return self._waiting[die]

    def _call(self, delay: float) -> None:
        if self._due:
            return
        self._due = True
        last = self._env.event()
        last._ok, last._value = True, None
        last.callbacks.append(self._serve)
        self._env.schedule(last, priority=AFTER_ALL, delay=delay)

    def _serve(self, last: simpy.Event) -> None:
        self._due = False
        now, following = self._env.now, self._env.peek()
        if now < following <= now * (1.0 + TIE):
            self._call(following - now)
            return
        for *_, put in sorted(self._stores, key=lambda store: store[:2]):
            put()
        self._stores.clear()
        for die in sorted(self._waiting):
            self._waiting.pop(die).succeed()
