"""Why the import of a user's module failed: file, line and Python's message, and what to do."""

from __future__ import annotations

import os
import site
import sysconfig
import traceback
from types import ModuleType

from wss.errors import did_you_mean

_INSTALLED = tuple({os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")})
_WSS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def import_fault(error: BaseException, module: str) -> str:
    """Return why the import of *module* ended with *error*, and what would be right.

    The place is the last line of the user's own code that was running, or that Python could not read.
    """
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    message, where = f"{type(error).__name__}: {' '.join(reason.split())[:200]}", place_of(error)
    if isinstance(error, ModuleNotFoundError) and where is None and error.name:
        there = "" if error.name == module else f" (of '{module}')"
        return f"there is no module '{error.name}'{there}; give package.module:Class"
    if where is None:
        return f"{message}; give package.module:Class"
    right = (
        "install that module, or correct that line" if isinstance(error, ModuleNotFoundError) else "correct that line"
    )
    return f"{where}: {message}; {right}"


def class_fault(module: ModuleType, name: str) -> str:
    """Return that *module* has no class *name*, and which it has."""
    own = [
        key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return f"the module '{module.__name__}' has no '{name}'; {did_you_mean(name, own)}"


def place_of(error: BaseException) -> str | None:
    """Return ``file:line`` of the last line of the user's, or of a plug-in's, that raised *error*; None if none did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_file(frame.filename)]
    own = [frame for frame in frames if not os.path.realpath(frame.filename).startswith(_installed())]
    others = [frame for frame in frames if "site-packages" in frame.filename]  # a plug-in's
    last = next(iter([*own[-1:], *others[-1:]]), None)
    return None if last is None else f"{_short(last.filename)}:{last.lineno}"


def _is_file(name: str) -> bool:
    """Whether *name* is a file of neither wss nor Python's importing."""
    return not name.startswith("<") and not name.startswith(_WSS + os.sep)


def _installed() -> tuple[str, ...]:
    return (*_INSTALLED, *map(os.path.realpath, site.getsitepackages()))


def _short(file: str) -> str:
    """Return the path *file*, relative to the current folder if it lies in it."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):
        return file
    return file if relative.startswith(os.pardir) else relative
