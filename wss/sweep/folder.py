"""The folder of a sweep: a file for each task that has been done, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from wss.errors import OutputError
from wss.files import json_text, parse_json, read_plain, write_whole

AGAIN = "make room and run the same command again, it goes on from there"
TASKS = "tasks"
PROVENANCE = "sweep.json"
TABLES = (PROVENANCE, "results.parquet", "results.csv", "links.parquet")


class Folder:
    """A sweep's results on disk.

    Parameters
    ----------
    path
        The folder; made if it is not there.

    Raises
    ------
    OutputError
        If it cannot be made, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tasks = path / TASKS
        if path.is_dir() and not _is_ours(path):
            raise OutputError(f"{path}: is no sweep's folder and not empty; give another --out")
        try:
            self._tasks.mkdir(parents=True, exist_ok=True)
            for folder in (path, self._tasks):
                for left in folder.glob(".*.part"):  # of a sweep that was killed
                    if not _alive(left):
                        left.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written to ({error.strerror}); give another --out") from None

    def begin(self, identity: str, name: str) -> None:
        """Remove tables of an earlier form of this sweep, which would else be taken for its own until it is done.

        Raises
        ------
        OutputError
            If they are of a sweep of another name.
        """
        try:
            before = parse_json(read_plain(self.path / PROVENANCE))
            other, identity_before = before["name"], before["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            other, identity_before = name, None
        if other != name:
            raise OutputError(f"{self.path}: holds the sweep '{other}'; give another --out, or remove it")
        if identity_before != identity:
            for name in TABLES:
                (self.path / name).unlink(missing_ok=True)

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the result of a task; None if it has not been done, or its file is damaged."""
        try:
            content = parse_json(read_plain(self._file(key)))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and content.get("key") == key else None

    def write(self, key: str, result: dict[str, Any]) -> None:
        """Keep the result of a task.

        Raises
        ------
        OutputError
            If it cannot be written; what was there stays, and nothing half-written is left.
        """
        content = json_text({"key": key, **result}, indent=None).encode()
        write_whole(self._file(key), lambda part: part.write_bytes(content), AGAIN)

    def _file(self, key: str) -> Path:
        return self._tasks / f"{key}.json"


def _is_ours(path: Path) -> bool:
    """Whether *path* is empty, or holds a sweep and nothing that we would overwrite of anybody else's."""
    names = {item.name for item in path.iterdir()}
    tasks = path / TASKS
    if not tasks.is_dir():
        return not names
    files = [item for item in tasks.iterdir() if not item.name.startswith(".")]
    is_tasks = all(item.suffix == ".json" for item in files)
    killed = bool(files) and all(map(_is_key, files)) and names <= {TASKS, *TABLES}  # as the tables were written
    return is_tasks and (PROVENANCE in names or killed or not names & set(TABLES))


def _is_key(file: Path) -> bool:
    """Whether *file* is named as a task's is."""
    return len(file.stem) == 24 and set(file.stem) <= set("0123456789abcdef")


def _alive(part: Path) -> bool:
    """Whether the process that writes *part*, whose number is in its name, is at work."""
    number = part.name.split(".")[-2]
    try:
        os.kill(int(number), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:
        return True
    return int(number) != os.getpid()
