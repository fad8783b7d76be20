"""The one door for files: outside ones are opened here, checked; ours are written whole or not at all.

What is read is a plain file of bounded size, as a pipe would be waited for and a device has no end. JSON holds numbers
alone (no NaN, no Infinity), and each key once.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from wss.errors import OutputError

ENDLESS = 2**63  # of a file that is read in parts
MOST_BYTES = 2**32  # of a file of recorded routing
MOST_TEXT = 2**28  # of text that is taken apart as a whole
DEEPEST = 100  # mappings and lists within one another


def open_plain(path: Path, most: int = MOST_BYTES) -> BinaryIO:
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
        content = file.read(most + 1)
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


def write_whole(path: Path, write: Callable[[Path], Any], advice: str) -> None:
    """Let *write* fill a temporary file beside *path*, then rename it; whatever goes wrong, nothing is left of it.

    Raises
    ------
    OutputError
        If it cannot be written; the line ends with *advice*.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from None
    finally:
        part.unlink(missing_ok=True)


class TwiceError(ValueError):
    """A *key* stands twice in a mapping, of which a reader would take the last alone."""

    def __init__(self, key: object) -> None:
        super().__init__(f"has the key '{' '.join(str(key).split())[:100]}' twice; keep one")


def parse_json(text: str | bytes) -> Any:
    """Return the value of JSON *text*.

    Raises
    ------
    ValueError
        If it is no JSON, holds NaN, Infinity or a number beyond a float's range, or is nested deeper than `DEEPEST`.
    TwiceError
        If a key stands twice.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deep") from None
    check_values(value, len(text))
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return *pairs* as a mapping, if no key comes twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise TwiceError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return result


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > 300:
        raise ValueError(f"{text[:20]}... is too large")
    return int(text)


def json_text(value: Any, *, indent: int | None = 1, sort_keys: bool = True) -> str:
    """Return *value* as JSON text.

    Raises
    ------
    ValueError
        If it holds NaN or Infinity, which no output of wss may.
    """
    return json.dumps(value, indent=indent, sort_keys=sort_keys, allow_nan=False)
