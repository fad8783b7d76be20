"""A batch of router logits in a file: the layers in order, and the sequence of each row.

The layers are one array, or one array each: a list in order, or arrays whose names differ only in the layer index.
Other arrays in the file, or a ``<name>.json`` beside it, give the tokens of each sequence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.host_memory import check_room
from wss.records import BoolArray
from wss.traces.importers.arrays import json_beside, load_arrays
from wss.traces.importers.pt import load_pt

Array = npt.NDArray[Any]
MASKS = ("attention_mask", "mask")
LENGTHS = ("lengths", "seq_lens", "seqlens", "sequence_lengths", "input_lengths", "num_tokens")


def in_order(path: Path, named: Mapping[str, Array]) -> list[Array]:
    """Return arrays in the order of the layer indices in their names: a file may have them in any order.

    Raises
    ------
    TraceError
        If there are several, and their names have no index.
    """
    pieces = {name: re.split("([0-9]+)", name) for name in named}
    words = {tuple(piece[::2]) for piece in pieces.values()}
    numbers = {name: [int(digits[:18]) for digits in piece[1::2]] for name, piece in pieces.items()}
    varying = [column for column in zip(*numbers.values(), strict=False) if len(set(column)) > 1]
    if len(named) > 1 and (len(words) > 1 or len(varying) != 1 or len(set(varying[0])) < len(named)):
        raise TraceError(
            f"{path}: holds {', '.join(named)[:200]}, which do not say what layer each is; give one array a layer, "
            "named alike and numbered, such as layer_0, layer_1"
        )
    return [named[name] for name in sorted(named, key=numbers.__getitem__)]


def batch_of(path: Path) -> tuple[Array, dict[str, Array], tuple[int, int] | None]:
    """Return logits [MoE layers, tokens, experts], the other data, and [batch, sequence] if arrays have these axes."""
    arrays, beside = _parts(path)
    shape: tuple[int, int] | None = None
    if len(arrays) == 1 and arrays[0].ndim == 4:
        arrays = list(arrays[0])
    for array in arrays:
        if not np.issubdtype(array.dtype, np.floating) or 0 in array.shape:
            what = f"holds {array.dtype} {list(array.shape)}"
            raise TraceError(f"{path}: {what}; logits are floating-point and not empty")
    if len(arrays) == 1 and arrays[0].ndim == 3:
        logits = arrays[0]
    elif arrays and arrays[0].ndim in (2, 3) and all(array.shape == arrays[0].shape for array in arrays):
        shape = (arrays[0].shape[0], arrays[0].shape[1]) if arrays[0].ndim == 3 else None
        logits = np.stack(arrays).reshape(len(arrays), math.prod(arrays[0].shape[:-1]), arrays[0].shape[-1])
    else:
        shapes = ", ".join(dict.fromkeys(str(list(array.shape)) for array in arrays))[:200]
        raise TraceError(
            f"{path}: holds arrays of shapes {shapes}; give [tokens, experts] of each MoE layer, all alike"
        )
    return logits, beside, shape


def _parts(path: Path) -> tuple[list[Array], dict[str, Array]]:
    """Return the arrays of logits in order, and the masks and lengths beside them, by name."""
    extra = (*MASKS, *LENGTHS)
    named: Mapping[str, Any] = {}
    arrays: list[Array]
    if path.suffix == ".pt" and isinstance(content := load_pt(path), dict):
        logits = content.get("router_logits", content.get("logits"))
        items = list(logits) if isinstance(logits, list | tuple) else [logits]
        arrays, named = [item for item in items if isinstance(item, np.ndarray)], content
        if len(arrays) < len(items):
            raise TraceError(f"{path}: has no router_logits; save the tuple out.router_logits")
    else:
        loaded = load_arrays(path)
        _refuse_unread(path, loaded)
        arrays = in_order(path, {name: array for name, array in loaded.items() if name not in extra})
        named = loaded
    named = {**json_beside(path)[1], **named}
    _refuse_unread(path, named)
    try:
        found = {name: np.array(named[name]) for name in extra if name in named}
    except ValueError as error:
        raise TraceError(f"{path}: its mask or lengths are no table of numbers ({error})") from error
    return arrays, found


def _refuse_unread(path: Path, named: Mapping[str, Any]) -> None:
    """Refuse data that may mark padding, under a name of uncertain meaning."""
    for name in map(str, named):
        value, words = named.get(name), name.lower()
        is_list = isinstance(value, list | tuple | np.ndarray)
        is_length = type(value) is int and "len" in words and not words.startswith(("max", "min"))
        if name not in (*MASKS, *LENGTHS) and ((is_list and ("mask" in words or "len" in words)) or is_length):
            raise TraceError(
                f"{path}: has {name}, which is not read: it may say which rows are padding; give attention_mask "
                "[batch, sequence], 1 where a token is, or lengths, or leave it out"
            )


def sequences_of(
    path: Path, tokens: int, beside: dict[str, Array], shape: tuple[int, int] | None, lengths: tuple[int, ...] | None
) -> BoolArray | None:
    """Return which positions hold a token, not padding, [batch, sequence]; None if nothing says so.

    Raises
    ------
    TraceError
        If masks or lengths contradict the arrays, of *shape* if it is known, or one another.
    """
    given = beside if lengths is None else {"--lengths": np.array(lengths), **beside}
    found = {
        name: (_by_mask if name in MASKS else _by_lengths)(path, name, given[name], tokens, shape)
        for name in ("--lengths", *MASKS, *LENGTHS)
        if name in given
    }
    if not found:
        return None if shape is None else np.ones(shape, np.bool_)
    sums = {name: there.sum(axis=1).tolist() for name, there in found.items()}
    name = next((name for name in MASKS if name in found), next(iter(found)))  # a mask gives the side of the padding
    if other := next((other for other in sums if sums[other] != sums[name]), None):
        both = f"{name} has sequences of {sums[name][:8]} tokens, {other} of {sums[other][:8]}"
        raise TraceError(f"{path}: {both}; keep the correct one")
    return found[name]


def _by_mask(path: Path, name: str, value: Array, tokens: int, shape: tuple[int, int] | None) -> BoolArray:
    size = value.shape == shape if shape is not None else value.size == tokens
    if value.ndim != 2 or not size or not np.isin(value, (0, 1)).all():
        of = f"{tokens} tokens" if shape is None else f"logits of [batch, sequence] {list(shape)}"
        raise TraceError(f"{path}: has {name} {list(value.shape)} for {of}; it should be 0 or 1, [batch, sequence]")
    return value.astype(np.bool_)


def _by_lengths(path: Path, name: str, value: Array, tokens: int, shape: tuple[int, int] | None) -> BoolArray:
    if value.ndim != 1 or value.dtype.kind not in "iu" or not len(value) or value.min() < 1:
        raise TraceError(f"{path}: {name} is not a list of lengths; give the number of tokens of each sequence")
    said = f"{name} says {len(value)} sequences of up to {value.max()} tokens"
    if shape is not None and (len(value) != shape[0] or value.max() > shape[1]):
        raise TraceError(f"{path}: has {shape[0]} sequences of {shape[1]} rows; {said}; give a length for each")
    total = sum(value.tolist())  # Python integers, which cannot overflow
    if shape is None and total == tokens:  # packed, without padding
        longest = int(value.max())
    else:
        longest = tokens // len(value)
        if tokens % len(value) or longest < value.max():
            right = "give [batch * sequence] rows"
            raise TraceError(f"{path}: has {tokens} rows; {said}, {total} in all; {right}")
    check_room(str(path), {f"a mask of {len(value)} sequences x {longest} tokens": len(value) * longest})
    there: BoolArray = np.arange(longest) < value[:, None]
    return there
