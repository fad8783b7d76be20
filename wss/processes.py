"""Worker processes that end with their parent."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from types import ModuleType
from typing import Any

from wss.ending import starting_processes


class _Pool(ProcessPoolExecutor):
    """A pool that starts its processes on submit, with SIGINT blocked: only the parent handles Ctrl-C."""

    def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
        with starting_processes(), _without_script():
            return super().submit(*arguments, **options)


@contextmanager
def _without_script() -> Iterator[None]:
    """Start processes that do not run the user's script again, which would happen before its functions are imported."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def process_pool(workers: int, prepare: Callable[..., None] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """Return a pool of *workers* new processes; each first calls *prepare* with *arguments*."""
    _start_tracker()
    return _Pool(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(prepare, arguments))


def _start_tracker() -> None:
    """Start Python's resource tracker, which cleans up after killed processes, with its warnings silenced."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        with starting_processes():
            resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _begin(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Prepare a worker: it ends when its parent does, even if the parent is killed, and ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
