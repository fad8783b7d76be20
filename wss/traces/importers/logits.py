"""Router logits of HF transformers, one batch per file; experts are chosen here as the model's router would.

Logits are floats before any score function: ``.npy`` [MoE layers, tokens, experts], or ``.npz`` or ``.pt`` with an
array [tokens, experts] or [batch, sequence, experts] per MoE layer, in order. Tokens of several sequences are in one
axis, one sequence after another, [batch * sequence]. A mask [batch, sequence] (1 for a token, 0 for padding) or the
length of each sequence separates them. They are in the same file or in a ``<name>.json`` beside it, as attention_mask
or lengths; lengths may also be given as an option. With lengths only, padding is at the end of a sequence. Each
sequence is a request, all of it prefill.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.models.router import Router
from wss.models.routers import router_of
from wss.reading import read_plain
from wss.traces.importers.arrays import load_arrays
from wss.traces.importers.batches import batch_of, in_order, sequences_of
from wss.traces.importers.pt import load_pt
from wss.traces.importers.source import Hints, Read, Source, file_number, first_good, found_files, meta_of, routing_of
from wss.traces.schema import TraceMeta

Array = npt.NDArray[Any]
ONE_REQUEST = "files without a mask or lengths, all rows taken for one request without padding"
PADDED = "rows of padding left out"
UNKNOWN = (
    "the router of this model is not known: the top k of the logits taken, which is right for a softmax without groups "
    "and bias; else give --score, --groups, --topk-groups and --bias"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Choice:
    """How experts are chosen: the router, its bias [layers, experts] and the lengths given as an option."""

    router: Router
    top_k: int
    bias: npt.NDArray[np.float64] | None
    lengths: tuple[int, ...] | None


def open_logits(path: Path, hints: Hints) -> Source:
    """Open router logits of HF transformers.

    Raises
    ------
    TraceError
        If top-k or a parameter of the model's router is unknown, or the arrays are not logits.
    """
    files = found_files(path, (".npy", ".npz", ".pt"), "router logits (.npy, .npz or .pt)")
    if hints.router.bias is not None:
        files = tuple(file for file in files if file.absolute() != hints.router.bias.absolute()) or files
    top_k = hints.top_k or (hints.model.top_k if hints.model else None)
    if top_k is None:
        raise TraceError(f"{path}: does not state how many experts a token uses; give --model, or --top-k")
    layers, _, experts = first_good(files, lambda file: batch_of(file)[0]).shape
    if not 1 <= top_k <= experts:
        raise TraceError(f"{path}: has logits of {experts} experts; --top-k {top_k} is not within 1..{experts}")
    router, note = _router(path, hints)
    if hints.router.lengths is not None and len(files) > 1:
        raise TraceError(f"{path}: holds {len(files)} files; --lengths is of one, put the lengths beside each")
    bias = None if hints.router.bias is None else _bias(hints.router.bias, layers, experts)
    choice = _Choice(router=router, top_k=top_k, bias=bias, lengths=hints.router.lengths)
    try:
        router.choose(np.zeros((1, 1, experts)), top_k)
    except ValueError as error:
        raise TraceError(f"{path}: {error}") from None
    meta = meta_of(
        hints,
        layers=tuple(range(layers)),
        num_layers=layers,
        num_experts=experts - hints.zero,
        top_k=top_k,
        source=f"router logits of HF transformers: {path.name}",
        note=f"a sequence a request, all prefill; {note}, of equal ones the lower expert",
        path=path,
    )
    digest = "" if bias is None else hashlib.sha256(bias.tobytes()).hexdigest()
    return Source(
        files=files,
        meta=meta,
        read=partial(_read_logits, meta=meta, choice=choice),
        settings=f"{router} {hints.router.lengths} {digest}",
        warnings=(UNKNOWN,) if note == UNKNOWN else (),
    )


def _router(path: Path, hints: Hints) -> tuple[Router, str]:
    """Return the router and its description: the user's options, completed from the model."""
    said = hints.router
    known = router_of(hints.model) if hints.model is not None else None
    base = known or Router(score="softmax")
    groups = said.groups or base.groups
    of_model = hints.model.expert_groups if hints.model is not None else 1
    named = hints.model.name if hints.model is not None else "this model"
    if known is None and said.groups is None and of_model > 1 and hints.model is not None:
        raise TraceError(
            f"{path}: {hints.model.name} has {of_model} groups of experts; give --groups and --topk-groups"
        )
    if said.topk_groups is None and said.groups is not None and said.groups != base.groups and said.groups > 1:
        raise TraceError(f"{path}: --groups {said.groups} needs --topk-groups, how many of them a token may use")
    limit = said.topk_groups or (base.topk_groups if groups == base.groups else 1)
    if base.needs_bias and said.bias is None and hints.model is not None:
        raise TraceError(
            f"{path}: the router of {hints.model.name} adds a correction bias to its scores, which logits do not hold; "
            "give --bias FILE with e_score_correction_bias of each MoE layer, [layers, experts]"
        )
    if said.bias is not None and said.score is None and known is None:
        raise TraceError(f"{path}: --bias is added to scores; say which with --score sigmoid or --score softmax")
    if groups > 1 and said.score is None and known is None:
        raise TraceError(f"{path}: groups are ranked by scores; say which with --score sigmoid or --score softmax")
    if limit is None:
        raise TraceError(
            f"{path}: the router of {named} has {groups} groups; give --topk-groups, how many a token may use"
        )
    if said.score is None and base.score is None and (said.bias is not None or limit < groups):
        what = "computes scores from logits by a rule that is not supported"
        raise TraceError(f"{path}: the router of {named} {what}; give --score sigmoid or --score softmax if it is one")
    try:
        router = Router(score=said.score or base.score, groups=groups, topk_groups=limit, needs_bias=base.needs_bias)
    except ValueError as error:
        raise TraceError(f"{path}: {error}") from None
    if known is None and not set(said.named()) - {"--lengths"}:
        return router, UNKNOWN
    scores = f"{router.score} scores" if router.score else "the logits"
    what = f"the top k of {scores}" + (" with a correction bias" if said.bias is not None else "")
    return router, what + (f", within {limit} of {groups} groups" if limit < groups else "")


def _bias(path: Path, layers: int, experts: int) -> npt.NDArray[np.float64]:
    """Read a correction bias, [layers, experts]: one array, or one per layer, in order or with its index as name."""
    content: dict[str, Array] = {}
    if path.suffix == ".json":
        try:
            content = {"": np.array(msgspec.json.decode(read_plain(path)), np.float64)}
        except (OSError, RecursionError, ValueError, TypeError, msgspec.DecodeError) as error:
            raise TraceError(f"{path}: is no JSON list of numbers ({' '.join(str(error).split())[:200]})") from error
    elif path.suffix == ".pt" and isinstance(loaded := load_pt(path), dict):
        content = {str(name): value for name, value in loaded.items() if isinstance(value, np.ndarray)}
    else:
        content = load_arrays(path)
    arrays = in_order(path, content)
    right = f"give numbers [{layers}, {experts}], a row for each MoE layer"
    if not arrays or any(array.shape != arrays[0].shape or array.dtype.kind not in "fiu" for array in arrays):
        raise TraceError(f"{path}: holds no bias of each layer; {right}")
    bias = arrays[0] if len(arrays) == 1 else np.stack(arrays)
    bias = bias.astype(np.float64).reshape(1, -1) if bias.ndim == 1 else bias.astype(np.float64)
    if bias.shape != (layers, experts) or not np.isfinite(bias).all():
        raise TraceError(f"{path}: has a bias {list(bias.shape)}, or a value that is not finite; {right}")
    return bias


def _read_logits(path: Path, meta: TraceMeta, choice: _Choice) -> Read:
    logits, beside, shape = batch_of(path)
    tokens = logits.shape[1]
    if (logits.shape[0], logits.shape[2]) != (len(meta.moe_layers), meta.num_choices):
        raise TraceError(
            f"{path}: has logits of {logits.shape[0]} layers and {logits.shape[2]} experts; the trace has "
            f"{len(meta.moe_layers)} and {meta.num_choices}"
        )
    there = sequences_of(path, tokens, beside, shape, choice.lengths)
    remarks = [ONE_REQUEST] if there is None else []
    mask = np.ones((1, tokens), np.bool_) if there is None else there
    is_padded = mask.size == tokens
    kept = logits[:, mask.ravel()] if is_padded else logits
    if not np.isfinite(kept).all():
        layer, token, expert = np.argwhere(~np.isfinite(kept))[0]
        what = f"layer {layer}, token {token}, expert {expert}: a logit is not finite"
        raise TraceError(f"{path}: {what}; record it anew")
    top = choice.router.choose(kept, choice.top_k, choice.bias).transpose(1, 0, 2)
    ends = np.cumsum(mask.sum(axis=1))
    number = file_number(path)
    requests = [
        routing_of(number + place, int(end - start), top[start:end])
        for place, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
        if end > start
    ]
    if not requests:
        raise TraceError(f"{path}: its mask leaves no token; give 1 where a token is")
    return Read(requests, [*remarks, *[PADDED] * (tokens - len(kept[0]))])
