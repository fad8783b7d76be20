"""The folder of a sweep: a file for each task that has been done, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from wss.errors import OutputError

TASKS = "tasks"


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
        if path.is_dir() and any(path.iterdir()) and not self._tasks.is_dir():
            raise OutputError(f"{path}: is no sweep's folder and not empty; give another --out")
        try:
            self._tasks.mkdir(parents=True, exist_ok=True)
            for left in self._tasks.glob(".*.part"):  # of a sweep that was killed
                left.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written to ({error.strerror}); give another --out") from None

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the result of a task; None if it has not been done, or its file is damaged."""
        try:
            content = json.loads(self._file(key).read_bytes())
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
        write_whole(self._file(key), json.dumps({"key": key, **result}, sort_keys=True, allow_nan=False).encode())

    def _file(self, key: str) -> Path:
        return self._tasks / f"{key}.json"


def write_whole(path: Path, content: bytes) -> None:
    """Write *content* to a temporary name beside *path*, then rename it.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); "
            "make room and run the same command again, it goes on from there"
        ) from None
