"""Export of a trace to the paper's JSON data set: one file per request, as `importers.paper_json` reads them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np

from wss.errors import OutputError, TraceError
from wss.files import part_in, settle
from wss.traces.importers.paper_json import MARK
from wss.traces.load_history import workload_of
from wss.traces.reader import TraceReader
from wss.traces.schema import RequestRouting, TraceMeta


def export_paper_json(reader: TraceReader, out: Path) -> int:
    """Write ``<org>/<model>/<benchmark>/<subject>/<n>.json`` below the new folder *out*; return the number of files.

    The text matches the data set: indented by four spaces, no final newline. Synthetic requests have a file SYNTHETIC
    beside them, so that an import recognises them.

    Raises
    ------
    TraceError
        If a request has no prefill, which is the first element of a file.
    OutputError
        If *out* exists or cannot be written; nothing is left behind.
    """
    if os.path.lexists(out):
        raise OutputError(f"{out}: exists; give --out a new folder")
    try:
        with part_in(out.parent, is_folder=True) as folder:
            count = _write(reader, folder)
            settle(folder, out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); give --out where there is room") from error
    return count


def _write(reader: TraceReader, out: Path) -> int:
    """Write the files below the folder *out*, and return the number of requests."""
    meta = reader.meta
    count = 0
    for request in reader.requests():
        if not request.num_prefill > 0:
            raise TraceError(
                f"{reader.path}: request {request.request} has no prefill; a file of the set begins with it"
            )
        workload = workload_of(meta, request.request)
        names = (*meta.model.split("/"), workload.benchmark, workload.subject)
        folder = out.joinpath(*map(_safe, names))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{request.request}.json").write_text(as_json(request, meta), encoding="utf-8")
        count += 1
    if meta.synthetic:
        (out / MARK).write_text(f"{meta.source}\n{meta.note}\n", encoding="utf-8")
    return count


def _safe(name: str) -> str:
    """Return *name* as a folder name."""
    plain = name.replace("/", "_").replace("\0", "_")
    return plain if plain.strip(".") and plain != "*" else "all"


def as_json(request: RequestRouting, meta: TraceMeta) -> str:
    """Return the text of a request's file."""
    steps = np.split(request.experts, range(request.num_prefill, len(request.position)))
    index = {layer: at for at, layer in enumerate(meta.moe_layers)}
    elements = [
        {str(layer): step[:, index[layer]].tolist() if layer in index else None for layer in range(meta.num_layers)}
        for step in steps
    ]
    return msgspec.json.format(msgspec.json.encode(elements), indent=4).decode()
