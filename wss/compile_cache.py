"""Where compiled code is kept: in the user's own cache folder, apart for every state of the source.

What numba keeps is unpickled, and so run, when it is read. A folder that others may write to is therefore not used.
numba compiles a function anew when its own file has changed, but not when a function that it calls has; hence a folder
for every state of the source.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VARIABLE = "NUMBA_CACHE_DIR"
OURS = "WSS_COMPILE_CACHE"  # what wss has set VARIABLE to, to tell it from what the user has
PACKAGE = Path(__file__).parent
WITHOUT = {"__pycache__", "cli", "sweeps", "testing", "config", "report"}  # compiled code is not of these
ROOM = 50e6  # bytes that all of the compiled code may take
KEPT_S = 30 * 86_400  # for so long is a folder kept that is not used


def prepare() -> str | None:
    """Let numba keep compiled code where the user alone may write; return what there is to note, None if nothing.

    A folder that the user has given numba stays. Where the cache cannot be used, a temporary one is, to the end of
    this process.
    """
    numba: Any = sys.modules.get("numba")
    if numba is not None and numba.config.CACHE_DIR:  # the program that imports wss has set it
        return None
    given, key = os.environ.get(VARIABLE), _key()
    if given and (given != os.environ.get(OURS) or Path(given).name == key):
        return None
    home = _home()
    try:
        folder = _private(home / "wss", key) if home is not None else None
        fault = "there is no home" if folder is None else ""
    except OSError as error:
        folder, fault = None, error.strerror or str(error)
    if folder is None:
        try:
            own = Path(tempfile.mkdtemp(prefix="wss-cache-"))
        except OSError:
            return None  # there is no place at all, and numba says so when it compiles
        atexit.register(_remove, own, os.getpid())
        folder = own / key
    os.environ[VARIABLE] = os.environ[OURS] = str(folder)
    if numba is not None:  # it has read its environment
        numba.config.CACHE_DIR = str(folder)
    if not fault:
        return None
    where = "~/.cache/wss" if home is None else home / "wss"
    return f"{where}: cannot hold compiled code ({fault}); each command compiles anew, unless {VARIABLE} names a folder"


def _home() -> Path | None:
    """Return the folder of the user's caches, None if there is none."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given
    with contextlib.suppress(RuntimeError):
        home = Path.home()
        return home / ".cache" if home.is_absolute() and home != Path(home.root) and home.is_dir() else None
    return None


def _private(parent: Path, key: str) -> Path:
    """Return the folder *key* in *parent*, both made if they are not there.

    Raises
    ------
    OSError
        If it cannot be made or written to, or others may write to it.
    """
    parent.parent.mkdir(parents=True, exist_ok=True)
    folder = parent / key
    new = not folder.is_dir()
    for each in (parent, folder):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)
        state = os.stat(each)
        if not stat.S_ISDIR(state.st_mode):
            raise OSError("is no folder")
        if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
            raise OSError("belongs to another, or others may write to it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError("may not be written to")
    if new and shutil.disk_usage(folder).free < ROOM:
        raise OSError("has no room")
    with contextlib.suppress(OSError):
        os.utime(folder)  # it is in use
    if new:
        _forget_old(parent)
    return folder


def _forget_old(parent: Path) -> None:
    """Remove the folders of other states of the source that have not been used for long."""
    with contextlib.suppress(OSError):
        for other in parent.iterdir():
            if other.is_dir() and not other.is_symlink() and other.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(other, ignore_errors=True)


def _key() -> str:
    """Return a hash of where the package is and of all its source that compiled code may depend on."""
    digest = hashlib.sha256(sys.version.encode())
    for folder, inner, files in os.walk(PACKAGE):
        if Path(folder) == PACKAGE:
            inner[:] = [name for name in inner if name not in WITHOUT]
        inner.sort()
        for name in sorted(name for name in files if name.endswith(".py")):
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
            digest.update(f"{folder}/{name}\0{len(content)}\0".encode(errors="surrogateescape"))
            digest.update(content)
    return digest.hexdigest()[:16]


def _remove(folder: Path, process: int) -> None:
    """Remove the temporary *folder* at the end of the *process* that made it, not of one that was forked from it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
