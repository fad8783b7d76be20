"""Files written whole or not at all, and JSON that holds numbers alone (no NaN, no Infinity) and each key once."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from wss.ending import TEMPORARY, remove
from wss.errors import OutputError
from wss.reading import check_values

PREFIX = ".wss-part-"  # of the names of files and folders being written
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux

_swept: set[Path] = set()  # folders where this process has looked for what killed ones had left


@contextmanager
def part_in(folder: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Yield a new file in *folder*, or a new folder, to be filled and then passed to `settle`; else it is removed.

    It is locked as long as this process writes it. So what a killed one had left is known, and is removed here first.
    """
    if (where := folder.resolve()) not in _swept:
        remove_left(folder)
        _swept.add(where)
    part, lock = _new(folder, is_folder)
    try:
        yield part
    finally:
        remove(part)
        TEMPORARY.discard(part)
        os.close(lock)


def _new(folder: Path, is_folder: bool) -> tuple[Path, int]:
    """Make and lock a file or folder; another process may take it for one that is left before it is locked."""
    while True:
        part = folder.absolute() / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        TEMPORARY.add(part)
        if is_folder:
            part.mkdir()
        lock = os.open(part, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(part), os.fstat(lock)):
                return part, lock
        os.close(lock)


def remove_left(folder: Path, prefix: str = PREFIX) -> None:
    """Remove what begins with *prefix* in *folder* and no living process has locked."""
    try:
        left = [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(prefix)]
    except OSError:
        return
    for part in left:
        with suppress(OSError), locked(part):
            remove(part)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the file or folder *path* in here; raise OSError if another process has, or locks are not to be had."""
    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Hold *folder*, so that no two commands mix what they write there. *what* is its name in messages.

    Where the file system has no locks, nothing is held.

    Raises
    ------
    OutputError
        If another command holds it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except BlockingIOError:
            raise OutputError(f"{what}: another command writes there now; wait for it, or give another --out") from None
        except OSError:
            pass
        yield


def settle(part: Path, path: Path) -> None:
    """Bring *part*, a file or a folder, to the disk, then name it *path*; so neither a kill nor a crash halves it."""
    _sync_all(part)
    os.replace(part, path)
    _sync(path.absolute().parent)


def exchange(part: Path, path: Path) -> None:
    """Bring the folder *part* to the disk, then let it and the folder *path* change names, in one step if that can be.

    If not, and if this process is killed between two, what was there is in a folder beside it with ``.old`` at its end.
    """
    _sync_all(part)
    old = path.with_name(f"{path.name}.{os.getpid()}.old")
    try:
        done = ctypes.CDLL(None).renameat2(AT_FDCWD, os.fsencode(part), AT_FDCWD, os.fsencode(path), RENAME_EXCHANGE)
    except (AttributeError, OSError):  # there is none here
        done = -1
    if done != 0:
        os.rename(path, old)
        os.rename(part, path)
        remove(old)
    _sync(path.absolute().parent)


def _sync_all(part: Path) -> None:
    """Bring a file, or a folder with all that is in it, to the disk."""
    for folder, _, files in os.walk(part):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))
    if not part.is_dir():
        _sync(part)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system syncs folders
            raise
    finally:
        os.close(handle)


def write_whole(path: Path, write: Callable[[Path], Any], advice: str) -> None:
    """Let *write* fill a temporary file beside *path*, then rename it; whatever goes wrong, nothing is left of it.

    Raises
    ------
    OutputError
        If it cannot be written; the line ends with *advice*.
    """
    path = path.resolve()  # a link stays, and what it leads to is replaced
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_in(path.parent) as part:
            write(part)
            settle(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason_of(error)}); {advice}") from None


def reason_of(error: Exception) -> str:
    """Return what the system or a library says went wrong, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


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
