"""The result folder: summary.json, layers.parquet, links.parquet; written atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wss.errors import OutputError
from wss.files import json_text, parse_json, part_in, put_folder, reason_of, settle
from wss.reading import read_plain

if TYPE_CHECKING:
    import pyarrow as pa

RESULTS = Path("results")
SUMMARY = "wss-summary/"
FILES = {"summary.json", "layers.parquet", "links.parquet", "kernels.parquet"}  # the last: old name of the second


def to_json(summary: dict[str, Any]) -> str:
    """Return the summary as JSON text with sorted keys and a final newline."""
    return json_text(summary) + "\n"


def check_free(out: Path | None, force: bool) -> None:
    """Check before a run that its result can be written.

    Raises OutputError if *out* exists and *force* is not given, or *out* cannot be a folder.
    """
    if out is None:
        parent = RESULTS if RESULTS.exists() else Path()
    else:
        _check_replaceable(out, force)
        parent = out.resolve().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{parent}: is not a folder; give an --out inside one")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{parent}: is not writable; give an --out where you may write")


def _check_replaceable(out: Path, force: bool) -> None:
    """Check that *out* does not exist, or that *force* is given and it is empty or has only a result."""
    if not os.path.lexists(out):
        return
    if not force:
        raise OutputError(f"{out}: exists; give another --out, or --force to replace it")
    if not out.is_dir() or out.is_symlink() or out.name == "":
        raise OutputError(f"{out}: is not just a result folder, so --force does not replace it; give another --out")
    strange = sorted(path.name for path in out.iterdir() if not _is_ours(path))
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise OutputError(
            f"{out}: holds '{strange[0]}'{more}, which `wss run` did not write, so --force does not replace it; "
            "give another --out"
        )


def _is_ours(path: Path) -> bool:
    """Whether the file *path* is part of a result."""
    import pyarrow as pa  # noqa: PLC0415 -- slow to import, and not needed to list or to print
    import pyarrow.parquet as pq  # noqa: PLC0415

    if path.name not in FILES or path.is_symlink() or not path.is_file():
        return False
    try:
        if path.name == "summary.json":
            return str(parse_json(read_plain(path))["schema"]).startswith(SUMMARY)
        return {"policy", "seed"} <= set(pq.read_schema(path).names)
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException):
        return False


def write_folder(out: Path | None, summary: dict[str, Any], tables: Mapping[str, pa.Table], force: bool) -> Path:
    """Write a result folder and return its path; by default the next free number under ``results/``.

    Everything is written to a temporary folder beside it, which becomes *out* by one rename. Raises OutputError if it
    cannot be written; nothing is left behind, and an existing result stays.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415

    target = out if out is not None else RESULTS
    try:
        parent = target.parent if out is not None else RESULTS
        parent.mkdir(parents=True, exist_ok=True)
        with part_in(parent, is_folder=True) as temporary:
            (temporary / "summary.json").write_text(to_json(summary), encoding="utf-8")
            for name, table in tables.items():
                pq.write_table(table, temporary / name)
            return _move(temporary, out, force)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({reason_of(error)}); give an --out with room where you may write"
        ) from None


def _move(temporary: Path, out: Path | None, force: bool) -> Path:
    if out is not None:
        _check_replaceable(out, force)
        put_folder(temporary, out)
        return out
    number = 1 + max((int(p.name) for p in RESULTS.iterdir() if p.name.isdecimal() and len(p.name) < 9), default=0)
    while True:
        try:
            settle(temporary, RESULTS / f"{number:04d}")
            return RESULTS / f"{number:04d}"
        except OSError:
            if not (RESULTS / f"{number:04d}").exists():
                raise
            number += 1
