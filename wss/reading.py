"""The one door for files that others wrote: plain ones of bounded size, and what they hold of bounded size too.

A pipe would be waited for, a device has no end, and a few bytes may stand for more than all memory.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

ENDLESS = 2**63  # of a file that is read in parts
MOST_BYTES = 2**32  # of a file of recorded routing
MOST_TEXT = 2**28  # of text that is taken apart as a whole
DEEPEST = 100  # mappings and lists within one another


def open_plain(path: Path, most: int = MOST_BYTES) -> io.BufferedReader:
    """Open a plain file of at most *most* bytes for reading; nothing is waited for.

    Raises
    ------
    OSError
        If it cannot be opened, or is anything else.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError:  # a NUL in its name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    found = os.fstat(number)
    if stat.S_ISREG(found.st_mode) and found.st_size <= most:
        return os.fdopen(number, "rb")
    os.close(number)
    if stat.S_ISREG(found.st_mode):
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(path))
    raise OSError(errno.EINVAL, "it is not a file but a folder, a pipe or a device", str(path))


def check_plain(path: Path, most: int = MOST_BYTES) -> None:
    """Check what `open_plain` does, for readers that open files themselves."""
    open_plain(path, most).close()


def read_plain(path: Path, most: int = MOST_TEXT) -> bytes:
    """Return the bytes of a plain file, of which there are at most *most*.

    Raises
    ------
    OSError
        As of `open_plain`.
    """
    with open_plain(path, most) as file:
        content = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)  # Python takes memory for as many as asked
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(path))
    return content


def check_values(value: Any, most: int) -> None:
    """Check that *value* has at most *most* parts, one that stands in several places counted in each, and is not deep.

    Lists in lists, each there many times, take little in a file and more than all memory when they are written out.

    Raises
    ------
    ValueError
        If it has more, or is nested deeper than `DEEPEST`.
    """
    waiting, count = [(value, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        parts = one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
        count += len(parts)
        if count > most:
            raise ValueError("it stands for more values than its size can hold")
        if depth > DEEPEST:
            raise ValueError("nested too deep")
        waiting += [(part, depth + 1) for part in parts if isinstance(part, dict | list | tuple)]
