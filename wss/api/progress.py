"""Progress of calls from Python: off, a bar that notebooks show too, or the user's own function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wss.execution.replications import Progress


class _Bar:
    """A progress bar, one at a time for each kind of work."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""

    def __call__(self, what: str, done: int, total: int, where: str) -> None:
        """Show that *done* of *total* units of the work *what* are done; *where* is not shown."""
        from tqdm.auto import tqdm  # noqa: PLC0415 - only with progress

        if what != self._what:
            self.close()
            self._what, self._bar = what, tqdm(total=total, desc=what, leave=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._what = None, ""


def _quiet(what: str, done: int, total: int, where: str) -> None:
    """Ignore progress."""


@contextmanager
def showing(progress: bool | Progress) -> Iterator[Progress]:
    """Yield a `Progress`: the user's, a bar if *progress* is true, or one that does nothing."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield _quiet
        return
    bar = _Bar()
    try:
        yield bar
    finally:
        bar.close()
