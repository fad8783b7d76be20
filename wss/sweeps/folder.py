"""The folder of a sweep: one file per finished task, written atomically, and tables.

The tables of all points are in the folder itself. Those of points picked with `--only` are in a folder of their own
below it, ``only/model=qwen3_235b``, as they would be mistaken for those of the whole. All share the tasks.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from wss.ending import remove
from wss.errors import OutputError
from wss.files import PREFIX, json_text, parse_json, remove_left, write_whole
from wss.reading import read_plain

AGAIN = "make room and run the same command again to resume"
TASKS = "tasks"
PICKED = "only"  # folder of the tables of picked points
LONGEST_PICK = 100  # characters of the name of such tables' folder
ASIDE = ".damaged"
SIGNED = b'{"sha256": "%s", '  # start of a task's file: the hash of the object without this key
EMPTY = b"0" * 64
PROVENANCE = "sweep.json"
TABLES = (PROVENANCE, "results.parquet", "results.csv", "links.parquet")


class Folder:
    """A sweep's results on disk.

    Parameters
    ----------
    path
        The folder; created if it does not exist.

    Attributes
    ----------
    kept
        Number of finished tasks of the running sweep.

    Raises
    ------
    OutputError
        If the folder cannot be created, or holds other files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = 0
        self._tasks = path / TASKS
        try:
            if path.is_dir() and not _is_ours(path):
                raise OutputError(f"{path}: is not a sweep's folder and not empty; give another --out")
            self._tasks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written to ({error.strerror}); give another --out") from None
        for folder in (path, self._tasks):
            remove_left(folder)

    def begin(self, identity: str, name: str, only: Sequence[str] = ()) -> None:
        """Remove the tables of an earlier version of this sweep, which would be mistaken for its own until it is done.

        *identity* is that of the whole sweep. With the whole, earlier tables of picked points are removed; the points
        that *only* picks leave the tables of others alone. Raises OutputError if the folder holds a sweep of another
        name, or a table cannot be removed.
        """
        parts = [place for place in picks_in(self.path) if _provenance(place)]
        for place in (self.path, *parts):
            before = _provenance(place)
            if before.get("name", name) != name:
                raise OutputError(f"{place}: holds the sweep '{before['name']}'; give another --out, or remove it")
        for place in [picked_folder(self.path, only)] if only else [self.path, *parts]:
            if _provenance(place).get("identity") != identity:
                _remove_tables(place)

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the result of a task; None if it has not run, or its file is damaged."""
        return _result(self._file(key), key)

    def done(self, key: str) -> dict[str, Any]:
        """Return the result of a finished task. Raises OutputError if its file is missing or damaged."""
        result = self.read(key)
        if result is None:
            raise OutputError(f"{self._file(key)}: cannot be read back; {AGAIN}")
        return result

    def set_aside(self, keys: Iterable[str]) -> list[str]:
        """Rename the damaged files of the tasks *keys*, so that these run again; return a message for each.

        Raises OutputError if a file cannot be renamed.
        """
        lines = []
        for file in map(self._file, keys):
            if _is_damaged(file):
                aside = file.with_name(file.name + ASIDE)
                try:
                    remove(aside)
                    file.rename(aside)
                except OSError as error:
                    raise OutputError(f"{file}: is damaged, and cannot be renamed ({error.strerror})") from None
                lines.append(f"{file}: is damaged; it is kept as {aside.name}, and the task is run again")
        return lines

    def write(self, key: str, result: dict[str, Any]) -> None:
        """Write the result of a task, atomically.

        Raises OutputError if it cannot be written; an earlier file stays unchanged.
        """
        content = json_text({"key": key, **result}, indent=None).encode()
        signed = SIGNED % hashlib.sha256(content).hexdigest().encode() + content[1:]
        write_whole(self._file(key), lambda part: part.write_bytes(signed), AGAIN)
        self.kept += 1

    def _file(self, key: str) -> Path:
        return self._tasks / f"{key}.json"


def picked_folder(folder: Path, only: Sequence[str]) -> Path:
    """Return where in the *folder* of a sweep the tables of points are that *only* picked; *folder* for all points.

    The name is that of the picked labels, such as ``only/model=qwen3_235b,batch=4096+8192``.
    """
    if not only:
        return folder
    said = ",".join(each.replace(",", "+") for each in only)
    name = re.sub(r"[^A-Za-z0-9_.=+,-]+", "-", said).lstrip(".")[:LONGEST_PICK]
    if name != said or any("+" in each for each in only):
        name += "-" + hashlib.sha256("\0".join(only).encode()).hexdigest()[:8]
    return folder / PICKED / name


def picks_in(folder: Path) -> list[Path]:
    """Return the folders of picked points in the *folder* of a sweep."""
    place = folder / PICKED
    if place.is_symlink() or not place.is_dir():
        return []
    return sorted(each for each in place.iterdir() if each.is_dir() and not each.is_symlink())


def _provenance(place: Path) -> dict[str, str]:
    """Return name and identity of the sweep from sweep.json in *place*, as far as they can be read."""
    try:
        content = parse_json(read_plain(place / PROVENANCE))
    except (OSError, ValueError):
        return {}
    found = content if isinstance(content, dict) else {}
    return {key: found[key] for key in ("name", "identity") if isinstance(found.get(key), str)}


def _remove_tables(place: Path) -> None:
    for table in TABLES:
        try:
            (place / table).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{place / table}: cannot be removed ({error.strerror}); remove it") from None


def damaged_in(path: Path) -> list[Path]:
    """Return the damaged files of tasks in the sweep's folder *path*."""
    return [file for file in sorted((path / TASKS).glob("*.json")) if _is_key(file) and _is_damaged(file)]


def _result(file: Path, key: str) -> dict[str, Any] | None:
    """Return the result of task *key* in *file*; None if it is missing, damaged or of another task."""
    try:
        text = read_plain(file)
        content = b"{" + text[len(SIGNED % EMPTY) :]
        if text[: len(SIGNED % EMPTY)] != SIGNED % hashlib.sha256(content).hexdigest().encode():
            return None
        result: dict[str, Any] = parse_json(content)
    except (OSError, ValueError):
        return None
    return result if result["key"] == key else None


def _is_damaged(file: Path) -> bool:
    return os.path.lexists(file) and _result(file, file.stem) is None


def _is_ours(path: Path) -> bool:
    """Whether *path* is empty, or holds a sweep and no foreign file that the sweep would overwrite."""
    names = {item.name for item in path.iterdir() if not item.name.startswith(PREFIX)}
    tasks = path / TASKS
    if not tasks.is_dir():
        return not names
    files = [item for item in tasks.iterdir() if not item.name.startswith(".")]
    is_tasks = all(map(_is_key, files))
    return is_tasks and (bool(files) or PROVENANCE in names or not names & set(TABLES))


def _is_key(file: Path) -> bool:
    """Whether *file* has the name of a task's file, damaged or not."""
    key, _, rest = file.name.partition(".")
    return len(key) == 24 and set(key) <= set("0123456789abcdef") and f".{rest}" in (".json", f".json{ASIDE}")
