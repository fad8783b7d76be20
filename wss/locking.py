"""One command at a time in a folder where several would mix what they write."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wss.errors import OutputError

NAME = ".lock"


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Hold *folder* as long as the block runs; a process that is killed lets it go. *what* is its name in messages.

    Where the file system has no locks, nothing is held.

    Raises
    ------
    OutputError
        If another command holds it, or it cannot be written to.
    """
    path = folder / NAME
    try:
        held = _hold(path)
    except BlockingIOError:
        raise OutputError(f"{what}: another command writes there now; wait for it, or give another --out") from None
    except OSError as error:
        raise OutputError(f"{what}: cannot be written to ({error.strerror}); give another --out") from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(held)


def _hold(path: Path) -> int:
    """Return the locked file *path*; once more if whoever held it has just removed it."""
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(held), os.stat(path)):
                return held
        except BlockingIOError:
            os.close(held)
            raise
        except OSError:  # no locks here
            return held
        os.close(held)
