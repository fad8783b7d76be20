"""User-defined classes, named ``package.module:Class``: who may name one, and where modules are found.

A configuration is data and may come from anyone. So a class that a file names is imported only if the user has allowed
the file's code. Names typed on the command line or passed in Python need no permission.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from wss.config.document import Document, Place
from wss.config.import_faults import class_fault, import_fault

REFUSED = (
    "would run code that the file names; if you trust it, add --allow-code "
    "(or set WSS_ALLOW_CODE=1, in Python wss.load(path, allow_code=True))"
)
ADDED: set[str] = set()  # folders added to the path for a user's class; modules in them are not installed


def folders_beside(allow_code: bool, *files: Path) -> tuple[str, ...] | None:
    """Return the extra folders for classes that *files* name; None if they may name none."""
    return tuple(str(file.parent) for file in files) if allow_code else None


def class_named(document: Document, place: Place, name: str) -> Any:
    """Return the object ``package.module:Class`` at *place*; or add an error and return None."""
    if document.code_folders is None and place not in document.typed:
        document.fault(place, f"'{name}' {REFUSED}")
        return None
    module, _, attribute = name.partition(":")
    try:
        loaded = _module(module, document.code_folders or ())
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        document.fault(place, f"'{name}' cannot be imported: {import_fault(error, module)}")
        return None
    try:
        return getattr(loaded, attribute)
    except AttributeError:
        document.fault(place, f"'{name}' cannot be imported: {class_fault(loaded, attribute)}")
        return None


def _module(name: str, folders: Sequence[str]) -> ModuleType:
    """Import the module *name*: an installed one, else one of *folders*, else one of the current folder.

    Folders are added to the end of the path, and only when needed, so that they do not shadow installed modules.
    """
    for folder in (*folders, os.curdir):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not error.name or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists, but one that it imports does not
        if (absolute := os.path.abspath(folder)) not in sys.path:
            sys.path.append(absolute)
            ADDED.add(absolute)
        importlib.invalidate_caches()
    return importlib.import_module(name)
