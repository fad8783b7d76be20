"""``wss.open_trace`` and ``wss.write_trace``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wss.api.settings import path_of
from wss.config.models import model_of
from wss.errors import ConfigError, OutputError, TraceError
from wss.models import ModelShape
from wss.traces import RequestRouting, TraceMeta, TraceReader
from wss.traces import write_trace as write_requests
from wss.traces.reader import is_written
from wss.traces.schema import MAX_EXPERTS


def open_trace(path: str | PathLike[str]) -> TraceReader:
    """Open a routing trace for reading; use it in a ``with`` statement.

    Returns
    -------
    TraceReader
        ``meta`` has the model, its MoE layers and top-k; ``num_rows`` is the number of tokens. ``requests()`` yields
        the requests one by one: ``experts``, int16 [tokens, MoE layers, top_k]; ``position``, int32 [tokens]; and
        ``num_prefill``, the number of prompt tokens, which come first.

    Raises
    ------
    TraceError
        If there is no such file, or it is not a routing trace.

    Examples
    --------
    >>> with wss.open_trace("my.parquet") as trace:  # doctest: +SKIP
    ...     for request in trace.requests(limit=2):
    ...         print(request.experts.shape, request.num_prefill)
    """
    return TraceReader(path_of(path, "open_trace"))


def write_trace(
    path: str | PathLike[str],
    experts: Iterable[npt.ArrayLike],
    prompt_lengths: Iterable[int],
    *,
    model: str | ModelShape,
    source: str,
    note: str = "",
    force: bool = False,
) -> Path:
    """Write recorded routing as a trace, and return its path.

    Parameters
    ----------
    path
        The file to write (Parquet).
    experts
        For each request, the expert ids of its tokens, whole numbers [tokens, MoE layers, top_k]: prompt tokens first,
        then generated ones, all in order; the layers ascending, without dense ones. May be a generator.
    prompt_lengths
        For each request, how many of its tokens are prompt tokens (prefill).
    model
        The model: a preset's name, the path of a config.json, or a `ModelShape`.
    source, note
        Where the routing is from, and a remark; both are printed with results.
    force
        Replace a trace that exists.

    Raises
    ------
    TraceError
        If a request does not fit the model; the message names it.
    OutputError
        If the file exists, or cannot be written; nothing is left behind.
    """
    out = path_of(path, "write_trace")
    _check_free(out, force)
    shape = model if isinstance(model, ModelShape) else model_of(_text(model, "model"), "model: ")
    meta = TraceMeta(
        model=shape.name,
        benchmark="",
        subject="",
        moe_layers=shape.moe_layers,
        num_layers=shape.num_layers,
        num_experts=shape.num_experts,
        zero_experts=shape.zero_experts,
        top_k=shape.top_k,
        num_requests=0,
        source=_text(source, "source"),
        note=_text(note, "note"),
    )
    write_requests(out, meta, _requests(out, experts, prompt_lengths))
    return out


def _check_free(out: Path, force: bool) -> None:
    """Check that *out* may be written. Raises OutputError."""
    if not os.path.lexists(out) or out.is_dir():
        return  # a folder is reported when it is written
    if not force:
        raise OutputError(f"{out}: exists; give another path, or force=True to replace it")
    if out.is_symlink() or not out.is_file() or not is_written(out):
        raise OutputError(f"{out}: is not a trace that wss wrote, so force=True does not replace it; give another path")


def _text(value: Any, what: str) -> str:
    if isinstance(value, str | PathLike) and os.fspath(value).isprintable():
        return os.fspath(value)
    raise ConfigError(f"{what}: {value!r:.60} is not right; give plain text")


def _requests(out: Path, experts: Iterable[npt.ArrayLike], prompt_lengths: Iterable[int]) -> Iterator[RequestRouting]:
    """Yield the requests, numbered from 0. Raises TraceError if one is no array, or has no length."""
    try:
        lengths = iter(prompt_lengths)
        arrays = iter(experts)
    except TypeError:
        what = "experts and prompt_lengths must be lists with an item for each request"
        raise TraceError(f"{out}: {what}") from None
    for number, item in enumerate(arrays):
        array, length = _array(out, number, item), next(lengths, None)
        if isinstance(length, bool) or not isinstance(length, int | np.integer):
            right = "give prompt_lengths a whole number for each request"
            raise TraceError(f"{out}: request {number}: its prompt length is {length!r:.60}; {right}")
        position = np.arange(len(array), dtype=np.int32)
        yield RequestRouting(request=number, position=position, num_prefill=int(length), experts=array)
    if next(lengths, None) is not None:
        raise TraceError(f"{out}: there are more prompt_lengths than requests; give one for each")


def _array(out: Path, number: int, item: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return the experts of a request as an array, int16 if they fit; others are refused when they are written."""
    try:
        array = np.asarray(item)
    except (ValueError, TypeError):
        array = np.empty(0)
    if array.ndim != 3 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        found = f"{array.dtype} {list(array.shape)}"
        right = "give whole numbers [tokens, MoE layers, top_k]"
        raise TraceError(f"{out}: request {number}: its experts are {found}; {right}")
    fits = array.min() >= 0 and array.max() <= MAX_EXPERTS
    return array.astype(np.int16) if fits else array.astype(np.int64)
