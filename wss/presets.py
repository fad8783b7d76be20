"""Read-only tables of presets by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import TypeVar

from wss.errors import UnknownNameError, did_you_mean

T = TypeVar("T")


class Presets(Mapping[str, T]):
    """Presets by name, in order of *presets*; *title* is the name of the table.

    An unknown name raises `UnknownNameError`, which suggests the closest one.
    """

    def __init__(self, title: str, presets: Mapping[str, T]) -> None:
        self._title = title
        self._presets = dict(presets)

    def __getitem__(self, name: str) -> T:
        try:
            return self._presets[name]
        except (KeyError, TypeError):
            what = f"{self._title}: {name!r} is not known; {did_you_mean(name, self._presets)}"
            raise UnknownNameError(what) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._presets)

    def __len__(self) -> int:
        return len(self._presets)

    def __repr__(self) -> str:
        names = wrap(", ".join(self._presets), 96, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join([f"{self._title}, {len(self)} presets:", *names])
