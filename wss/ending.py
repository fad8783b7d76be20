"""Termination by a signal: at once, in any state, with exit code 128 + signal number.

No exception is raised: policies and numba's compiler may swallow one, and the main thread may be inside a library for
long. A separate thread waits for signals, kills child processes, removes unfinished files, and ends this process. The
next command removes what this thread cannot (see `wss.files`).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
TEMPORARY: set[Path] = set()  # unfinished files and folders

_words: str | None = None  # last message; None: after Ctrl-C only, that nothing is half-written
_starting = threading.Lock()  # held while a child process starts, as it is not listed until it has started
_ends = threading.Event()  # termination has begun; no child process is being started
_told = False  # the main thread has received a signal


def end_on_signals() -> None:
    """Make SIGHUP, SIGINT and SIGTERM end this process from now on, except SIGHUP under nohup.

    SIGINT is handled even if it is ignored, as shell scripts do for background commands.
    """
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reads,), daemon=True).start()  # before the main thread may have to wait for it
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _hold)


def last_words(text: str | None) -> None:
    """Set the message printed on stderr if a signal ends this process; None for the default."""
    global _words
    _words = text


@contextmanager
def starting_processes() -> Iterator[None]:
    """Delay termination while the block starts child processes, and block SIGINT in them."""
    with _starting:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    while _told:
        time.sleep(1)


def remove(path: Path) -> None:
    """Remove the file or folder *path*, if it exists; ignore errors."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _hold(number: int, frame: Any) -> None:
    """Stop the main thread while its files and child processes are removed."""
    global _told
    _told = True
    while _ends.is_set() or not _starting.locked():
        time.sleep(1)


def _wait(reads: int) -> None:
    """Wait for signals, and end this process at one that should."""
    while True:
        number = os.read(reads, 1)[0]
        if number in SIGNALS and signal.getsignal(number) is _hold:
            _end(number)


def _end(number: int) -> None:
    """Kill child processes, remove unfinished files, and end this process."""
    with suppress(Exception), _starting:
        _ends.set()
        multiprocessing = sys.modules.get("multiprocessing")
        children = multiprocessing.active_children() if multiprocessing is not None else []
        for child in children:
            child.kill()
        for child in children:
            child.join(5)
        for path in list(TEMPORARY):
            remove(path)
        words = _words or ("interrupted; nothing is half-written" if number == signal.SIGINT else None)
        if words is not None:
            wiped = b"\r\x1b[K" if os.isatty(2) else b""  # erases a progress bar
            if select.select((), (2,), (), 0)[1]:  # do not block on a full pipe
                os.write(2, wiped + words.encode() + b"\n")
    os._exit(128 + number)
