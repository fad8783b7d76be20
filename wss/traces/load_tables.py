"""Tables of expert loads as text: long, a row for each layer and expert, or wide, a row for each layer."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from wss.records import FloatArray
from wss.traces.importers.table_rows import plain

# names of columns, normalised: only lower-case letters and digits
LAYER = ("layer", "layerid", "layeridx", "layerindex", "moelayer")
EXPERT = ("expert", "expertid", "expertidx", "expertindex")
COUNTS = (
    *("count", "counts", "tokens", "load", "loads", "numtokens", "ntokens", "tokencount", "tokencounts"),
    *("logicalcount", "expertcount", "expertload"),
)
_WIDE = re.compile(r"(?:expert|e)?[ _-]?(\d+)")


def is_table(head: Sequence[str]) -> bool:
    """Whether the column names are those of a table of loads, of either form."""
    names = [plain(cell) for cell in head]
    wide = all(_WIDE.fullmatch(cell.lower()) for cell, name in zip(head, names, strict=True) if name not in LAYER)
    long = any(name in EXPERT for name in names) and any(name in COUNTS for name in names)
    return any(name in LAYER for name in names) and len(names) > 1 and (wide or long)


def has_layers(head: Sequence[str]) -> bool:
    """Whether a column names the layer."""
    return any(plain(cell) in LAYER for cell in head)


def _column(head: Sequence[str], names: Sequence[str]) -> int | None:
    """Return the index of the one column with a name of *names*; None if there is none."""
    found = [at for at, cell in enumerate(head) if plain(cell) in names]
    if len(found) > 1:
        raise ValueError(f"has two columns of one meaning, '{head[found[0]]}' and '{head[found[1]]}'; keep one")
    return found[0] if found else None


def table_of_loads(rows: Sequence[Sequence[str]], num_experts: int | None = None) -> tuple[tuple[int, ...], FloatArray]:
    """Return the layers of a table, ascending, and the tokens of each expert, [layers, experts].

    In a long table an expert without a row has no tokens if *num_experts*, the number per layer, is given.

    Raises
    ------
    ValueError
        If the table has neither form, or a cell is missing, duplicate, or not a number.
    """
    head = rows[0]
    layer, expert = _column(head, LAYER), _column(head, EXPERT)
    if layer is None:
        raise ValueError(f"has no column layer; its head is {', '.join(head)[:100]}")
    ragged = next((number for number, row in enumerate(rows, 1) if len(row) != len(head)), None)
    if ragged is not None:
        raise ValueError(f"row {ragged} has {len(rows[ragged - 1])} cells, its head has {len(head)}")
    if len(rows) < 2:
        raise ValueError("has a head and no rows")
    if expert is not None:
        count = _column(head, COUNTS)
        if count is None:
            raise ValueError("has no column of tokens; give one of count, tokens, load, num_tokens, token_count")
        return _long([(row[layer], row[expert], row[count]) for row in rows[1:]], num_experts)
    wide = {at: _WIDE.fullmatch(name.lower()) for at, name in enumerate(head) if at != layer}
    if not wide or not all(wide.values()):
        odd = next((head[at] for at, match in wide.items() if match is None), "")
        raise ValueError(f"has a column '{odd}'; give layer, expert, count or layer, expert_0, expert_1, ...")
    return _wide(rows, layer, {at: int(match[1]) for at, match in wide.items() if match is not None})


def _long(cells: list[tuple[str, str, str]], num_experts: int | None) -> tuple[tuple[int, ...], FloatArray]:
    found: dict[tuple[int, int], float] = {}
    for number, (layer, expert, count) in enumerate(cells, 2):
        key = _whole(layer, number), _whole(expert, number)
        if key in found:
            raise ValueError(f"row {number}: layer {key[0]}, expert {key[1]} is there twice")
        found[key] = _number(count, number)
    layers = sorted({layer for layer, _ in found})
    experts = max(num_experts or 0, max(expert for _, expert in found) + 1)
    missing = next(((i, e) for i in layers for e in range(experts) if (i, e) not in found), None)
    if missing and num_experts is None:
        what = f"lacks layer {missing[0]}, expert {missing[1]}, and how many experts there are is not known here"
        raise ValueError(f"{what}: give it a row, with 0 if it had no tokens, or `wss trace import` with --experts")
    return tuple(layers), np.array([[found.get((layer, expert), 0.0) for expert in range(experts)] for layer in layers])


def _wide(rows: Sequence[Sequence[str]], layer: int, experts: dict[int, int]) -> tuple[tuple[int, ...], FloatArray]:
    if sorted(experts.values()) != list(range(len(experts))):
        raise ValueError(f"its columns of experts are not 0..{len(experts) - 1}, each once")
    found: dict[int, list[float]] = {}
    for number, row in enumerate(rows[1:], 2):
        own = _whole(row[layer], number)
        if own in found:
            raise ValueError(f"row {number}: layer {own} is there twice")
        found[own] = [_number(row[at], number) for at in sorted(experts, key=experts.__getitem__)]
    return tuple(sorted(found)), np.array([found[own] for own in sorted(found)])


def _whole(text: str, number: int) -> int:
    if not re.fullmatch(r"\d{1,6}", text):
        raise ValueError(f"row {number}: '{text[:40]}' is not a number of a layer or an expert")
    return int(text)


def _number(text: str, number: int) -> float:
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        raise ValueError(f"row {number}: '{text[:40]}' is not a number of tokens")
    return float(text)
