"""What a layout file says of its sizes beside its map: none of it may contradict the map, the model or the wafer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

RANKS = (
    *("ep_size", "num_ranks", "num_gpus", "world_size", "moe_ep_size", "ep_rank_count"),
    "moe_expert_parallel_size",
)
EXPERTS = ("num_experts", "num_experts_per_layer", "num_logical_experts")
SLOTS = ("num_slots", "num_physical_experts", "num_slots_per_layer")
LAYERS = ("num_layers",)
MOE_LAYERS = ("num_moe_layers", "moe_layer_count")


def check_wafer(value: Mapping[str, Any], dies: int, experts: int) -> None:
    """Check the ranks and experts that a file names, and its version, before its map is read.

    Raises
    ------
    ValueError
        If they are others, or its form is not that of its version.
    """
    _check(value, RANKS, {dies}, f"here are {dies} dies")
    _check(value, EXPERTS, {experts}, f"here are {experts} experts a layer")
    version = value.get("version")
    if not isinstance(version, int) or isinstance(version, bool):  # a program's own, such as 0.5.1
        return
    if "model_maps" in value and version != 2:
        raise ValueError(f"says version: {version}, and has model_maps, as version 2 has")
    if "model_maps" not in value and version != 1:
        raise ValueError(f"says version: {version}, and has no model_maps, as version 2 has; no other is known")


def check_map(value: Mapping[str, Any], shape: tuple[int, int], given: int, num_layers: int) -> None:
    """Check the layers and slots that a file names against its map.

    Parameters
    ----------
    value
        The file.
    shape
        MoE layers of the model, and slots of each.
    given
        Rows of the map as it stands there; 1 may be for all layers.
    num_layers
        Of the model, with dense ones; 0 if unknown.

    Raises
    ------
    ValueError
        If they are others.
    """
    moe, slots = shape
    rows = {given, num_layers} | ({moe} if given == 1 else set())
    _check(value, SLOTS, {slots}, f"its map has {slots} slots a layer")
    _check(value, LAYERS, rows, f"its map has {given} rows, the model {num_layers or moe} layers")
    _check(value, MOE_LAYERS, {moe}, f"the model has {moe} MoE layers")


def _check(value: Mapping[str, Any], keys: tuple[str, ...], right: set[int], what: str) -> None:
    for key in keys:
        said = value.get(key)
        if isinstance(said, np.ndarray | np.generic) and said.ndim == 0:
            said = said.item()
        if said is not None and (isinstance(said, bool) or not isinstance(said, int | float) or said not in right):
            raise ValueError(f"says {key}: {said!r:.60}, and {what}")
