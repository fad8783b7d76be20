"""vLLM's routed experts, one request per file; and reading arrays of numpy and torch.

``.npy``: integers [tokens, layers, k], where layers are all layers (dense ones filled with one id) or only the MoE
layers; or ``.npz`` with ``prompt_routed_experts`` and ``routed_experts``. For a single array, a ``<name>.json`` beside
it gives the number of prefill rows, which come first (``prompt_tokens``, ``prompt_len`` and the like: `PROMPTS`).
Without it all rows count as decode.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.reading import read_plain
from wss.records import IntArray
from wss.traces.importers.filler import check_dense
from wss.traces.importers.pt import load_pt
from wss.traces.importers.source import (
    Hints,
    Read,
    Source,
    file_number,
    first_good,
    found_files,
    meta_of,
    moe_rows,
    routing_of,
)
from wss.traces.importers.unpacked import load_numpy
from wss.traces.schema import TraceMeta

Array = npt.NDArray[Any]
PROMPTS = (
    *("prompt_tokens", "input_tokens", "num_prompt_tokens", "num_input_tokens"),
    *("prompt_len", "prompt_length", "input_len", "input_length"),
)
ALL_DECODE = "requests without a stated prompt length; all their rows count as decode"

_MAY_BE_PROMPT = re.compile("^(?!max|min).*(prompt|input|prefill|context).*(len|tok|num|count)|num_(prompt|prefill)")


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
    return load_numpy(path)


def open_vllm(path: Path, hints: Hints) -> Source:
    """Open vLLM's routed experts.

    Raises
    ------
    TraceError
        If the shape of the model is unknown, or the arrays do not fit it.
    """
    files = found_files(path, (".npy", ".npz"), "vLLM's routed experts (.npy or .npz)")
    if hints.experts is None:
        raise TraceError(f"{path}: does not state the number of experts; give --model, or --experts")
    rows, _ = first_good(files, _vllm_rows)
    axis, top_k = rows.shape[1:]
    chosen, by = moe_rows(hints, axis)
    meta = meta_of(
        hints,
        layers=chosen or tuple(range(axis)),
        num_layers=axis,
        num_experts=hints.experts,
        top_k=top_k,
        source=f"vLLM routed experts: {path.name}",
        note="a request a file; the last sampled token has no row",
        path=path,
    )
    return Source(files=files, meta=meta, read=partial(_read_vllm, meta=meta, dense_by=by))


def _vllm_rows(path: Path) -> tuple[IntArray, int | None]:
    """Return the rows [tokens, layers, k] of a request and the number of prefill rows, None if that is not given."""
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


def json_beside(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return ``<name>.json`` beside *path*, and its content; empty if there is no such file.

    Raises
    ------
    TraceError
        If it cannot be read, or is no JSON object.
    """
    beside = path.with_suffix(".json")
    try:
        return beside, msgspec.json.decode(read_plain(beside), type=dict[str, Any]) if beside.is_file() else {}
    except (OSError, RecursionError, msgspec.DecodeError) as error:
        raise TraceError(
            f"{beside}: is not readable JSON ({' '.join(str(error).split())}); fix or remove it"
        ) from error


def _told_prompt(path: Path, rows: int) -> int | None:
    beside, content = json_beside(path)
    told = {name: content[name] for name in PROMPTS if content.get(name) is not None}
    for name, value in told.items():
        if type(value) is not int or not 0 <= value <= rows:
            raise TraceError(f"{beside}: {name} says the prompt has {value!r} tokens; the file has {rows} rows")
    if len(set(told.values())) > 1:
        said = ", ".join(f"{name} {value}" for name, value in told.items())
        raise TraceError(f"{beside}: says how long the prompt is in several ways: {said}; keep the correct one")
    for name, value in content.items():
        if not told and type(value) is int and _MAY_BE_PROMPT.search(name.lower()):
            what = "is not read, and may say how many tokens the prompt has"
            raise TraceError(f"{beside}: {name} {what}; call it prompt_tokens, or leave it out")
    return next(iter(told.values()), None)


def _read_vllm(path: Path, meta: TraceMeta, dense_by: str) -> Read:
    """Read a request; *dense_by* is the source of the dense layers if all layers are recorded, else empty."""
    rows, num_prefill = _vllm_rows(path)
    if dense_by and rows.shape[1] == meta.num_layers:
        check_dense(path, rows, meta.moe_layers, dense_by)
        rows = rows[:, list(meta.moe_layers)]
    routing = routing_of(file_number(path), num_prefill or 0, rows)
    return Read([routing], [ALL_DECODE] if num_prefill is None else [])
