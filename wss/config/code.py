"""Classes of the user's own, named ``package.module:Class``: who may name one, and where it is looked up.

A configuration is data, and may come from anyone, so a class that a file names is imported only if the user has allowed
the file's code. What is typed on the command line, or handed over in Python, needs no such permission.
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

REFUSED = (
    "would run code that the file names; if you trust it, add --allow-code "
    "(or set WSS_ALLOW_CODE=1, in Python wss.load(path, allow_code=True))"
)
ADDED: set[str] = set()  # folders put on the path for a class of one's own; what lies there is not installed


def folders_beside(allow_code: bool, *files: Path) -> tuple[str, ...] | None:
    """Return where classes that *files* name are looked up, beside what is installed; None if they may name none."""
    return tuple(str(file.parent) for file in files) if allow_code else None


def class_named(document: Document, place: Place, name: str) -> Any:
    """Return what the text ``package.module:Class`` at *place* names; or note the fault and return None."""
    if document.code_folders is None and place not in document.typed:
        document.fault(place, f"'{name}' {REFUSED}")
        return None
    module, _, attribute = name.partition(":")
    try:
        return getattr(_module(module, document.code_folders or ()), attribute)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        document.fault(
            place, f"'{name}' cannot be imported ({type(error).__name__}: {error}); give package.module:Class"
        )
        return None


def _module(name: str, folders: Sequence[str]) -> ModuleType:
    """Import the module *name*: an installed one, or else of *folders*, or else of the current folder.

    These are added to the end of the path, and only when they are needed: nothing in them hides what is installed.
    """
    for folder in (*folders, os.curdir):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not error.name or not f"{name}.".startswith(f"{error.name}."):
                raise  # it is there, and what it imports is not
        if (absolute := os.path.abspath(folder)) not in sys.path:
            sys.path.append(absolute)
            ADDED.add(absolute)
        importlib.invalidate_caches()
    return importlib.import_module(name)
