"""The order of simultaneous events: by die, then by task.

An expert may be looked up in an LLC at the instant at which another one evicts it; the order decides whether this is a
hit. So all experts read by an instant are stored first, ordered by the die that read them, then by task. Then the dies
act in order of index: each looks up and issues its tasks in order. Dies that prefetch come last. Times that differ only
by rounding are one instant. The compiled engine follows the same rule.
"""

from __future__ import annotations

from collections.abc import Callable

import simpy

from wss.engine.network.fluid import TIE
from wss.engine.network.simpy_network import TURNS, event_in


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

    def turn(self, number: int) -> simpy.Event:
        """Return the event of the turn *number*, at this instant; turns are served in ascending order."""
        self._waiting[number] = self._env.event()
        self._call(0.0)
        return self._waiting[number]

    def _call(self, delay: float) -> None:
        if not self._due:
            self._due = True
            event_in(self._env, delay, TURNS).callbacks.append(self._serve)

    def _serve(self, _: simpy.Event) -> None:
        self._due = False
        now, following = self._env.now, self._env.peek()
        if now < following <= now * (1.0 + TIE):
            self._call(following - now)
            return
        for store in sorted(self._stores, key=lambda store: store[:2]):
            store[2]()
        self._stores.clear()
        for number in sorted(self._waiting):
            self._waiting.pop(number).succeed()
