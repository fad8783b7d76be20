"""The folder of a report: what may be replaced in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from wss.errors import OutputError
from wss.reading import read_plain

REPORT = "report.md"
PICTURE = re.compile(r"^!\[[^\]\n]*\]\(([A-Za-z0-9_.-]+\.(?:png|svg))\)$", re.MULTILINE)


def pictures_in(folder: Path) -> set[str]:
    """Return the names of the pictures of the report in *folder*; none if there is no report."""
    try:
        return set(PICTURE.findall(read_plain(folder / REPORT).decode("utf-8", "replace")))
    except OSError:
        return set()


def check_replaceable(folder: Path, force: bool) -> None:
    """Check that *folder* does not exist or is empty, or that *force* is given and it has only a report.

    Raises OutputError if not.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: is not a folder; give --out a folder that does not exist yet")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    if not force:
        raise OutputError(f"{folder}: exists; give another --out, or --force to replace it")
    strange = sorted(found - {REPORT} - pictures_in(folder))
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise OutputError(
            f"{folder}: holds '{strange[0]}'{more}, which no report there names, so --force does not replace it; "
            "give another --out"
        )
