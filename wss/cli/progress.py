"""Lines on the state of long work, for logs and pipes, where a progress bar cannot be drawn."""

from __future__ import annotations

import time
from collections.abc import Callable

from wss.units import duration

EVERY_S = 30.0
LEAST_SHARE = 0.05  # of the work done before its rate is used: it begins with compiling and reading


class Lines:
    """Makes a line every `EVERY_S` seconds; *clock* returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._what, self._begun, self._first, self._said = "", 0.0, 0, 0.0

    def line(self, what: str, done: int, total: int, where: str) -> str | None:
        """Return a line on the work *what*, of which *done* of *total* units are done; None if it is not due yet.

        *where* says where the work is; the rate so far gives the time left, once a twentieth is done.
        """
        now = self._clock()
        if what != self._what:
            self._what, self._begun, self._first, self._said = what, now, done, now
        if now - self._said < EVERY_S:
            return None
        self._said, since = now, done - self._first
        place = f" ({where})" if where else ""
        left = (
            f", about {duration((now - self._begun) * (total - done) / since)} left"
            if since > 0 and since >= LEAST_SHARE * total and done < total
            else ""
        )
        return f"{what}: {done / max(1, total):.0%} done{place}{left}"
