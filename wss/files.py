"""Atomic writes of files and folders, and strict JSON: no NaN, no Infinity, no duplicate keys."""

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

PREFIX = ".wss-part-"  # of the names of unfinished files and folders
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Linux constants

_swept: set[Path] = set()  # folders from which this process has removed leftovers of killed processes


@contextmanager
def part_in(folder: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Yield a new temporary file or folder in *folder*, to be written and passed to `settle`; otherwise it is removed.

    It is locked while this process writes it. Unlocked leftovers of killed processes are removed first.
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
    """Create and lock a file or folder; retry if another process removed it as a leftover before it was locked."""
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
    """Remove the entries of *folder* that begin with *prefix* and are not locked by a running process."""
    try:
        left = [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(prefix)]
    except OSError:
        return
    for part in left:
        with suppress(OSError), locked(part):
            remove(part)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the file or folder *path* in the block.

    Raises OSError if another process has locked it (BlockingIOError), or the file system has no locks.
    """
    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Lock *folder*, so that only one command writes there at a time. *what* is its name in messages.

    Nothing is locked if the file system has no locks. Raises OutputError if another command has locked it.
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
    """Sync *part*, a file or a folder, to disk, then rename it to *path*; atomic under kills and crashes."""
    _sync_all(part)
    os.replace(part, path)
    _sync(path.absolute().parent)


def exchange(part: Path, path: Path) -> None:
    """Sync the folder *part* to disk, then exchange the names of *part* and the folder *path*, atomically if possible.

    If not, and if this process is killed between the two renames, the old folder is beside *path* with suffix ``.old``.
    """
    _sync_all(part)
    old = path.with_name(f"{path.name}.{os.getpid()}.old")
    try:
        done = ctypes.CDLL(None).renameat2(AT_FDCWD, os.fsencode(part), AT_FDCWD, os.fsencode(path), RENAME_EXCHANGE)
    except (AttributeError, OSError):  # no renameat2 on this system
        done = -1
    if done != 0:
        os.rename(path, old)
        os.rename(part, path)
        remove(old)
    _sync(path.absolute().parent)


def put_folder(part: Path, path: Path) -> None:
    """Give the folder *part* the name *path*, and remove the folder that had it, if any; atomic if possible."""
    if path.is_dir():
        exchange(part, path)
    else:
        settle(part, path)


def _sync_all(part: Path) -> None:
    """Sync a file, or a folder with all its content, to disk."""
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
    """Write *path* atomically: *write* fills a temporary file, which is then renamed, or removed after any error.

    Raises OutputError if it cannot be written; the message ends with *advice*.
    """
    path = path.resolve()  # keeps a symbolic link and replaces its target
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_in(path.parent) as part:
            write(part)
            settle(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason_of(error)}); {advice}") from None


def reason_of(error: Exception) -> str:
    """Return the reason of *error*, from the system or a library, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


class TwiceError(ValueError):
    """A mapping has a *key* twice, of which parsers silently keep the last."""

    def __init__(self, key: object) -> None:
        super().__init__(f"has the key '{' '.join(str(key).split())[:100]}' twice; keep one")


def parse_json(text: str | bytes) -> Any:
    """Return the value of JSON *text*.

    Raises
    ------
    ValueError
        If it is not JSON, holds NaN, Infinity or a number beyond a float's range, or is nested deeper than `DEEPEST`.
    TwiceError
        If a mapping has a key twice.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deep") from None
    check_values(value, len(text))
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return *pairs* as a mapping; raise TwiceError if it has a key twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise TwiceError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return result


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


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
    """Return *value* as JSON text. Raises ValueError if it holds NaN or Infinity."""
    return json.dumps(value, indent=indent, sort_keys=sort_keys, allow_nan=False)
