"""Layouts as engines write them: which expert is in each slot of each rank.

The supported forms are:

* ``{"physical_to_logical_map": [layers][slots]}``, SGLang's ``--init-expert-location`` and EPLB's result, as JSON or
  ``.pt``; also by rank, [layers][ranks][slots];
* ``{"logical_to_physical_map": [layers][experts][replicas]}``, EPLB's other result (`layout_inverse`);
* vLLM's: the bare map, one row for all layers, ``{BY_RANK: [...]}``, and version 2 with ``model_maps``;
* vLLM-Ascend's ``layer_list`` of ``device_list``;
* TensorRT-LLM's ``initial_global_assignments`` (YAML or JSON), bare or nested as ``load_balancer``.

Slot s of n is on rank s // (n / ranks), and rank r is die r. So all ranks have equally many slots; only experts given
by rank (``expert_to_ep_rank``) may be unequal. There is a row for each MoE layer, or one for every layer of the model.
An empty slot is -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from wss.files import TwiceError
from wss.policies.placement.layout_engines import (
    ASSIGNED,
    EMPTY,
    Target,
    balancer,
    even,
    of_assignments,
    of_devices,
    whole,
)
from wss.policies.placement.layout_inverse import INVERSE, check_same, moe_rows, slots_of_experts
from wss.policies.placement.layout_sizes import check_map, check_wafer
from wss.reading import check_values
from wss.records import IntArray
from wss.traces.content import Content, other_kind
from wss.traces.load_forms import COUNT, KEYED, MAP, bare_array, holds_loads, is_eplb, is_map, whole_counts

BY_RANK = "expert_to_ep_rank"
MOST_YAML = 2**22  # characters; parsing them takes about half a minute
FORMS = ("model_maps", MAP, INVERSE, BY_RANK, "layer_list", ASSIGNED)


def slots_of(content: Content, target: Target) -> IntArray | None:
    """Return the expert in each slot, [MoE layers, slots]; None if the content holds loads.

    Raises ValueError if it is no layout, or one for another model or another number of ranks.
    """
    value = _yaml(content) if content.kind == "text" else content.value
    if content.kind in ("parquet", "csv"):
        if content.kind == "csv" and (what := other_kind(content)):
            raise ValueError(what)
        return None
    if content.kind in ("json", "arrays") and holds_loads(value):
        return None
    if isinstance(value, list | tuple) and is_eplb(value):
        value = {MAP: value[0], INVERSE: value[1]}
    if (bare := bare_array(value)) is not None:
        return _of_bare(bare, target)
    table = _table(value, target)
    if table is None:
        raise ValueError(other_kind(content) or f"has neither {MAP} nor {COUNT}, nor another form of a layout")
    return table


def _of_bare(array: npt.NDArray[Any], target: Target) -> IntArray | None:
    """Return the slots in an array without a key; None if it can only be loads."""
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

    Raises ValueError if the dies do not divide the slots, or a slot holds an unknown expert, or an expert has no slot.
    """
    size, dies = target.experts, target.dies
    if slots.shape[1] % dies:
        raise ValueError(f"has {slots.shape[1]} slots per layer, which {dies} dies cannot share evenly")
    if slots.min() < EMPTY or slots.max() >= size:
        odd = slots.max() if slots.max() >= size else slots.min()
        raise ValueError(f"names expert {odd}; the model has 0..{size - 1}, and -1 is an empty slot")
    die = np.repeat(np.arange(dies), slots.shape[1] // dies)
    replicas = np.zeros((len(slots), size + 1, dies), np.int64)
    np.add.at(replicas, (np.arange(len(slots))[:, None], slots, die), 1)  # empty slots, -1, count at the extra index
    replicas = replicas[:, :-1]
    if not replicas.any(axis=2).all():
        place, expert = np.argwhere(~replicas.any(axis=2))[0]
        raise ValueError(f"has no slot for expert {expert} of layer {target.layers[place]}")
    return replicas


class _Loader(yaml.SafeLoader):
    """A YAML loader that rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping; raise TwiceError for a duplicate key, of which YAML would keep only the last."""
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise TwiceError(twice)
        return super().construct_mapping(node, deep)


def _yaml(content: Content) -> Any:
    text = content.value
    if len(text) > MOST_YAML:
        raise ValueError(f"is YAML of more than {MOST_YAML} characters; give it as JSON")
    try:
        value = yaml.load(text, _Loader)
        check_values(value, len(text))
    except TwiceError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError):
        return None
    return value


def _table(value: Any, target: Target) -> IntArray | None:
    """Return the slots from any supported form; None if *value* is in none of them."""
    if isinstance(value, list) and value and not isinstance(value[0], Mapping):
        return _rows(value, target, "its map")
    if not isinstance(value, Mapping):
        return None
    value = balancer(value)
    form = next((form for form in FORMS if form in value), None)
    if form is None:
        return None
    check_wafer(value, target)
    if form == "model_maps":
        return _of_model(value, target)
    table = _of_form(form, value, target)
    for other in FORMS[FORMS.index(form) + 1 :]:
        if other in value:
            check_same(table, _of_form(other, value, target, table.shape[1]), (form, other), target)
    slots = target.experts if form == BY_RANK else table.shape[1]  # by rank, every expert has exactly one slot
    check_map(value, target, slots, _given_rows(value[form]), equal=form != BY_RANK)
    return table


def _of_form(form: str, value: Mapping[str, Any], target: Target, width: int | None = None) -> IntArray:
    """Return the slots from one of the `FORMS`; *width* is the slots per layer if another form has shown it."""
    if form == MAP:
        return _rows(value[MAP], target, f"its {MAP}")
    if form == INVERSE:
        return slots_of_experts(value, target, width)
    if form == BY_RANK:
        return _of_ranks(value[BY_RANK], target)
    if form == "layer_list":
        return of_devices(value, target)
    return of_assignments(value, target)


def _given_rows(given: Any) -> int:
    """Return the number of layers in a form that has been read; 1 may stand for all layers."""
    return len(given) if isinstance(given, Mapping) or not np.isscalar(given[0]) else 1


def _rows(value: Any, target: Target, what: str) -> IntArray:
    """Return the rows of the MoE layers, [MoE layers, slots]; a single row applies to all layers."""
    array = whole(value, what)
    if array.ndim == 1:
        return np.tile(array, (len(target.layers), 1))
    if array.ndim == 3:
        if array.shape[1] != target.dies:
            raise ValueError(f"{what} is for {array.shape[1]} ranks, and here are {target.dies} dies")
        array = array.reshape(len(array), -1)
    if array.ndim != 2:
        raise ValueError(f"{what} has {array.ndim} dimensions; it should have [layers][slots]")
    return moe_rows(array, target, what)


def _of_model(value: Mapping[str, Any], target: Target) -> IntArray | None:
    """Return the layout of vLLM's version 2, with one map per model; sizes may be beside the map or in it."""
    maps = value["model_maps"]
    if not isinstance(maps, Mapping) or len(maps) != 1:
        names = ", ".join(map(str, maps)) if isinstance(maps, Mapping) else repr(maps)
        raise ValueError(f"its model_maps are for {names}; keep only the map of this model")
    (own,) = maps.values()
    beside = {key: said for key, said in value.items() if key not in ("model_maps", "version")}
    return _table(beside | dict(own) if isinstance(own, Mapping) else own, target)


def _of_ranks(value: Any, target: Target) -> IntArray:
    """Return the slots from the rank of each expert, [experts] or [layers, experts]."""
    what = f"its {BY_RANK}"
    ranks = _rows(value, target, what)
    if ranks.shape[1] != target.experts:
        raise ValueError(f"{what} is for {ranks.shape[1]} experts, the model has {target.experts}")
    if ranks.min() < 0 or ranks.max() >= target.dies:
        odd = ranks.max() if ranks.max() >= target.dies else ranks.min()
        raise ValueError(f"{what} names rank {odd}, and here are 0..{target.dies - 1}")
    return even([[np.flatnonzero(row == rank).tolist() for rank in range(target.dies)] for row in ranks])
