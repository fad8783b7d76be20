"""Routing in numpy or torch arrays, a request a file: vLLM's routed experts, and router logits of HF transformers.

vLLM: ``.npy``, whole numbers [tokens, layers, k], where layers are all layers (dense ones zero) or MoE layers alone; or
``.npz`` with ``prompt_routed_experts`` and ``routed_experts``. In one array the first so many rows are prefill as a
``<name>.json`` beside it says (``prompt_tokens`` or ``input_tokens``); without it all rows are taken for decode.

Logits: floats before softmax, ``.npy`` [MoE layers, tokens, experts], or ``.npz`` or ``.pt`` with an array [tokens,
experts] a MoE layer, in order. The top k are taken here, of equal logits the lower expert; all tokens are prefill.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.records import IntArray
from wss.traces.importers.pt import load_pt
from wss.traces.importers.source import Hints, Read, Source, file_number, first_good, found_files, meta_of, routing_of
from wss.traces.schema import TraceMeta, fault_of

Array = npt.NDArray[Any]
ALL_DECODE = "requests whose prompt length is not told, all rows taken for decode"


def load_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of a ``.npy`` (one, named ""), ``.npz`` or ``.pt`` file in order; never runs code from it.

    Raises
    ------
    TraceError
        If it cannot be read.
    """
    if path.suffix == ".pt":
        content = load_pt(path)
        if isinstance(content, dict) and "router_logits" in content:
            content = content["router_logits"]
        items = content if isinstance(content, list | tuple) else [content]
        if not items or not all(isinstance(item, np.ndarray) for item in items):
            raise TraceError(f"{path}: holds no tensors; save the tuple out.router_logits")
        return {str(i): item for i, item in enumerate(items)}
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error}); give a readable file") from error
    except Exception as error:  # numpy's reader raises many kinds on damage
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise TraceError(f"{path}: is not a whole numpy file ({what}); save it with numpy") from None


def open_vllm(path: Path, hints: Hints) -> Source:
    """Open vLLM's routed experts.

    Raises
    ------
    TraceError
        If the shape of the model is not known, or the arrays do not fit it.
    """
    files = found_files(path, (".npy", ".npz"), "vLLM's routed experts (.npy or .npz)")
    if hints.experts is None:
        raise TraceError(f"{path}: does not say how many experts there are; give --model, or --experts")
    rows, _ = first_good(files, _vllm_rows)
    axis, top_k = rows.shape[1:]
    layers, num_layers = tuple(range(axis)), axis
    if hints.moe_layers is not None and len(hints.moe_layers) != axis and hints.moe_layers[-1] < axis:
        layers = hints.moe_layers
    elif hints.model is not None and axis == hints.model.num_layers:
        layers = hints.model.moe_layers
    meta = meta_of(
        hints,
        layers=layers,
        num_layers=num_layers,
        num_experts=hints.experts,
        top_k=top_k,
        source=f"vLLM routed experts: {path.name}",
        note="a request a file; the last sampled token has no row",
        path=path,
    )
    return Source(files=files, meta=meta, read=partial(_read_vllm, meta=meta))


def _vllm_rows(path: Path) -> tuple[IntArray, int | None]:
    """Return the rows [tokens, layers, k] of a request and how many are prefill, None if that is not told."""
    arrays = load_arrays(path)
    if "routed_experts" in arrays:
        prompt, rest = arrays.get("prompt_routed_experts"), arrays["routed_experts"]
    elif len(arrays) == 1:
        prompt, rest = None, next(iter(arrays.values()))
    else:
        raise TraceError(f"{path}: holds {', '.join(arrays)}; it should hold prompt_routed_experts and routed_experts")
    for part in (prompt, rest):
        if part is not None and (part.ndim != 3 or not np.issubdtype(part.dtype, np.integer) or 0 in part.shape[1:]):
            what = f"holds {part.dtype} {list(part.shape)}; it should be whole numbers [tokens, layers, k]"
            raise TraceError(f"{path}: {what}")
    if prompt is None:
        return rest.astype(np.int64), _told_prompt(path, len(rest))
    if prompt.shape[1:] != rest.shape[1:]:
        raise TraceError(
            f"{path}: prompt and rest have shapes {prompt.shape} and {rest.shape}; layers and k must agree"
        )
    return np.concatenate([prompt, rest]).astype(np.int64), len(prompt)


def _told_prompt(path: Path, rows: int) -> int | None:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return None
    try:
        content = msgspec.json.decode(beside.read_bytes(), type=dict[str, Any])
    except (OSError, RecursionError, msgspec.DecodeError) as error:
        raise TraceError(
            f"{beside}: is not readable JSON ({' '.join(str(error).split())}); mend or remove it"
        ) from error
    told = content.get("prompt_tokens", content.get("input_tokens"))
    if told is None:
        return None
    if not isinstance(told, int) or isinstance(told, bool) or not 0 <= told <= rows:
        raise TraceError(f"{beside}: says the prompt has {told!r} tokens; the file has {rows} rows")
    return told


def _read_vllm(path: Path, meta: TraceMeta) -> Read:
    rows, num_prefill = _vllm_rows(path)
    if rows.shape[1] == meta.num_layers:
        rows = rows[:, list(meta.moe_layers)]
    return _checked(path, num_prefill or 0, rows, meta, [] if num_prefill is not None else [ALL_DECODE])


def open_logits(path: Path, hints: Hints) -> Source:
    """Open router logits of HF transformers.

    Raises
    ------
    TraceError
        If top-k is not known, or the arrays are no logits.
    """
    files = found_files(path, (".npy", ".npz", ".pt"), "router logits (.npy, .npz or .pt)")
    top_k = hints.top_k or (hints.model.top_k if hints.model else None)
    if top_k is None:
        raise TraceError(f"{path}: does not say how many experts a token uses; give --model, or --top-k")
    layers, _, experts = first_good(files, _logits).shape
    if not 1 <= top_k <= experts:
        raise TraceError(f"{path}: has logits of {experts} experts; --top-k {top_k} is not within 1..{experts}")
    meta = meta_of(
        hints,
        layers=tuple(range(layers)),
        num_layers=layers,
        num_experts=experts,
        top_k=top_k,
        source=f"router logits of HF transformers: {path.name}",
        note="a request a file; the top k of the logits, of equal ones the lower expert; one forward pass, all prefill",
        path=path,
    )
    return Source(files=files, meta=meta, read=partial(_read_logits, meta=meta))


def _logits(path: Path) -> Array:
    """Return logits [MoE layers, tokens, experts]."""
    arrays = list(load_arrays(path).values())
    if len(arrays) == 1 and arrays[0].ndim == 3:
        logits = arrays[0]
    elif arrays and all(array.ndim == 2 and array.shape == arrays[0].shape for array in arrays):
        logits = np.stack(arrays)
    else:
        shapes = ", ".join(dict.fromkeys(str(list(array.shape)) for array in arrays))[:200]
        raise TraceError(
            f"{path}: holds arrays of shapes {shapes}; give [tokens, experts] of each MoE layer, all alike"
        )
    if not np.issubdtype(logits.dtype, np.floating) or 0 in logits.shape:
        raise TraceError(f"{path}: holds {logits.dtype} {list(logits.shape)}; logits are floating-point and not empty")
    if not np.isfinite(logits).all():
        layer, token, expert = np.argwhere(~np.isfinite(logits))[0]
        raise TraceError(
            f"{path}: layer {layer}, token {token}, expert {expert}: a logit is not finite; record it anew"
        )
    return logits


def _read_logits(path: Path, meta: TraceMeta) -> Read:
    logits = _logits(path)
    if logits.shape[0] != len(meta.moe_layers) or logits.shape[2] > meta.num_experts:
        raise TraceError(
            f"{path}: has logits of {logits.shape[0]} layers and {logits.shape[2]} experts; the trace has "
            f"{len(meta.moe_layers)} and {meta.num_experts}"
        )
    top = np.argsort(-logits, axis=2, kind="stable")[:, :, : meta.top_k].transpose(1, 0, 2)
    return _checked(path, len(top), top, meta, [])


def _checked(path: Path, num_prefill: int, rows: IntArray, meta: TraceMeta, remarks: list[str]) -> Read:
    routing = routing_of(file_number(path), num_prefill, rows)
    if fault := fault_of(routing, meta):
        raise TraceError(f"{path}: {fault}")
    return Read([routing], remarks)
