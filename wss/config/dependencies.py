"""External dependencies of an experiment besides its configuration and trace, with hashes: files and modules."""

from __future__ import annotations

import hashlib
import inspect
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from wss.errors import TraceError
from wss.policies import LoadHistorySpec
from wss.policies.placement.layout_file import LayoutFile
from wss.reading import ENDLESS, open_plain
from wss.traces.synthetic.spec import SynthSpec

KEY_LENGTH = 24


def digest_of(path: str) -> str:
    """Return a hash of the file *path*."""
    try:
        with open_plain(Path(path), ENDLESS) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give the path of a file that is there") from None


def outside_of(value: Any) -> list[tuple[str, str]]:
    """Return the external dependencies of *value*, with hashes: files, and modules of classes other than wss's own."""
    if isinstance(value, tuple):
        return [pair for item in value for pair in outside_of(item)]
    if not is_dataclass(value):
        return []
    found = [pair for field in fields(value) for pair in outside_of(getattr(value, field.name))]
    if isinstance(value, LayoutFile):
        found.append((f"layout {value.path}", digest_of(value.path)))
    if isinstance(value, LoadHistorySpec):
        found.append((f"history {value.path}", digest_of(value.path)))
    if isinstance(value, SynthSpec) and value.loads:
        found.append((f"loads {value.loads}", digest_of(value.loads)))
    if not type(value).__module__.startswith("wss."):
        found.append((f"module {type(value).__module__}", _module_hash(type(value).__module__)))
    return found


def is_typed_in(value: Any) -> bool:
    """Whether *value* contains an object of a class without a source file, such as one of a notebook."""
    if isinstance(value, tuple):
        return any(map(is_typed_in, value))
    if not is_dataclass(value):
        return False
    if not type(value).__module__.startswith("wss.") and _file_of(type(value).__module__) is None:
        return True
    return any(is_typed_in(getattr(value, field.name)) for field in fields(value))


def _file_of(module: str) -> Path | None:
    """Return the source file of a loaded module; None if it has none."""
    try:
        file = Path(inspect.getfile(sys.modules[module]))
    except (OSError, TypeError, KeyError):
        return None
    return file if file.is_file() else None


_LOADED: dict[str, str] = {}  # hashes of modules as loaded in this process


def _module_hash(name: str) -> str:
    """Return a hash of the module *name* at its first use; later changes of its file do not affect this process."""
    if name not in _LOADED:
        file = _file_of(name)
        text = name.encode() if file is None else file.read_bytes()  # typed in: there is only the name
        _LOADED[name] = hashlib.sha256(text).hexdigest()[:KEY_LENGTH]
    return _LOADED[name]
