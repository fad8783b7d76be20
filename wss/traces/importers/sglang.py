"""SGLang's expert distribution recorder, mode ``per_token``: a ``.pt`` file a rank.

A record is one forward pass: positions of its tokens, how many of them each request prefills (extend_seq_lens, absent
in a decode pass), and their experts in every layer, as physical ids, -1 where unset. Physical ids are mapped back to
logical ones. Requests have no ids: the tokens of a decode pass are given to the running requests whose last position is
the one before, in the order in which they began; a token whose predecessor was not recorded begins a request.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wss.errors import TraceError
from wss.records import IntArray
from wss.traces.importers.pt import load_pt
from wss.traces.importers.source import Hints, Read, Source, first_good, found_files, meta_of, routing_of
from wss.traces.schema import TraceMeta, fault_of

UNSET = -1
GLUED = "chunks taken for the continuation of the prompt that ends where they begin"
GUESSED = "decode tokens given to one of several requests at the same position"


def open_sglang(path: Path, hints: Hints) -> Source:
    """Open the recording of one rank, or a folder with those of all.

    Raises
    ------
    TraceError
        If a file is no such recording.
    """
    files = found_files(path, (".pt",), "files of SGLang's recorder, mode per_token (.pt)")
    first_file, experts = first_good(files, lambda file: (file, np.concatenate([p[2] for p in _passes(file)])))
    files, twins = _distinct(files)
    layers = tuple(np.flatnonzero((experts >= 0).any(axis=(0, 2))).tolist())
    if not layers:
        raise TraceError(f"{first_file}: routes no token in any layer; record it anew")
    first = experts[:, list(layers)]
    top_k = hints.top_k or (hints.model.top_k if hints.model else int((first >= 0).any(axis=(0, 1)).sum()))
    known = hints.experts or _num_logical(first_file)
    meta = meta_of(
        hints,
        layers=layers,
        num_layers=experts.shape[1],
        num_experts=known,
        top_k=top_k,
        source=f"SGLang expert distribution recorder (per_token): {path.name}",
        note="requests told apart by positions; physical expert ids mapped to logical ones"
        + (f"; {twins} ranks with the tokens of another left out" if twins else ""),
        path=path,
    )
    return Source(files=files, meta=meta, read=partial(read_file, meta=meta))


def _distinct(files: tuple[Path, ...]) -> tuple[tuple[Path, ...], int]:
    """Leave out ranks that recorded the tokens of another (tensor parallelism); bad files stay, to be named."""
    kept: dict[bytes, Path] = {}
    for file in files:
        try:
            first = _passes(file)[0]
            key = first[0].tobytes() + first[2].tobytes()
        except TraceError:
            key = str(file).encode()
        kept.setdefault(key, file)
    return tuple(kept.values()), len(files) - len(kept)


def _content(path: Path) -> dict[str, Any]:
    content = load_pt(path)
    if not isinstance(content, dict) or not isinstance(content.get("records"), list) or not content["records"]:
        what = "has no 'records'"
        if isinstance(content, dict) and "logical_count" in content:
            what = "holds loads of experts (mode stat), not tokens; `wss trace stats` reads those"
        raise TraceError(f"{path}: {what}; record with --expert-distribution-recorder-mode per_token")
    return content


def _num_logical(path: Path) -> int:
    return int(np.asarray(_content(path)["last_physical_to_logical_map"]).max()) + 1


def _passes(path: Path) -> list[tuple[IntArray, IntArray | None, IntArray]]:
    """Return of each pass positions [tokens], extend lengths or None, and logical experts [tokens, layers, 8]."""
    content = _content(path)
    try:
        logical = np.asarray(content["last_physical_to_logical_map"], np.int64)
        passes = []
        for place, record in enumerate(content["records"]):
            position = np.asarray(record["positions"], np.int64).ravel()
            given = record.get("extend_seq_lens")
            lengths = None if given is None else np.asarray(given, np.int64).ravel()
            physical = np.asarray(record["topk_ids_of_layer"], np.int64).transpose(1, 0, 2)[: len(position)]
            if len(physical) != len(position) or physical.shape[1] != len(logical):
                raise ValueError(f"record {place} has experts of shape {physical.shape}")
            if physical.max(initial=-1) >= logical.shape[1]:
                raise ValueError(f"record {place} has physical expert {physical.max()} of {logical.shape[1]}")
            if lengths is not None and (lengths.sum() != len(position) or (lengths < 0).any()):
                raise ValueError(f"record {place} extends requests by {lengths.tolist()}, with {len(position)} tokens")
            layer = np.arange(len(logical))[None, :, None]
            experts = np.where(physical >= 0, logical[layer, np.maximum(physical, 0)], UNSET)
            passes.append((position, lengths, experts))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise TraceError(f"{path}: is not as SGLang's recorder writes it ({what}); record it anew") from None
    return passes


class _Request:
    """The tokens of a request as they come in."""

    def __init__(self) -> None:
        self.position: list[int] = []
        self.experts: list[IntArray] = []
        self.num_prefill = 0

    def add(self, position: int, experts: IntArray) -> None:
        self.position.append(position)
        self.experts.append(experts)


def read_file(path: Path, meta: TraceMeta) -> Read:
    """Read the requests of one rank.

    Raises
    ------
    TraceError
        If the file is not as the recorder writes it.
    """
    layers = list(meta.moe_layers)
    requests: list[_Request] = []
    running: list[_Request] = []
    guessed, glued = 0, 0
    for position, lengths, all_experts in _passes(path):
        if all_experts.shape[1] <= layers[-1]:
            raise TraceError(f"{path}: has {all_experts.shape[1]} layers; the trace has a MoE layer {layers[-1]}")
        experts = all_experts[:, layers, : meta.top_k]
        if lengths is None:
            guessed += _decode(position, experts, requests, running)
            continue
        end = np.cumsum(lengths)
        before = list(running)  # what is extended in this pass goes on in a later one
        for first, last in zip(end - lengths, end, strict=True):
            if first == last:
                continue
            # a later chunk of a prompt goes on where the request stands that has had nothing but prefill
            request = next(
                (r for r in before if r.num_prefill == len(r.position) and r.position[-1] + 1 == position[first]), None
            )
            if request is not None:
                glued += 1
                before.remove(request)
            if request is None:
                request = _Request()
                requests.append(request)
                running.append(request)
            for row in range(first, last):
                request.add(int(position[row]), experts[row])
            request.num_prefill = len(request.position)
    result = []
    for number, request in enumerate(requests):
        routing = routing_of(number, request.num_prefill, np.stack(request.experts), np.array(request.position))
        if fault := fault_of(routing, meta):
            raise TraceError(f"{path}: {fault}")
        result.append(routing)
    return Read(result, [GUESSED] * guessed + [GLUED] * glued)


def _decode(position: IntArray, experts: IntArray, requests: list[_Request], running: list[_Request]) -> int:
    """Give the tokens of a decode pass to running requests; return how often there was a choice."""
    free = list(running)
    guessed = 0
    taken = []
    for row, place in enumerate(position.tolist()):
        fitting = [request for request in free if request.position[-1] + 1 == place]
        guessed += len(fitting) > 1
        if fitting:
            request = fitting[0]
            free.remove(request)
        else:
            request = _Request()
            requests.append(request)
        request.add(place, experts[row])
        taken.append(request)
    # who got no token in a decode pass has ended, unless its prompt may go on
    running[:] = taken + [r for r in running if r not in taken and r.num_prefill == len(r.position)]
    return guessed
