"""Routing as text: gpt-oss fingerprints (JSON), tables (CSV), and route logs (JSON lines).

* fingerprints: ``{"router_data": [{"token_<position>": {"layer_<l>": {"selected_experts": [ids], ...}}}, ...]}``, one
  request per file, or a list of such objects; decode only;
* CSV, with commas, semicolons or tabs: a row per token and layer. moe-beyond: ``Layer ID``, ``Batch Number``,
  ``Token``, ``Activated Expert IDs`` (a JSON list), a batch is a request, prefill only. llama.cpp: ``layer_id``,
  ``expert_ids`` (separated by spaces), one request;
* JSON lines: ``{"type": "route", "req_id", "token_idx", "layer", "topk_ids"}`` per line, other types ignored; without
  a type, any line with such keys. ``phase`` (prefill or decode) may mark the tokens of the prompt. Equal rows at the
  beginning are the serving system's warm-up, or real: they are dropped only if the user says so.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from wss.errors import TraceError
from wss.reading import open_plain
from wss.traces.importers.arrays import ALL_DECODE
from wss.traces.importers.filler import dense_fault
from wss.traces.importers.source import Hints, Read, Source, first_good, found_files, meta_of, routing_of
from wss.traces.importers.table_rows import (
    LOOKS_WARM,
    NOT_WARM,
    BadFileError,
    Phases,
    check,
    csv_rows,
    fingerprints,
    jsonl_rows,
    plain,
)
from wss.traces.schema import LARGEST_NUMBER, RequestRouting, TraceMeta

Routes = dict[Any, dict[int, dict[int, list[int]]]]  # request -> position -> layer -> experts
TOLD_PHASES = "which tokens are prefill is told by their phase"
PROMPTS = "requests of one forward pass: prefill only"


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How files of one kind are read; *dense_by* is the source of the layers that are dense, all except *layers*."""

    kind: str
    layers: tuple[int, ...] = ()
    dense_by: str = ""
    top_k: int | None = None
    drop_warmup: bool = False


KINDS = {  # endings of the files, source, note
    "fingerprints": (
        (".json",),
        "gpt-oss expert fingerprints",
        "decode tokens only; position is the place in the sequence",
    ),
    "csv": ((".csv", ".tsv"), "table of expert activations", "a row a token and layer"),
    "jsonl": ((".jsonl",), "route log", "no phases are stated: all tokens count as decode"),
}


def open_table(kind: str, path: Path, hints: Hints) -> Source:
    """Open routing as text, of a *kind* in `KINDS`."""
    endings, source, note = KINDS[kind]
    files = found_files(path, endings, f"{kind} ({', '.join(endings)})")
    top_k = hints.top_k or (hints.model.top_k if hints.model else None)
    how = _Reading(kind=kind, top_k=top_k, drop_warmup=hints.drop_warmup)
    routes, remarks, phases = first_good(files, lambda file: _routes(file, how))
    tokens = [layers for positions in routes.values() for layers in positions.values()]
    found = tuple(sorted(set().union(*tokens)))
    if hints.experts is None:
        raise TraceError(f"{path}: does not state the number of experts; give --model, or --experts")
    layers, by = hints.named_layers or (found, "")
    if not set(layers) < set(found):
        layers, by = found, ""
    meta = meta_of(
        hints,
        layers=layers,
        num_layers=found[-1] + 1,
        num_experts=hints.experts,
        top_k=len(next(iter(tokens[0].values()))),
        source=f"{source}: {path.name}",
        note=TOLD_PHASES if phases else note,
        path=path,
    )
    how = replace(how, layers=layers, dense_by=by)
    settings = f"{hints.drop_warmup}" if kind == "jsonl" else ""
    warnings = tuple(f"{count} {said}" for said, count in Counter(remarks).items() if said == LOOKS_WARM)
    if hints.drop_warmup and not remarks:
        warnings = (NOT_WARM,)
    return Source(
        files=files, meta=meta, read=partial(read_file, how=how, meta=meta), settings=settings, warnings=warnings
    )


def read_file(path: Path, how: _Reading, meta: TraceMeta) -> Read:
    """Read the requests of one file.

    Raises
    ------
    TraceError
        If the file is damaged, or a token lacks a layer.
    """
    routes, remarks, phases = _routes(path, how)
    is_prompt = how.kind == "csv" and _is_moe_beyond(path)
    requests: list[RequestRouting] = []
    for name, tokens in routes.items():
        places = sorted(tokens)
        _check_others(path, name, tokens, how)
        rows = np.full((len(places), len(how.layers), meta.top_k), -1, np.int64)
        for row, place in enumerate(places):
            for at, layer in enumerate(how.layers):
                experts = tokens[place].get(layer)
                if experts is None:
                    raise TraceError(f"{path}: {_lacking(routes, name, place, layer, meta.top_k)}")
                if len(experts) != meta.top_k:
                    what = f"has experts {experts}; give {meta.top_k} ids"
                    raise TraceError(f"{path}: request {name}, position {place}, layer {layer}: {what}")
                rows[row, at] = experts
        number = name if isinstance(name, int) and 0 <= name <= LARGEST_NUMBER else len(requests)
        num_prefill = _told(path, name, places, phases)
        if num_prefill is None and (how.kind == "csv" or meta.note == TOLD_PHASES):
            remarks.append(PROMPTS if is_prompt else ALL_DECODE)
        if num_prefill is None:
            num_prefill = len(rows) if is_prompt else 0
        requests.append(routing_of(number, num_prefill, rows, np.array(places)))
    return Read(requests, remarks)


def _lacking(routes: Routes, name: Any, place: int, layer: int, top_k: int) -> str:
    """Return what is wrong if a token lacks *layer*: the token, or a token that has it although most have not."""
    tokens = [(request, position, own) for request, positions in routes.items() for position, own in positions.items()]
    having = [(request, position) for request, position, own in tokens if layer in own]
    if 2 * len(having) >= len(tokens):
        return f"request {name}, position {place}, layer {layer}: is missing; give {top_k} ids"
    request, position = having[0]
    share = f"{len(having)} of {len(tokens)} tokens" + (" has" if len(having) == 1 else " have")
    return f"request {request}, position {position}: only {share} a layer {layer}; correct it, or leave the layer out"


def _told(path: Path, name: Any, places: list[int], phases: Phases) -> int | None:
    """Return the number of prefill tokens of the request *name* by its *phases*; None if it has no phases."""
    told = [phases.get((name, place)) for place in places]
    if all(prefill is None for prefill in told):
        return None
    if None in told:
        place = places[told.index(None)]
        raise TraceError(f"{path}: request {name}, position {place}: has no phase, as others have; give each one")
    count = sum(map(bool, told))
    if not all(told[:count]):
        place = places[told.index(False)]
        raise TraceError(
            f"{path}: request {name}: decode at position {place} comes before prefill; number prefill first"
        )
    return count


def _check_others(path: Path, name: Any, tokens: dict[int, dict[int, list[int]]], how: _Reading) -> None:
    """Refuse a request with other layers than the rest, or with routing in a layer declared dense."""
    seen: dict[int, list[int]] = {}
    for place, layers in tokens.items():
        extra = layers.keys() - set(how.layers)
        if extra and not how.dense_by:
            raise TraceError(f"{path}: request {name}, position {place}: has a layer {min(extra)} unlike the others")
        for layer in extra:
            if seen.setdefault(layer, layers[layer]) != layers[layer]:
                raise TraceError(f"{path}: request {name}: {dense_fault([layer], how.dense_by)}")


def _is_moe_beyond(path: Path) -> bool:
    with open_plain(path) as file:
        return b"batchnumber" in plain(file.readline(1000).decode(errors="replace")).encode()


def _routes(path: Path, how: _Reading) -> tuple[Routes, list[str], Phases]:
    """Read a file into request -> position -> layer -> experts, remarks, and the phases in its rows."""
    routes: Routes = {}
    phases: Phases = {}
    remarks: list[str] = []
    readers = {
        "fingerprints": lambda: fingerprints(path),
        "csv": lambda: csv_rows(path, how.top_k, phases),
        "jsonl": lambda: jsonl_rows(path, remarks, phases, drop_warmup=how.drop_warmup),
    }
    try:
        for request, position, layer, experts in readers[how.kind]():
            check(request, position, layer, experts)
            token = routes.setdefault(request, {}).setdefault(position, {})
            if layer in token:
                raise BadFileError(f"request {request}, position {position}, layer {layer} is there twice; keep one")
            token[layer] = experts
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
    except (BadFileError, RecursionError, msgspec.DecodeError, UnicodeDecodeError, csv.Error) as error:
        right = "; give a whole file" if not isinstance(error, BadFileError) else ""
        raise TraceError(f"{path}: {' '.join(str(error).split())[:300]}{right}") from None
    if not routes:
        raise TraceError(f"{path}: holds no routing; see docs/reference/importing.md for what it should hold")
    return routes, remarks, phases
