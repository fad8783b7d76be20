"""Files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wss.errors import OutputError


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
