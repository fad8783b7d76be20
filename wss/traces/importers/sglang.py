"""SGLang's expert distribution recorder, mode ``per_token``: one ``.pt`` file per rank.

A record is one forward pass: its mode (forward_mode), the positions of its tokens, how many of them each request
prefills (extend_seq_lens), and their experts in every layer, as physical ids, -1 where unset. Physical ids are mapped
back to logical ones. Idle passes, passes of a draft model and empty passes are left out and counted. Ranks whose whole
recordings are equal are copies of one (tensor parallelism); all others served different requests (data parallelism).
Requests have no ids; `sglang_requests` separates them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wss.errors import TraceError
from wss.records import IntArray
from wss.traces.importers.filler import check_dense
from wss.traces.importers.pt import Opaque, load_pt
from wss.traces.importers.sglang_requests import DECODE, DRAFT, EXTEND, IDLE, MIXED, MODES, Pass, tell_apart
from wss.traces.importers.source import Hints, Read, Source, first_good, found_files, meta_of, moe_rows, routing_of
from wss.traces.load_forms import holds_loads
from wss.traces.schema import TraceMeta

UNSET = -1
DRAFTS = "passes of a draft model left out"
NOTHING = "passes in which no expert was recorded left out (a draft model, or a failed capture)"


def open_sglang(path: Path, hints: Hints) -> Source:
    """Open the recording of one rank, or a folder with those of all.

    Raises
    ------
    TraceError
        If a file is not such a recording, or a pass is of an unsupported kind.
    """
    files = found_files(path, (".pt",), "files of SGLang's recorder, mode per_token (.pt)")
    experts, num_logical = first_good(files, _routed)
    files, twins = _distinct(files)
    axis = experts.shape[1]
    chosen, by = moe_rows(hints, axis)
    layers = chosen or tuple(np.flatnonzero((experts >= 0).any(axis=(0, 2))).tolist())
    first = experts[:, list(layers)]
    top_k = hints.top_k or (hints.model.top_k if hints.model else int((first >= 0).any(axis=(0, 1)).sum()))
    meta = meta_of(
        hints,
        layers=layers,
        num_layers=axis,
        num_experts=hints.experts or num_logical,
        top_k=top_k,
        source=f"SGLang expert distribution recorder (per_token): {path.name}",
        note="requests told apart by positions; physical expert ids mapped to logical ones"
        + (f"; {twins} ranks with the tokens of another left out" if twins else ""),
        path=path,
    )
    return Source(files=files, meta=meta, read=partial(read_file, meta=meta, dense_by=by))


class _Recording(NamedTuple):
    """What a file holds: the passes that route tokens, and how many were left out, by reason."""

    passes: list[Pass]
    left_out: Counter[str]
    num_logical: int  # experts per layer


def _routed(path: Path) -> tuple[IntArray, int]:
    """Return the experts of all tokens of a file, [tokens, all layers, 8], and how many logical ones a layer has.

    Raises
    ------
    TraceError
        If it has no routed tokens.
    """
    passes, _, num_logical = _recording(path)
    if not passes:
        raise TraceError(f"{path}: routes no token in any layer; record it anew")
    return np.concatenate([one.experts for one in passes]), num_logical


def _distinct(files: tuple[Path, ...]) -> tuple[tuple[Path, ...], int]:
    """Drop ranks whose recording equals that of another, pass by pass; bad files stay, to be reported."""
    kept: dict[bytes, Path] = {}
    for file in files:
        digest = hashlib.sha256()
        try:
            passes = _recording(file).passes
        except TraceError:
            passes = []
        for one in passes:
            digest.update(f"{one.mode} {one.position.tolist()}".encode())
            digest.update(one.experts.tobytes())
        kept.setdefault(digest.digest() if passes else str(file).encode(), file)
    return tuple(kept.values()), len(files) - len(kept)


def _recording(path: Path) -> _Recording:
    content = load_pt(path)
    counts = holds_loads(content)
    records = content.get("records") if isinstance(content, dict) else None
    if counts or not isinstance(records, list) or not records:
        what = "has no 'records'"
        if counts:
            what = "holds loads of experts (mode stat or per_pass), not tokens; `wss trace stats` reads those"
        raise TraceError(f"{path}: {what}; record with --expert-distribution-recorder-mode per_token")
    passes = []
    left_out: Counter[str] = Counter()
    try:
        logical = np.asarray(content["last_physical_to_logical_map"], np.int64)
        for place, record in enumerate(records):
            one = _pass(place, record, logical)
            routes = bool((one.experts >= 0).any())
            if one.mode == DRAFT:
                left_out[DRAFTS] += 1
            elif one.mode == IDLE or not len(one.position):
                continue
            elif not routes:
                left_out[NOTHING] += 1
            elif one.mode not in MODES:
                raise TraceError(
                    f"{path}: record {place} has forward_mode {one.mode}, which is not read (a split prefill, prebuilt "
                    f"or diffusion pass, by version of SGLang); {', '.join(MODES.values())} passes are: 1 to {DRAFT}"
                )
            else:
                passes.append(one)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise TraceError(f"{path}: is not as SGLang's recorder writes it ({what}); record it anew") from None
    return _Recording(passes, left_out, int(logical.max()) + 1)


def _pass(place: int, record: dict[str, Any], logical: IntArray) -> Pass:
    """Return one record as a pass of any mode, its experts as logical ids.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError, OverflowError
        If it is not as the recorder writes it.
    """
    position = np.asarray(record["positions"], np.int64).ravel()
    given = record.get("extend_seq_lens")
    lengths = None if given is None else np.asarray(given, np.int64).ravel()
    mode = _mode(record.get("forward_mode"), lengths)
    physical = np.asarray(record["topk_ids_of_layer"], np.int64).transpose(1, 0, 2)[: len(position)]
    if len(physical) != len(position) or physical.shape[1] != len(logical):
        raise ValueError(f"record {place} has experts of shape {physical.shape}")
    if (position < 0).any():
        raise ValueError(f"record {place} has position {position.min()}")
    if mode in (EXTEND, MIXED):
        if lengths is None:
            raise ValueError(f"record {place} is an {MODES[mode]} pass without extend_seq_lens")
        if lengths.sum() != len(position) or (lengths < 0).any():
            raise ValueError(f"record {place} extends requests by {lengths.tolist()}, with {len(position)} tokens")
    slots = logical.shape[1]
    layer = np.arange(len(logical))[None, :, None]
    known = logical[layer, np.clip(physical, 0, slots - 1)]
    beyond = logical.max() + 1 + physical - slots  # a fused shared expert comes after all slots
    experts = np.where(physical < 0, UNSET, np.where(physical < slots, known, beyond))
    return Pass(number=place, mode=mode, position=position, lengths=lengths, experts=experts)


def _mode(given: Any, lengths: IntArray | None) -> int:
    """Return the forward mode, a number or torch's pickle of an enumeration; early recordings have none."""
    if given is None:
        return DECODE if lengths is None else EXTEND
    if isinstance(given, Opaque):
        given = given.args[0]
    if isinstance(given, bool) or int(given) != given or given < 1:
        raise ValueError(f"forward_mode {given!r} is not a number from 1 on")
    return int(given)


def read_file(path: Path, meta: TraceMeta, dense_by: str = "") -> Read:
    """Read the requests of one rank; *dense_by* is the source of the dense layers, if any.

    Raises
    ------
    TraceError
        If the file is not as the recorder writes it.
    """
    layers = list(meta.moe_layers)
    passes, left_out, num_logical = _recording(path)
    routed = num_logical + meta.zero_experts
    kept = []
    for one in passes:
        if one.experts.shape[1] <= layers[-1]:
            raise TraceError(f"{path}: has {one.experts.shape[1]} layers; the trace has a MoE layer {layers[-1]}")
        beyond = one.experts[:, layers, meta.top_k :]
        if ((beyond >= 0) & (beyond < routed)).any():  # ids of fused shared experts are higher, and left out
            most = int((one.experts[:, layers] >= 0).sum(axis=2).max())
            raise TraceError(
                f"{path}: record {one.number} has tokens with {most} experts, more than top-{meta.top_k}; give the "
                "--top-k, or the --model, that routed"
            )
        kept.append(one._replace(experts=one.experts[:, layers, : meta.top_k]))
    if dense_by and passes:
        check_dense(path, np.concatenate([one.experts for one in passes]), layers, dense_by)
    try:
        requests, remarks = tell_apart(kept)
    except TraceError as error:
        raise TraceError(f"{path}: {error.faults[0]}") from None
    result = [
        routing_of(number, request.num_prefill, np.stack(request.experts), np.array(request.position))
        for number, request in enumerate(requests)
    ]
    return Read(result, [*(remarks + left_out).elements()])
