"""The configurations that come with wss, by name, such as `deepseek_v3`."""

from __future__ import annotations

import os
from pathlib import Path

from wss.errors import ConfigError, did_you_mean

_PACKAGE = Path(__file__).parents[1]


def shipped() -> dict[str, Path]:
    """Return the files by name: in the installed package, or beside it in the repository."""
    inside = _PACKAGE / "configs"
    folder = inside if inside.is_dir() else _PACKAGE.parent / "configs"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find(name: Path, beside: Path = Path()) -> Path:
    """Return the file *name*, relative to the folder *beside*; if there is none, the configuration *name* of wss.

    Raises ConfigError if there is neither.
    """
    file = beside / name
    if len(name.parts) != 1 or os.path.isfile(file):
        return file
    known = shipped()
    if name.name in known:
        return known[name.name]
    if os.path.lexists(file):
        return file  # does not exist, which is reported when it is read
    raise ConfigError(
        f"{file}: there is no such file, and none of that name comes with wss; {did_you_mean(name.stem, known)}"
    )


def listed() -> str:
    """Return the first line of each configuration, which begins with its name."""
    lines = [file.read_text(encoding="utf-8").partition("\n")[0] for file in shipped().values()]
    return "\n".join(["configurations", *(line.replace("#", " ", 1) for line in lines)])
