"""Cache of compiled code: a folder in the user's own cache, one for each state of the source.

numba unpickles its cache, which can execute code. A folder that others may write to is therefore not used. numba
recompiles a function when its own file has changed, but not when a function it calls has; hence one folder for each
state of the source.
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
OURS = "WSS_COMPILE_CACHE"  # the value that wss gave VARIABLE, to distinguish it from the user's
PACKAGE = Path(__file__).parent
WITHOUT = {"__pycache__", "cli", "sweeps", "testing", "config", "report"}  # they contain no compiled code
ROOM = 50e6  # bytes that all compiled code may need
ENGINES = ("layer_compiled", "chains_compiled")  # the modules of which every run needs one
KEPT_S = 30 * 86_400  # unused folders are removed after this time


def prepare() -> str | None:
    """Set numba's cache to a folder that only the user may write to; return a note for the user, or None.

    A folder that the user has set for numba is kept. If the cache cannot be used, a temporary one is used until this
    process ends.
    """
    numba: Any = sys.modules.get("numba")
    if numba is not None and numba.config.CACHE_DIR:  # set by the program that imports wss
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
            return None  # no usable folder; numba reports it when it compiles
        atexit.register(_remove, own, os.getpid())
        folder = own / key
    os.environ[VARIABLE] = os.environ[OURS] = str(folder)
    if numba is not None:  # already imported, so it has read its environment
        numba.config.CACHE_DIR = str(folder)
    if not fault:
        return None
    where = "~/.cache/wss" if home is None else home / "wss"
    return (
        f"{where}: cannot hold compiled code ({fault}); each command compiles again, unless {VARIABLE} names a folder"
    )


def is_cold() -> bool:
    """Whether the cache holds no compiled engine yet, so that a run begins with compiling."""
    folder = Path(os.environ.get(VARIABLE, ""))
    return not any(any(folder.glob(f"*/{engine}.*.nbi")) for engine in ENGINES)


def _home() -> Path | None:
    """Return the user's cache folder; None if there is none."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given
    with contextlib.suppress(RuntimeError):
        home = Path.home()
        return home / ".cache" if home.is_absolute() and home != Path(home.root) and home.is_dir() else None
    return None


def _private(parent: Path, key: str) -> Path:
    """Return the folder *key* in *parent*; create both if they do not exist.

    Raises OSError if it cannot be created or written to, or others may write to it.
    """
    parent.parent.mkdir(parents=True, exist_ok=True)
    folder = parent / key
    new = not folder.is_dir()
    for each in (parent, folder):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)
        state = os.stat(each)
        if not stat.S_ISDIR(state.st_mode):
            raise OSError("is not a folder")
        if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
            raise OSError("belongs to another, or others may write to it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError("may not be written to")
    if new and shutil.disk_usage(folder).free < ROOM:
        raise OSError("has no room")
    with contextlib.suppress(OSError):
        os.utime(folder)  # marks it as used
    if new:
        _forget_old(parent)
    return folder


def _forget_old(parent: Path) -> None:
    """Remove folders that have not been used for `KEPT_S`."""
    with contextlib.suppress(OSError):
        for other in parent.iterdir():
            if other.is_dir() and not other.is_symlink() and other.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(other, ignore_errors=True)


def _key() -> str:
    """Return a hash of Python's version, the package's path, and all source that compiled code may depend on."""
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
    """Remove the temporary *folder* when the *process* that created it ends, but not when a fork of it does."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
