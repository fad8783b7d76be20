"""Layer indices as text: ``3-60``, ``0, 3-60`` or a list of such."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_LAYERS = 10_000
_PIECE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?")


def layer_numbers(value: str | Sequence[object]) -> tuple[int, ...]:
    """Return the layers that *value* lists: a text, or numbers and texts.

    Raises
    ------
    ValueError
        If a piece is neither a layer nor a range, or the layers are not strictly ascending.
    """
    pieces = value.split(",") if isinstance(value, str) else [part for item in value for part in _pieces(item)]
    layers: list[int] = []
    for piece in pieces:
        first, last = _ends(piece)
        if layers and first <= layers[-1]:
            raise ValueError(f"'{piece.strip()}' comes after layer {layers[-1]}; list each layer once, lowest first")
        layers.extend(range(first, last + 1))
    return tuple(layers)


def _pieces(item: object) -> list[str]:
    return item.split(",") if isinstance(item, str) else [str(item)]


def _ends(piece: str) -> tuple[int, int]:
    """Return the first and the last layer of *piece*."""
    found = _PIECE.fullmatch(piece)
    if found is None:
        raise ValueError(f"'{piece.strip()}' is not a layer; write such as 3-60 or 1, 3, 5")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"'{piece.strip()}' is reversed; write {last}-{first}")
    if last >= MOST_LAYERS:
        raise ValueError(f"'{piece.strip()}' goes beyond layer {MOST_LAYERS - 1}, more than any model has")
    return first, last
