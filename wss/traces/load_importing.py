"""Import of expert loads as a table. What the user states about the model must fit, and gives the rows their layers.

A table of unnumbered rows stays unnumbered if the user states nothing about its layers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wss.errors import TraceError
from wss.traces.content import LAYOUT, is_layout, read_content
from wss.traces.importers.source import Hints
from wss.traces.load_dumps import Loads
from wss.traces.loads import read_loads


def import_loads(path: Path, hints: Hints) -> tuple[list[Loads], list[str]]:
    """Return the loads of a file, and notes for the reader.

    Raises
    ------
    TraceError
        If the file cannot be read or contradicts *hints*, or *hints* are about tokens, which loads do not have.
    """
    given = hints.router.named()
    given += ["--top-k"] * (hints.top_k is not None) + ["--zero-experts"] * (hints.zero_experts is not None)
    given += ["--drop-warmup"] * hints.drop_warmup
    if given:
        what = "for recorded routing alone; this is a table of expert loads, which names no tokens"
        raise TraceError(f"{path}: {', '.join(given)}: {what}")
    model = hints.model
    if model is not None and hints.moe_layers not in (None, model.moe_layers):
        raise TraceError(f"{path}: --moe-layers are not those of {model.name}; give one of the two")
    found, notes = [], []
    for dump in read_loads(path, hints.experts):
        try:
            loads, note = _as_said(dump, hints)
        except ValueError as error:
            said = (
                f"the --model of these loads, not {model.name}"
                if model
                else "--experts and --moe-layers as these loads have them"
            )
            raise TraceError(f"{path}: {dump.name}: {error}; give {said}") from None
        found.append(loads)
        notes += [f"{path.name}: {dump.name}: {note}"] if note else []
    return found, notes


def refuse_layout(path: Path) -> None:
    """Refuse *path* if it is a placement.

    Raises
    ------
    TraceError
        If it is.
    """
    try:
        found = path.is_file() and is_layout(read_content(path))
    except TraceError:
        return
    if found:
        raise TraceError(f"{path}: {LAYOUT}")


def _as_said(dump: Loads, hints: Hints) -> tuple[Loads, str | None]:
    """Return *dump* with the layers that *hints* name, and a note on tokens left out; unchanged if they name none."""
    rows, experts = dump.counts.shape
    if hints.num_experts not in (None, experts):
        raise ValueError(f"has loads of {experts} experts a layer, and --experts {hints.num_experts} was given")
    if hints.named_layers is None:
        return dump, None
    layers, _ = hints.named_layers
    whole = rows if not dump.numbered else 0  # rows may be of all layers, or only of the MoE layers
    num_layers, size = max(layers[-1] + 1, whole, dump.said_layers or 0), experts
    if hints.model is not None:
        num_layers, size = hints.model.num_layers, hints.model.num_experts
    counts = dump.of_layers(layers, num_layers, size)
    return replace(dump, layers=layers, counts=counts, numbered=True, passes=None), dump.dense_note(layers, num_layers)
