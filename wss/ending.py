"""How a command ends that is told to: at once, whatever it is doing, with 128 and the signal's number as its code.

No exception is raised for it. A policy may swallow one, and so does numba as it compiles; and the main thread may be
long inside a library. A thread of its own waits for signals, ends the processes that were started, removes what was
being written, and ends this process. What it cannot remove, the next command does (see `wss.files`).
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
TEMPORARY: set[Path] = set()  # what is being written, files and folders

_words: str | None = None  # said at the end; by default, after Ctrl-C alone, that nothing is half-written
_starting = threading.Lock()  # held while a process is started, which is not known to us before it has been
_ends = threading.Event()  # the end has begun, with nothing being started
_told = False  # the main thread has seen a signal


def end_on_signals() -> None:
    """Let SIGHUP, SIGINT and SIGTERM end this process from now on; SIGHUP not under nohup.

    SIGINT does even where it is ignored, as in a script for what it runs in the background.
    """
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _hold)
    threading.Thread(target=_wait, args=(reads,), daemon=True).start()


def last_words(text: str | None) -> None:
    """Say *text* on stderr if a signal ends this process; None is for what is said by default."""
    global _words
    _words = text


@contextmanager
def starting_processes() -> Iterator[None]:
    """Let the end wait until processes have been started inside, and leave Ctrl-C to this one alone."""
    with _starting:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a child inherits
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    while _told:
        time.sleep(1)


def remove(path: Path) -> None:
    """Remove the file or folder *path*, if it is there and can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _hold(number: int, frame: Any) -> None:
    """Keep the main thread from going on with what is being taken away from it."""
    global _told
    _told = True
    while _ends.is_set() or not _starting.locked():
        time.sleep(1)


def _wait(reads: int) -> None:
    """Wait for a signal that ends this process."""
    while True:
        number = os.read(reads, 1)[0]
        if number in SIGNALS and signal.getsignal(number) is _hold:
            _end(number)


def _end(number: int) -> None:
    """End the processes that were started, remove what was being written, and end this one."""
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
            wiped = b"\r\x1b[K" if os.isatty(2) else b""  # a progress bar
            if select.select((), (2,), (), 0)[1]:  # nobody waits for a pipe that is full
                os.write(2, wiped + words.encode() + b"\n")
    os._exit(128 + number)
