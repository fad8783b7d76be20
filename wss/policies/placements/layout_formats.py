"""Layouts as engines write them: which expert is in each slot of each rank.

Read are

* ``{"physical_to_logical_map": [layers][slots]}``, SGLang's ``--init-expert-location`` and EPLB's result, as JSON or
  ``.pt``; by ranks too, [layers][ranks][slots];
* ``{"logical_to_physical_map": [layers][experts][replicas]}``, EPLB's other result, -1 padded;
* vLLM's: the bare map, one row for all layers, ``{"expert_to_ep_rank": [...]}``, and version 2 with ``model_maps``;
* vLLM-Ascend's ``layer_list`` of ``device_list``;
* TensorRT-LLM's ``initial_global_assignments`` (YAML or JSON).

Slot s of n is on rank s // (n / ranks), and rank r is die r. There is a row for each MoE layer, or one for every layer
of the model. A slot that holds nothing is -1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from wss.files import TwiceError
from wss.records import IntArray
from wss.traces.content import Content, other_kind
from wss.traces.load_forms import COUNT, KEYED, MAP, bare_array, has_bool, holds_loads, is_map, whole_counts

INVERSE = "logical_to_physical_map"
EMPTY = -1  # a slot that holds no expert
RANKS = ("ep_size", "num_ranks", "num_gpus", "world_size", "moe_ep_size", "ep_rank_count")
EXPERTS = ("num_experts", "num_experts_per_layer", "num_logical_experts")


@dataclass(frozen=True)
class Target:
    """What a layout is to fit: the MoE layers, how many layers the model has (0 if unknown), its experts, the dies."""

    layers: tuple[int, ...]
    num_layers: int
    experts: int
    dies: int


def slots_of(content: Content, target: Target) -> IntArray | None:
    """Return the expert in each slot, [MoE layers, slots]; None if the content holds loads.

    Raises
    ------
    ValueError
        If it is no layout, or one of another model or another number of ranks.
    """
    value = _yaml(content) if content.kind == "text" else content.value
    if content.kind in ("parquet", "csv"):
        what = other_kind(content) if content.kind == "csv" else None
        if what:
            raise ValueError(what)
        return None
    if content.kind in ("json", "arrays") and holds_loads(value):
        return None
    if (bare := bare_array(value)) is not None:
        return _of_bare(bare, target)
    table = _table(value, target)
    if table is None:
        what = other_kind(content) or f"has neither {MAP} nor {COUNT}, nor another form of a layout"
        raise ValueError(what)
    return table


def _of_bare(array: npt.NDArray[Any], target: Target) -> IntArray | None:
    """Return the slots that an array without a key names, None if it can only be loads."""
    if is_map(array, target.experts):
        return _rows(array, target, "its map")
    counts = whole_counts(array)
    if counts is None and array.dtype.kind == "f":
        return None
    if counts is not None and array.ndim > 1 and (array.dtype.kind == "f" or counts.max() >= target.experts):
        return None
    what = f"is an array {list(array.shape)} without a key: as a layout it leaves experts out"
    raise ValueError(f"{what}, and as loads it is of few tokens; {KEYED}")


def replicas_of(slots: IntArray, target: Target) -> IntArray:
    """Return the replicas on each die, [layers, experts, dies], from the expert in each slot, [layers, slots].

    Raises
    ------
    ValueError
        If slots do not divide, name an expert that there is not, or leave one without a slot.
    """
    size, dies = target.experts, target.dies
    if slots.shape[1] % dies:
        raise ValueError(f"has {slots.shape[1]} slots a layer, which {dies} dies do not share evenly")
    if slots.min() < EMPTY or slots.max() >= size:
        odd = slots.max() if slots.max() >= size else slots.min()
        raise ValueError(f"names expert {odd}; the model has 0..{size - 1}, and -1 is an empty slot")
    die = np.repeat(np.arange(dies), slots.shape[1] // dies)
    replicas = np.zeros((len(slots), size + 1, dies), np.int64)
    np.add.at(replicas, (np.arange(len(slots))[:, None], slots, die), 1)  # empty slots, -1, count for the last one
    replicas = replicas[:, :-1]
    if not replicas.any(axis=2).all():
        place, expert = np.argwhere(~replicas.any(axis=2))[0]
        raise ValueError(f"has no slot for expert {expert} of layer {target.layers[place]}")
    return replicas


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping; a key that is there twice is no YAML here, as only the last of the two would count."""
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise TwiceError(twice)
        return super().construct_mapping(node, deep)


def _yaml(content: Content) -> Any:
    try:
        return yaml.load(content.value, _Loader)
    except TwiceError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def _table(value: Any, target: Target) -> IntArray | None:
    """Return the slots of any form, None if it is none."""
    if isinstance(value, list) and value and not isinstance(value[0], Mapping):
        return _rows(value, target, "its map")
    if not isinstance(value, Mapping):
        return None
    _check_sizes(value, target)
    if "model_maps" in value:
        return _of_model(value["model_maps"], target)
    if MAP in value:
        return _rows(value[MAP], target, f"its {MAP}")
    if INVERSE in value:
        return _inverse(value[INVERSE], target)
    if "expert_to_ep_rank" in value:
        return _of_ranks(value["expert_to_ep_rank"], target)
    if "layer_list" in value:
        return _of_devices(value, target)
    if "initial_global_assignments" in value:
        return _of_assignments(value, target)
    return None


def _check_sizes(value: Mapping[str, Any], target: Target) -> None:
    """Check the numbers of ranks and experts that a file names."""
    for keys, size, what in ((RANKS, target.dies, "dies"), (EXPERTS, target.experts, "experts a layer")):
        for key in keys:
            if key in value and value[key] != size:
                raise ValueError(f"says {key}: {value[key]!r}, and here are {size} {what}")


def _whole(value: Any, what: str) -> IntArray:
    """Return *value* as an array of whole numbers."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        array = np.zeros(0)
    if array.dtype.kind not in "iu" or not array.size or has_bool(value):
        raise ValueError(f"{what} is no table of whole numbers, all rows of one length")
    return array.astype(np.int64)


def _rows(value: Any, target: Target, what: str) -> IntArray:
    """Return the rows of the MoE layers, [MoE layers, slots]; one row alone is that of all layers."""
    array = _whole(value, what)
    if array.ndim == 1:
        return np.tile(array, (len(target.layers), 1))
    if array.ndim == 3:
        if array.shape[1] != target.dies:
            raise ValueError(f"{what} is of {array.shape[1]} ranks, and here are {target.dies} dies")
        array = array.reshape(len(array), -1)
    if array.ndim != 2:
        raise ValueError(f"{what} has {array.ndim} dimensions; it should have [layers][slots]")
    return _moe_rows(array, target, what)


def _moe_rows(array: IntArray, target: Target, what: str) -> IntArray:
    if len(array) == len(target.layers):
        return array
    if len(array) == target.num_layers or (not target.num_layers and len(array) > target.layers[-1]):
        rows: IntArray = array[list(target.layers)]
        return rows
    counted = f"{len(target.layers)} MoE layers, the last one number {target.layers[-1]}"
    raise ValueError(f"{what} has {len(array)} rows, the model has {counted}, of {target.num_layers or 'some'} layers")


def _of_model(maps: Any, target: Target) -> IntArray | None:
    """Return the layout of vLLM's version 2, which holds one a model."""
    if not isinstance(maps, Mapping) or len(maps) != 1:
        names = ", ".join(map(str, maps)) if isinstance(maps, Mapping) else repr(maps)
        raise ValueError(f"its model_maps are of {names}; keep that of this model alone")
    return _table(next(iter(maps.values())), target)


def _inverse(value: Any, target: Target) -> IntArray:
    """Return the slots from the slots of each expert, [layers, experts, replicas], -1 padded."""
    what = f"its {INVERSE}"
    array = _whole(value, what)
    if array.ndim != 3 or array.shape[1] != target.experts:
        raise ValueError(f"{what} is of shape {list(array.shape)}; it should be [layers][{target.experts}][replicas]")
    array = np.stack([_moe_rows(array[:, :, at], target, what) for at in range(array.shape[2])], axis=2)
    if array.max() >= array.shape[1] * array.shape[2]:
        most = array.shape[1] * array.shape[2]
        raise ValueError(f"{what} names slot {array.max()}, and {most} replicas at most fill 0..{most - 1}")
    slots = np.full((len(array), int(array.max()) + 1), EMPTY)
    for layer, expert, replica in np.argwhere(array >= 0).tolist():
        slot = array[layer, expert, replica]
        if slots[layer, slot] != EMPTY:
            raise ValueError(f"{what} has slot {slot} of layer {target.layers[layer]} twice")
        slots[layer, slot] = expert
    return slots


def _of_ranks(value: Any, target: Target) -> IntArray:
    """Return the slots from the rank of each expert, [experts] or [layers, experts]."""
    what = "its expert_to_ep_rank"
    ranks = _rows(value, target, what)
    if ranks.shape[1] != target.experts:
        raise ValueError(f"{what} is of {ranks.shape[1]} experts, the model has {target.experts}")
    if ranks.min() < 0 or ranks.max() >= target.dies:
        odd = ranks.max() if ranks.max() >= target.dies else ranks.min()
        raise ValueError(f"{what} names rank {odd}, and here are 0..{target.dies - 1}")
    return _even([[np.flatnonzero(row == rank).tolist() for rank in range(target.dies)] for row in ranks])


def _even(held: Sequence[Sequence[Sequence[int]]]) -> IntArray:
    """Return slots [layers, slots] from what each rank holds, [layers][ranks]; some may hold fewer."""
    most = max(len(own) for layer in held for own in layer)
    return np.array([[list(own) + [EMPTY] * (most - len(own)) for own in layer] for layer in held]).reshape(
        len(held), -1
    )


def _by_layer(found: Mapping[int, Any], target: Target, *, among_moe: bool) -> list[Any]:
    """Return what is *found* of each MoE layer, numbered absolutely or, with *among_moe*, among the MoE layers too."""
    if set(found) == set(target.layers):
        return [found[layer] for layer in target.layers]
    if among_moe and set(found) == set(range(len(target.layers))):
        return [found[place] for place in range(len(target.layers))]
    foreign = sorted(set(found) - set(target.layers)) or sorted(set(target.layers) - set(found))
    raise ValueError(
        f"its layers are {_span(found)}, the model's MoE layers {_span(target.layers)} (as layer {foreign[0]} shows)"
    )


def _span(layers: Any) -> str:
    numbers = sorted(layers)
    return f"{len(numbers)} in {numbers[0]}..{numbers[-1]}" if numbers else "none"


def _of_devices(value: Mapping[str, Any], target: Target) -> IntArray:
    """Return the layout of vLLM-Ascend."""
    try:
        found: dict[int, list[list[int]]] = {}
        for layer in value["layer_list"]:
            devices = {device["device_id"]: list(device["device_expert"]) for device in layer["device_list"]}
            if layer["layer_id"] in found:
                raise ValueError(f"has layer {layer['layer_id']} twice")
            counts = {len(devices), len(layer["device_list"]), layer.get("device_count", len(devices))}
            if counts != {target.dies} or set(devices) != set(range(target.dies)):
                raise ValueError(f"its layer {layer['layer_id']} is not on devices 0..{target.dies - 1}, each once")
            found[layer["layer_id"]] = [devices[device] for device in range(target.dies)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its layer_list is not as vLLM-Ascend writes it ({error!r})") from None
    if value.get("moe_layer_count", len(found)) != len(found):
        raise ValueError(f"says moe_layer_count: {value['moe_layer_count']}, and has {len(found)} layers")
    flat = [expert for layer in found.values() for own in layer for expert in own]
    _whole(flat, "its device_expert")
    return _even(_by_layer(found, target, among_moe=True))


def _of_assignments(value: Mapping[str, Any], target: Target) -> IntArray:
    """Return the layout of TensorRT-LLM."""
    own = value["initial_global_assignments"]
    if not isinstance(own, Mapping) or not own or not all(str(layer).isdigit() for layer in own):
        raise ValueError("its initial_global_assignments are no mapping from layers to slots")
    rows = _by_layer({int(layer): slots for layer, slots in own.items()}, target, among_moe=False)
    array = _whole(rows, "its initial_global_assignments")
    if array.ndim != 2 or value.get("num_slots", array.shape[1]) != array.shape[1]:
        raise ValueError(f"says num_slots: {value.get('num_slots')}, and has rows of {array.shape[-1]}")
    return array
