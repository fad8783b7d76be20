"""Arrays from files, with memory limited by the size of the file.

A header may declare any shape, an archive may unpack to any size, and a tensor may repeat one number any number of
times. So sizes are checked before memory is allocated: an array is at most as large as the rest of its file, and the
content of an archive at most as large as the archive or `MOST_UNPACKED`.
"""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt
from numpy.lib import format as npy

from wss.errors import TraceError
from wss.reading import open_plain

MOST_UNPACKED = 2**30  # bytes that a smaller archive may unpack to

Array = npt.NDArray[Any]


def load_numpy(path: Path) -> dict[str, Array]:
    """Return the arrays of a ``.npy`` (one, named "") or ``.npz`` file in order, whatever its name; runs no code.

    Raises
    ------
    TraceError
        If it cannot be read, or declares to be larger than it is.
    """
    ignored = warnings.catch_warnings(action="ignore")  # on headers of Python 2
    with whole_file(path, "numpy", "numpy"), open_plain(path) as file, ignored:
        if file.peek(2)[:2] != b"PK":
            return {"": _array(file, os.fstat(file.fileno()).st_size)}
        with zipfile.ZipFile(file) as archive:
            check_unpacked(archive)
            return {info.filename.removesuffix(".npy"): _member(archive, info) for info in archive.infolist()}


@contextmanager
def whole_file(path: Path, kind: str, tool: str) -> Iterator[None]:
    """Turn any error of reading *path* into one line; damaged files and pickles may raise errors of any kind.

    Raises
    ------
    TraceError
        If there was an error: the file cannot be read, or is not a whole *kind* file, as *tool* saves it.
    """
    try:
        yield
    except TraceError:
        raise
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error}); give a readable file") from error
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise TraceError(f"{path}: is not a whole {kind} file ({what}); save it with {tool}") from None


def check_unpacked(archive: zipfile.ZipFile) -> int:
    """Return how many bytes *archive* may unpack to.

    Raises
    ------
    ValueError
        If it unpacks to more, or uses a compression that neither numpy nor torch does.
    """
    most = max(os.fstat(archive.fp.fileno()).st_size, MOST_UNPACKED) if archive.fp is not None else 0
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in archive.infolist()):
        raise ValueError("it is packed in another way than numpy and torch do")
    if (total := sum(info.file_size for info in archive.infolist())) > most:
        raise ValueError(f"it unpacks to {total} bytes, {most} at most; save fewer tokens in a file")
    return most


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """Return the array in a member of an archive."""
    with archive.open(info) as member:
        if member.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
            raise ValueError(f"{info.filename[:100]} is not an array")
        member.seek(0)
        return _array(member, info.file_size)


def _array(file: IO[bytes], size: int) -> Array:
    """Return the array in *file*, which has *size* bytes."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    claimed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or claimed > there or math.prod(shape) > there:
        raise ValueError(f"its shape {shape} of {dtype} takes {claimed} bytes, and {there} are there")
    file.seek(0)
    array: Array = npy.read_array(file, allow_pickle=False)
    return array
