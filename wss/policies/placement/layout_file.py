"""Layout files: read in the forms that engines write (`layout_formats`), written in SGLang's form.

A file of loads (`wss.traces.loads`) is accepted too: EPLB turns it into a layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wss.errors import ConfigError
from wss.files import json_text
from wss.policies.parts import Placement
from wss.policies.placement.basic import Extra
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.layout_engines import EMPTY, Target
from wss.policies.placement.layout_formats import replicas_of, slots_of
from wss.policies.views import PlacementView
from wss.reading import ENDLESS, open_plain
from wss.records import FloatArray, IntArray
from wss.traces.content import read_content
from wss.traces.load_forms import MAP
from wss.traces.loads import loads_of

START = f'{{"{MAP}": [\n'  # first line of a layout written by wss
RIGHT = "give a layout, or loads, of this model on this wafer"


@dataclass(frozen=True, kw_only=True)
class LayoutFile(Placement):
    """A layout from a file (SGLang, vLLM, TensorRT-LLM), or EPLB's for a file of loads.

    `layout_formats` reads the layouts.

    Parameters
    ----------
    path
        The file.
    extra
        As for `eplb`, which turns loads into a layout; default 1. Not allowed with a layout, which fixes all slots
        itself.
    """

    path: str
    extra: Extra | None = None

    def place(self, view: PlacementView) -> IntArray:
        """Return the replicas on each die, [layers, experts, dies].

        Raises WssError if the file cannot be read, or does not match the model and the wafer.
        """
        placed, loads = self._read(view)
        if placed is not None:
            return placed
        known = np.where(loads.sum(axis=1, keepdims=True) > 0, loads, 1.0)
        return Eplb.spread(known, view.slots(1 if self.extra is None else self.extra), 1, 1, np.arange(view.num_dies))

    def loads(self, view: PlacementView) -> FloatArray | None:
        """Return the loads in the file, [layers, experts]; None if it holds a layout. Raises as `place` does."""
        placed, loads = self._read(view)
        return None if placed is not None else loads

    def notes(self, target: Target) -> list[str]:
        """Return notes on what of a file of loads is ignored; none for a layout. Raises as `place` does."""
        path = Path(self.path)
        content = read_content(path)
        try:
            dumps = loads_of(path, content, target.experts) if slots_of(content, target) is None else []
        except ValueError as error:
            raise ConfigError(f"{path}: {error}; {RIGHT}") from None
        notes = [dump.dense_note(target.layers, target.num_layers) for dump in dumps]
        return [f"{path.name}: {note}" for note in notes if note]

    def _read(self, view: PlacementView) -> tuple[IntArray | None, FloatArray]:
        """Return the layout in the file and zero loads, or None and the loads in the file."""
        path = Path(self.path)
        content = read_content(path)
        target = Target(view.layers, view.num_model_layers, view.num_experts, view.num_dies)
        loads: FloatArray = np.zeros((len(target.layers), target.experts))
        try:
            slots = slots_of(content, target)
            if slots is not None and self.extra is not None:
                raise ConfigError(f"{path}: is a layout, on which extra: {self.extra} has no effect; leave extra out")
            if slots is not None:
                return replicas_of(slots, target), loads
            dumps = loads_of(path, content, target.experts)
            for dump in dumps:
                own = dump.of_layers(target.layers, target.num_layers, target.experts)
                loads = loads + (own / own.sum() if len(dumps) > 1 else own)  # equal weights, whatever their length
        except ValueError as error:
            raise ConfigError(f"{path}: {error}; {RIGHT}") from None
        return None, loads


def layout_text(placed: IntArray, layers: Sequence[int], num_layers: int) -> str:
    """Return the replicas on each die [MoE layers, experts, dies] as JSON, with a row for every layer, MoE or not.

    All dies get as many slots as the fullest. SGLang also needs rows for layers without experts; their contents are
    meaningless.
    """
    _, num_experts, num_dies = placed.shape
    slots = int(placed.sum(axis=1).max())
    rows = [(np.arange(slots * num_dies) % num_experts).tolist()] * num_layers
    for layer, replicas in zip(layers, placed, strict=True):
        table = np.full((num_dies, slots), EMPTY)
        for die, own in enumerate(filled(replicas, slots).T):
            table[die, : own.sum()] = np.repeat(np.arange(num_experts), own)
        rows[layer] = table.ravel().tolist()
    lines = ",\n".join(f"  {json_text(row, indent=None)}" for row in rows)
    return f"{START}{lines}\n]}}\n"


def is_written(path: Path) -> bool:
    """Whether the file *path* begins like a layout written by wss."""
    with open_plain(path, ENDLESS) as file:
        return file.read(len(START)) == START.encode()


def filled(replicas: IntArray, slots: int) -> IntArray:
    """Add replicas to one layer so that each die has *slots* if possible, [experts, dies].

    Engines give each replica an equal part of its expert's tokens. So an expert's replicas may only be multiplied on
    all its dies in proportion, or freely if it lies on one die only. Slots for which no such expert exists stay empty.
    """
    replicas = replicas.astype(np.int64)
    spare = slots - replicas.sum(axis=0)
    alone = np.count_nonzero(replicas, axis=1) == 1
    easy = replicas[alone].any(axis=0)
    for die in np.flatnonzero(~easy):
        for expert in np.flatnonzero(replicas[:, die]):
            more = replicas[expert] // np.gcd.reduce(replicas[expert])
            times = (spare[more > 0] // more[more > 0]).min()
            replicas[expert] += times * more
            spare -= times * more
    for die in np.flatnonzero(easy):
        replicas[np.argmax(alone & (replicas[:, die] > 0)), die] += spare[die]
    return replicas
