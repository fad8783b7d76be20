"""The forms in which recorders write loads: logical_count, the passes of SGLang's recorder, and bare arrays of counts.

All forms are read as [passes, rows, experts]. Passes of mode ``per_pass`` count physical experts, the slots of all
ranks; the map in the file converts them to logical experts. Such a file is of one rank and has only that rank's counts.
An array without a key is read only if it cannot be anything else: counts are non-negative integers, and neither a
placement nor expert ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wss.records import FloatArray, IntArray
from wss.traces.declared_sizes import EXPERTS, LAYERS, MOE_LAYERS, REDUNDANT, SLOTS, check

COUNT, MAP = "logical_count", "physical_to_logical_map"
PHYSICAL, LAST_MAP = "global_physical_count", "last_physical_to_logical_map"
KEYED = f'save it under its key, {{"{COUNT}": ...}} or {{"{MAP}": ...}}'

Array = npt.NDArray[Any]


def holds_loads(value: Any) -> bool:
    """Whether *value* has the key of loads, or passes that count."""
    if isinstance(value, Mapping) and COUNT in value:
        return MAP not in value
    return passes_of(value) is not None


def counts_of(value: Any, experts: int | None = None) -> FloatArray | None:
    """Return the tokens of each expert, [passes, rows, experts]; None if *value* is not a form of loads.

    *experts*, the number of experts per layer, separates counts from expert ids in an array without a key.

    Raises
    ------
    ValueError
        If it is a form of loads but has none, or is an ambiguous array.
    """
    if isinstance(value, Mapping) and COUNT in value:
        return _by_pass(value[COUNT], COUNT)
    if (passes := passes_of(value)) is not None:
        return _of_passes(passes, value)
    if (bare := bare_array(value)) is not None:
        return _of_bare(bare, experts)
    return None


def check_sizes(value: Any, counts: FloatArray) -> None:
    """Check the experts, slots and layers that a file declares against its *counts*, [rows, experts].

    Its ranks may differ from those of the coming placement, and its layers may be all layers or only the MoE layers.

    Raises
    ------
    ValueError
        If they differ.
    """
    rows, experts = counts.shape
    check(value, EXPERTS, {experts}, f"has counts of {experts} experts a layer")
    slots = np.shape(value[LAST_MAP])[1] if isinstance(value, Mapping) and LAST_MAP in value else None
    if slots is None:
        check(value, SLOTS, range(experts, 2**31), f"has counts of {experts} experts a layer")
    else:
        check(value, SLOTS, {slots}, f"its {LAST_MAP} has {slots} slots a layer")
        check(value, REDUNDANT, {slots - experts}, f"its {LAST_MAP} has {slots} slots for {experts} experts")
    check(value, LAYERS, range(rows, 2**31), f"has {rows} rows")
    check(value, MOE_LAYERS, range(1, rows + 1), f"has {rows} rows")


def passes_of(value: Any) -> Sequence[Mapping[str, Any]] | None:
    """Return the passes of a recording of counts; None if it is not one."""
    passes = value.get("records") if isinstance(value, Mapping) else value
    if not isinstance(passes, list | tuple) or not passes:
        return None
    return passes if all(isinstance(one, Mapping) and {COUNT, PHYSICAL} & set(one) for one in passes) else None


def _by_pass(value: Any, what: str) -> FloatArray:
    """Return the counts *value*, [passes, rows, experts]; a table of two dimensions is one pass."""
    counts = numbers(value, what, (2, 3))
    if counts.min() < 0:
        raise ValueError(f"its {what} has {counts.min():g}; a count is 0 or more")
    return counts if counts.ndim == 3 else counts[None]


def _of_passes(passes: Sequence[Mapping[str, Any]], value: Any) -> FloatArray:
    """Return the counts of *passes*, which all count logical experts or all count physical experts."""
    key = COUNT if COUNT in passes[0] else PHYSICAL
    odd = next((place for place, one in enumerate(passes) if key not in one), None)
    if odd is not None:
        raise ValueError(f"its pass {odd} has no {key}, as pass 0 has")
    counts = [_by_pass(one[key], f"{key} of pass {place}").sum(axis=0) for place, one in enumerate(passes)]
    odd = next((place for place, one in enumerate(counts) if one.shape != counts[0].shape), None)
    if odd is not None:
        shapes = f"{list(counts[odd].shape)}, of pass 0 {list(counts[0].shape)}"
        raise ValueError(f"its {key} of pass {odd} is of shape {shapes}; all passes are of one model")
    each: FloatArray = np.stack(counts)
    return each if key == COUNT else _logical(each, value)


def _logical(counts: FloatArray, value: Any) -> FloatArray:
    """Return the tokens of logical experts, [passes, layers, experts], from those of slots, [passes, layers, slots]."""
    if not isinstance(value, Mapping) or LAST_MAP not in value:
        raise ValueError(f"counts physical experts ({PHYSICAL}) and has no {LAST_MAP}, which says whose slots they are")
    table, shape = numbers(value[LAST_MAP], LAST_MAP, (2,)), counts.shape[1:]
    if table.shape != shape or (table != np.rint(table)).any() or table.min() < 0 or table.max() >= shape[1]:
        raise ValueError(f"its {LAST_MAP} has not an expert for each of {list(shape)} slots")
    logical: FloatArray = np.zeros((*counts.shape[:2], int(table.max()) + 1))
    one, row = np.ix_(np.arange(len(counts)), np.arange(shape[0]))
    np.add.at(logical, (one[:, :, None], row[:, :, None], table.astype(np.int64)[None]), counts)
    return logical


def bare_array(value: Any) -> Array | None:
    """Return a bare array, or a list of arrays as one; None if *value* is neither, or the arrays differ in shape.

    Of the three arrays that EPLB returns, return the map of slots.

    Raises
    ------
    ValueError
        If it has no numbers.
    """
    if isinstance(value, np.ndarray):
        alone = value
    elif not isinstance(value, list | tuple) or not value or not all(isinstance(one, np.ndarray) for one in value):
        return None
    elif is_eplb(value):
        alone = value[0]
    elif len({(one.shape, one.dtype.kind) for one in value}) == 1:
        alone = np.stack(value)
    else:
        return None
    if alone.dtype.kind not in "iuf" or not alone.size:
        raise ValueError(f"is an array {list(alone.shape)} of {alone.dtype} without a key, which holds no numbers")
    return alone


def is_eplb(value: Sequence[Any]) -> bool:
    """Whether *value* is (slots' experts [layers, slots], experts' slots [layers, experts, replicas], replicas)."""
    if len(value) != 3 or not all(isinstance(one, np.ndarray) for one in value):
        return False
    if [one.ndim for one in value] != [2, 3, 2] or any(one.dtype.kind not in "iu" for one in value):
        return False
    slots, inverse, replicas = value
    return inverse.shape[:2] == replicas.shape and bool((replicas.sum(axis=1) == slots.shape[1]).all())


def is_map(array: Array, experts: int | None = None) -> bool:
    """Whether *array* can only be a placement of at least *experts*: each expert 0, 1, ... has a slot in each layer."""
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2, 3) or array.min() < -1:
        return False
    rows = np.atleast_2d(array)
    rows = rows.reshape(len(rows), -1)
    named = int(rows.max()) + 1
    if not max(2, experts or 0) <= named <= rows.shape[1]:
        return False
    return all(set(row[row >= 0]) == set(range(named)) for row in rows)


def whole_counts(array: Array) -> IntArray | None:
    """Return *array* as non-negative integers; None if it has other values."""
    if not np.isfinite(array).all() or array.min() < 0:
        return None
    return array if (array == np.rint(array)).all() else None


def _of_bare(array: Array, experts: int | None) -> FloatArray:
    """Return the counts, [passes, layers, experts], of an array without a key; without passes it is one."""
    shown = f"is an array {list(array.shape)} without a key"
    if array.ndim not in (2, 3):
        raise ValueError(f"{shown}; counts are [layers, experts] or [passes, layers, experts]")
    if is_map(array, experts):
        raise ValueError(f"{shown}, and names each expert as a layout does: name it as placement, or {KEYED}")
    whole = whole_counts(array)
    if whole is None:
        what = "holds what is no count (below 0, or a fraction), as logits do"
        raise ValueError(f"{shown} that {what}: import logits with `wss trace import`, or {KEYED}")
    ordered = np.sort(whole, axis=-1)
    if whole.ndim == 3 and experts != whole.shape[-1] and (ordered[..., 1:] > ordered[..., :-1]).all():
        what = "may be experts that tokens chose, as no number is twice in a row"
        raise ValueError(f"{shown} that {what}: import routing with `wss trace import`, or {KEYED}")
    return _by_pass(whole, "array")


def numbers(value: Any, what: str, dimensions: tuple[int, ...]) -> FloatArray:
    """Return *value* as an array of numbers; *dimensions* are the numbers of dimensions allowed, none of them empty.

    Raises
    ------
    ValueError
        If it is not such an array; the message names it *what*.
    """
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        array = np.zeros(0)
    if array.dtype.kind not in "iuf" or has_bool(value) or array.ndim not in dimensions or not array.size:
        raise ValueError(f"its {what} is not a table of numbers, all rows of one length")
    result: FloatArray = array.astype(np.float64)
    return result


def has_bool(value: Any) -> bool:
    """Whether nested lists contain true or false, which numpy converts to 1 or 0."""
    if isinstance(value, list | tuple):
        return any(map(has_bool, value))
    return isinstance(value, bool)
