"""Sizes declared in a layout file beside its map: they must agree with the map, the model and the wafer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wss.policies.placement.layout_engines import Target
from wss.traces.declared_sizes import EXPERTS, LAYERS, LOCAL, MOE_LAYERS, PARTS, RANKS, REDUNDANT, SLOTS, check, said

MOST_SLOTS = 2**16  # per layer


def check_wafer(value: Mapping[str, Any], target: Target) -> None:
    """Check the declared ranks, experts and version of a file before its map is read.

    Raises ValueError if they differ from the target, or if the file's form does not match its version.
    """
    dies, experts = target.dies, target.experts
    check(value, RANKS, {dies}, f"here are {dies} dies")
    if not any(said(value, RANKS)):  # otherwise, experts may be on only some of the other kinds of ranks
        check(value, PARTS, {part for part in range(1, dies + 1) if dies % part == 0}, f"here are {dies} dies")
    check(value, EXPERTS, {experts}, f"here are {experts} experts per layer")
    version = value.get("version")
    if not isinstance(version, int) or isinstance(version, bool):  # the version of a program, such as 0.5.1
        return
    if "model_maps" in value and version != 2:
        raise ValueError(f"says version: {version}, and has model_maps, as version 2 has")
    if "model_maps" not in value and version != 1:
        raise ValueError(f"says version: {version}, and has no model_maps, as version 2 has; no other is known")


def said_slots(value: Mapping[str, Any], target: Target) -> int | None:
    """Return the slots per layer that the file declares, in any of several ways; None if it does not.

    Raises ValueError if the declared value is not a possible number of slots.
    """
    sizes = [(key, size, size) for key, size in said(value, SLOTS)]
    sizes += [(key, size, target.dies * size) for key, size in said(value, LOCAL)]
    sizes += [(key, size, target.experts + size) for key, size in said(value, REDUNDANT) if isinstance(size, int)]
    if not sizes:
        return None
    key, size, slots = sizes[0]
    if not isinstance(size, int) or isinstance(size, bool) or not target.experts <= slots <= MOST_SLOTS:
        right = f"a layer of {target.experts} experts has {target.experts} to {MOST_SLOTS} slots"
        raise ValueError(f"says {key}: {size!r:.60}, and {right}")
    return int(slots)


def check_map(value: Mapping[str, Any], target: Target, slots: int, given: int, *, equal: bool = True) -> None:
    """Check the declared layers and slots of the file *value* against its map; raise ValueError if they differ.

    The map has *given* rows of *slots* each; 1 may be for all layers. If *equal*, all ranks have equally many slots.
    """
    moe = len(target.layers)
    rows = {given, target.num_layers} | ({moe} if given == 1 else set())
    has = f"its map has {slots} slots per layer"
    check(value, SLOTS, {slots}, has)
    check(value, REDUNDANT, {slots - target.experts}, f"{has}, for {target.experts} experts")
    if equal and slots % target.dies == 0:
        check(value, LOCAL, {slots // target.dies}, f"{has}, on {target.dies} dies")
    check(value, LAYERS, rows, f"its map has {given} rows, the model {target.num_layers or moe} layers")
    check(value, MOE_LAYERS, {moe}, f"the model has {moe} MoE layers")
