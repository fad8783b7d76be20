"""Layouts in files: what SGLang's ``--init-expert-location`` takes, and EPLB gives.

``{"physical_to_logical_map": [layers][slots]}`` names the expert in each slot; slot s is on die
s // (slots / dies). ``{"logical_count": [layers][experts]}`` (or a list of such) holds loads, from which EPLB makes the
layout. There is a row for each MoE layer, or, as SGLang writes it, one for every layer of the model. A slot that holds
nothing is -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wss.errors import CHECKED, ConfigError
from wss.files import json_text, parse_json
from wss.policies.history import History
from wss.policies.placement import Extra
from wss.policies.placements.eplb import Eplb
from wss.records import IntArray

MAP, COUNT = "physical_to_logical_map", "logical_count"
EMPTY = -1  # a slot that holds no expert


@dataclass(frozen=True, kw_only=True)
class LayoutFile:
    """The layout of a JSON file: SGLang's --init-expert-location, a physical_to_logical_map or a logical_count.

    Parameters
    ----------
    path
        The file.
    extra
        As for `eplb`, which turns a logical_count into a layout; a map says itself where everything is.
    """

    __pydantic_config__ = CHECKED

    path: str
    extra: Extra = 1

    def place(self, history: History, hops: IntArray) -> IntArray:
        """Return the replicas on each die, [layers, experts, dies].

        Raises
        ------
        ConfigError
            If the file cannot be read, or does not fit the model and the wafer.
        """
        found = _read(self.path)
        if MAP in found:
            return _replicas(self.path, _table(self.path, MAP, found[MAP], history), history)
        load = _table(self.path, COUNT, found[COUNT], history)
        if load.shape[1] != history.num_experts or load.min() < 0:
            raise ConfigError(
                f"{self.path}: its {COUNT} is not a load of each of {history.num_experts} experts a layer, 0 or more; "
                "give that of this model"
            )
        known = np.where(load.sum(axis=1, keepdims=True) > 0, load, 1.0)
        return Eplb.spread(known, history.slots(self.extra), 1, 1, np.arange(len(hops)))


def layout_text(placed: IntArray, layers: Sequence[int], num_layers: int) -> str:
    """Return the replicas on each die [MoE layers, experts, dies] as JSON, a row for every layer, MoE or not.

    All dies have as many slots as the fullest. Layers without experts have rows too, as SGLang needs them, which mean
    nothing.
    """
    _, num_experts, num_dies = placed.shape
    slots = int(placed.sum(axis=1).max())
    rows = [(np.arange(slots * num_dies) % num_experts).tolist()] * num_layers
    for layer, replicas in zip(layers, placed, strict=True):
        rows[layer] = np.concatenate([_filled(replicas, die, slots) for die in range(num_dies)]).tolist()
    lines = ",\n".join(f"  {json_text(row, indent=None)}" for row in rows)
    return f'{{"{MAP}": [\n{lines}\n]}}\n'


def _filled(replicas: IntArray, die: int, slots: int) -> IntArray:
    """Return the expert in each of the *slots* of *die*, [slots]; *replicas* is [experts, dies] of one layer.

    Engines give each replica an equal part of its expert's tokens, so a spare slot repeats an expert that lies on this
    die alone, which changes no share. Where there is none the slot stays empty, -1.
    """
    own = replicas[:, die].copy()
    alone = np.flatnonzero((own > 0) & (own == replicas.sum(axis=1)))
    own[alone[:1]] += slots - own.sum()
    row: IntArray = np.full(slots, EMPTY)
    row[: own.sum()] = np.repeat(np.arange(len(own)), own)
    return row


def _read(path: str) -> dict[str, Any]:
    """Return the mapping in the file, which has one of the two tables."""
    try:
        found = parse_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a JSON file with a {MAP}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is no JSON ({error}); give a file with a {MAP} or a {COUNT}") from None
    if not isinstance(found, dict) or not {MAP, COUNT} & set(found):
        raise ConfigError(f"{path}: has neither {MAP} nor {COUNT}; give a file for SGLang's --init-expert-location")
    return found


def _table(path: str, name: str, value: Any, history: History) -> IntArray:
    """Return the rows of the MoE layers as whole numbers, [layers, any]."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.zeros(0, np.object_)
    if name == COUNT and array.ndim == 3:
        array = array.sum(axis=0)
    whole = array.dtype.kind in "iu" or (name == COUNT and array.dtype.kind == "f" and bool(np.isfinite(array).all()))
    if array.ndim != 2 or not array.size or not whole:
        raise ConfigError(f"{path}: its {name} is no table of numbers; give a list a layer, all of one length")
    if len(array) == history.num_layers:
        return array
    if len(array) <= history.layers[-1]:
        raise ConfigError(
            f"{path}: its {name} has {len(array)} layers, the model has {history.num_layers} MoE layers, the last one "
            f"number {history.layers[-1]}; give a row for each of them, or for every layer of the model"
        )
    rows: IntArray = array[list(history.layers)]
    return rows


def _replicas(path: str, slots: IntArray, history: History) -> IntArray:
    """Return the replicas on each die, [layers, experts, dies], from the expert in each slot, [layers, slots]."""
    size, dies = history.num_experts, history.num_dies
    if slots.shape[1] % dies:
        raise ConfigError(
            f"{path}: its {MAP} has {slots.shape[1]} slots a layer, which {dies} dies do not share evenly; "
            "give equally many slots to each die"
        )
    if slots.min() < -1 or slots.max() >= size:
        raise ConfigError(
            f"{path}: its {MAP} names expert {slots.max() if slots.max() >= size else slots.min()}; "
            f"the model has 0..{size - 1}, and -1 is an empty slot"
        )
    die = np.repeat(np.arange(dies), slots.shape[1] // dies)
    replicas = np.zeros((len(slots), size + 1, dies), np.int64)
    np.add.at(replicas, (np.arange(len(slots))[:, None], slots, die), 1)  # empty slots, -1, count for the last one
    replicas = replicas[:, :-1]
    if not replicas.any(axis=2).all():
        place, expert = np.argwhere(~replicas.any(axis=2))[0]
        raise ConfigError(f"{path}: its {MAP} has no slot for expert {expert} of layer {history.layers[place]}")
    return replicas
