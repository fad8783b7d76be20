"""Layouts of vLLM-Ascend and TensorRT-LLM, which number their layers; and the model and wafer a layout must match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wss.records import IntArray
from wss.traces.load_forms import has_bool

ASSIGNED = "initial_global_assignments"
EMPTY = -1  # a slot that holds no expert


@dataclass(frozen=True)
class Target:
    """What a layout must match: the MoE layers, the number of model layers (0 if unknown), of experts and of dies."""

    layers: tuple[int, ...]
    num_layers: int
    experts: int
    dies: int


def whole(value: Any, what: str) -> IntArray:
    """Return *value* as an array of whole numbers; raise ValueError if it is not one."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        array = np.zeros(0)
    if array.dtype.kind not in "iu" or not array.size or has_bool(value):
        raise ValueError(f"{what} is not a table of whole numbers with rows and ranks of equal length")
    return array.astype(np.int64)


def even(held: Sequence[Sequence[Sequence[int]]]) -> IntArray:
    """Return slots [layers, slots] from the experts of each rank, [layers][ranks]; shorter lists are padded."""
    most = max(len(own) for layer in held for own in layer)
    padded = [[list(own) + [EMPTY] * (most - len(own)) for own in layer] for layer in held]
    return np.array(padded).reshape(len(held), -1)


def _by_layer(found: Mapping[int, Any], target: Target, *, among_moe: bool) -> list[Any]:
    """Return the entries of *found* for the MoE layers.

    Layers are numbered absolutely or, if *among_moe*, alternatively among the MoE layers.
    """
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


def of_devices(value: Mapping[str, Any], target: Target) -> IntArray:
    """Return the layout of vLLM-Ascend."""
    try:
        found: dict[int, list[list[int]]] = {}
        for layer in value["layer_list"]:
            number = _number(layer["layer_id"])
            devices = {_number(device["device_id"]): list(device["device_expert"]) for device in layer["device_list"]}
            if not isinstance(number, int) or isinstance(number, bool):
                raise ValueError(f"its layer_id {number!r:.60} is not a whole number")
            if number in found:
                raise ValueError(f"has layer {number} twice")
            counts = {len(devices), len(layer["device_list"]), _number(layer.get("device_count", len(devices)))}
            if counts != {target.dies} or set(devices) != set(range(target.dies)):
                raise ValueError(f"its layer {number} is not on devices 0..{target.dies - 1}, each once")
            found[number] = [devices[device] for device in range(target.dies)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its layer_list is not as vLLM-Ascend writes it ({error!r})") from None
    if not found:
        raise ValueError("its layer_list is empty")
    _check_equal(found)
    found = {layer: [[*map(_number, own)] for own in devices] for layer, devices in found.items()}
    flat = [expert for devices in found.values() for own in devices for expert in own]
    whole(flat, "its device_expert")
    return even(_by_layer(found, target, among_moe=True))


def _number(said: Any) -> Any:
    """Return *said* as an integer if it is a short decimal string; otherwise unchanged."""
    return int(said) if isinstance(said, str) and said.isascii() and said.isdigit() and len(said) < 10 else said


def _check_equal(found: Mapping[int, Sequence[Sequence[int]]]) -> None:
    """Check that all devices of all layers have equally many experts: vLLM-Ascend stores them in one tensor."""
    sizes = {(layer, device): len(own) for layer, devices in found.items() for device, own in enumerate(devices)}
    (layer, device), first = next(iter(sizes.items()))
    odd = next((place for place, size in sizes.items() if size != first), None)
    if odd is not None:
        other = f"{sizes[odd]} on device {odd[1]} of layer {odd[0]}"
        raise ValueError(
            f"has {first} experts on device {device} of layer {layer}, {other}; vLLM-Ascend needs equally many on each"
        )


def balancer(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the load balancer nested in a TensorRT-LLM configuration, or *value* itself if there is none."""
    config = value.get("moe_config")
    places = (value, config if isinstance(config, Mapping) else {})
    found = [place[key] for place in places for key in ("load_balancer", "moe_load_balancer") if key in place]
    if not found or any(form in value for form in ("physical_to_logical_map", ASSIGNED)):
        return value
    if len(found) > 1:
        raise ValueError("has two load balancers; keep one")
    if isinstance(found[0], str):
        raise ValueError(f"names another file for its load balancer, '{found[0][:100]}'; give that one")
    if not isinstance(found[0], Mapping) or ASSIGNED not in found[0]:
        raise ValueError(f"its load balancer has no {ASSIGNED}, so it gives no layout")
    beside = {key: said for key, said in value.items() if not str(key).endswith(("load_balancer", "version"))}
    return beside | dict(found[0])


def of_assignments(value: Mapping[str, Any], target: Target) -> IntArray:
    """Return the layout of TensorRT-LLM."""
    own = value[ASSIGNED]
    if not isinstance(own, Mapping) or not own or not all(str(layer).isdigit() for layer in own):
        raise ValueError(f"its {ASSIGNED} are not a mapping from layers to slots")
    rows = _by_layer({int(layer): slots for layer, slots in own.items()}, target, among_moe=False)
    array = whole(rows, f"its {ASSIGNED}")
    if array.ndim != 2:
        raise ValueError(f"its {ASSIGNED} have {array.ndim} dimensions; a layer has a list of slots")
    return array
