"""Safe reading of untrusted files: only regular files of bounded size, with content of bounded size.

Reading a pipe could block, a device has no end, and a few bytes may expand to more than the available memory.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

ENDLESS = 2**63  # size limit of a file that is read in parts
MOST_BYTES = 2**32  # size limit of a file of recorded routing
MOST_TEXT = 2**28  # size limit of text that is parsed as a whole
DEEPEST = 100  # nesting limit of mappings and lists


def open_plain(path: Path, most: int = MOST_BYTES) -> io.BufferedReader:
    """Open a regular file of at most *most* bytes for reading, without blocking.

    Raises OSError if it cannot be opened, is larger, or is not a regular file.
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
    """Raise as `open_plain` does, for readers that open files themselves."""
    open_plain(path, most).close()


def read_plain(path: Path, most: int = MOST_TEXT) -> bytes:
    """Return the content of a regular file of at most *most* bytes. Raises OSError as `open_plain`."""
    with open_plain(path, most) as file:
        content = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)  # read() allocates the requested size
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(path))
    return content


def check_values(value: Any, most: int) -> None:
    """Check that *value* has at most *most* parts, counting shared parts at each place, and is not nested too deep.

    Nested lists with many references to shared parts, such as YAML aliases, are small in a file but may expand to more
    than the available memory. Raises ValueError if it has more parts, or is nested deeper than `DEEPEST`.
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
