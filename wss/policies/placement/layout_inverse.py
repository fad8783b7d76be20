"""Layouts by the slots of each expert, ``logical_to_physical_map`` [layers][experts][replicas], padded with -1.

Such a map does not give the number of slots: the last ones may be empty. ``num_physical_experts`` or another size in
the file gives it. Without one, every slot up to the highest in the map has to be filled. If a file holds a layout in
two forms, they have to agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wss.policies.placement.layout_engines import EMPTY, Target, whole
from wss.policies.placement.layout_sizes import said_slots
from wss.records import IntArray

INVERSE = "logical_to_physical_map"


def slots_of_experts(value: Mapping[str, Any], target: Target, width: int | None = None) -> IntArray:
    """Return the expert in each slot, [MoE layers, slots], from the `INVERSE` map of a file.

    *width* is the slots per layer, if another map of the file shows it.
    """
    what = f"its {INVERSE}"
    array = whole(value[INVERSE], what)
    if array.ndim != 3 or array.shape[1] != target.experts:
        raise ValueError(f"{what} is of shape {list(array.shape)}; it should be [layers][{target.experts}][replicas]")
    array = np.stack([moe_rows(array[:, :, at], target, what) for at in range(array.shape[2])], axis=2)
    if array.min() < EMPTY:
        raise ValueError(f"{what} names slot {array.min()}; slots are 0 or more, and -1 is none")
    said = width or said_slots(value, target)
    most = array.shape[1] * array.shape[2] if said is None else said
    if array.max() >= most:
        if said is not None:
            raise ValueError(f"{what} names slot {array.max()}, but by the rest of the file slots are 0..{most - 1}")
        fill = f"{most} replicas at most fill 0..{most - 1}; add num_physical_experts if slots are empty"
        raise ValueError(f"{what} names slot {array.max()}, and {fill}")
    slots = np.full((len(array), said or int(array.max()) + 1), EMPTY)
    for layer, expert, replica in np.argwhere(array >= 0).tolist():
        slot = array[layer, expert, replica]
        if slots[layer, slot] != EMPTY:
            raise ValueError(f"{what} has slot {slot} of layer {target.layers[layer]} twice")
        slots[layer, slot] = expert
    if said is None and (slots == EMPTY).any():
        layer, slot = np.argwhere(slots == EMPTY)[0]
        where = f"leaves slot {slot} of layer {target.layers[layer]} empty"
        raise ValueError(f"{what} {where}, so the number of slots is unknown; add num_physical_experts")
    return slots


def moe_rows(array: IntArray, target: Target, what: str) -> IntArray:
    """Return the rows of the MoE layers from a map with a row for each MoE layer, or for every layer."""
    if len(array) == len(target.layers):
        return array
    if len(array) == target.num_layers or (not target.num_layers and len(array) > target.layers[-1]):
        return array[list(target.layers)]
    counted = f"{len(target.layers)} MoE layers, the last one number {target.layers[-1]}"
    raise ValueError(f"{what} has {len(array)} rows, the model has {counted}, of {target.num_layers or 'some'} layers")


def check_same(one: IntArray, other: IntArray, names: tuple[str, str], target: Target) -> None:
    """Check that two maps of a file put the same experts on each die or, for a map and its inverse, in each slot.

    *names* are the keys of the maps. Raises ValueError if they differ; the message names the first layer and die, or
    slot.
    """
    dies, by_slot = target.dies, INVERSE in names and one.shape == other.shape
    if one.shape[1] % dies or other.shape[1] % dies:
        raise ValueError(
            f"has slots that {dies} dies cannot share evenly; {names[0]} and {names[1]} cannot be compared"
        )
    parts = [table.reshape(len(table), one.shape[1] if by_slot else dies, -1) for table in (one, other)]
    for layer, (first, second) in enumerate(zip(*parts, strict=True)):
        for place, (mine, yours) in enumerate(zip(first, second, strict=True)):
            held = [sorted(own[own != EMPTY].tolist()) for own in (mine, yours)]
            if held[0] != held[1]:
                where = f"{'slot' if by_slot else 'die'} {place} of layer {target.layers[layer]}"
                shown = [", ".join(map(str, own))[:40] or "none" for own in held]
                has = f"its {names[0]} has expert {shown[0]} there, its {names[1]} {shown[1]}"
                raise ValueError(f"contradicts itself in {where}: {has}; keep one of the two")
