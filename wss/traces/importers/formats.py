"""The formats of recorded routing by name, and their detection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from wss.errors import TraceError, did_you_mean
from wss.models import ModelShape
from wss.reading import open_plain
from wss.traces.importers.arrays import load_arrays, open_vllm
from wss.traces.importers.logits import open_logits
from wss.traces.importers.paper_json import open_paper_json
from wss.traces.importers.sglang import open_sglang
from wss.traces.importers.source import Hints, Source, visible
from wss.traces.importers.tables import KINDS, open_table

BEGINNING = 4096  # bytes of a file used for detection


FORMATS: dict[str, Callable[[Path, Hints], Source]] = {
    # the paper's data set: <n>.json below <org>/<model>/<benchmark>/<subject>/
    "paper": lambda path, hints: open_paper_json(path, _only_model(path, hints)),
    "sglang": open_sglang,  # SGLang's expert distribution recorder, per_token (.pt)
    "vllm": open_vllm,  # vLLM's routed experts (.npy, .npz)
    "logits": open_logits,  # router logits of HF transformers (.npy, .npz, .pt)
    **{kind: partial(open_table, kind) for kind in KINDS},
}


def _only_model(path: Path, hints: Hints) -> ModelShape | None:
    """Return the model of *hints*; the paper's files need no other hint."""
    if hints.num_experts or hints.top_k or hints.moe_layers or hints.zero_experts is not None:
        what = "--experts, --zero-experts, --top-k and --moe-layers do not go with the paper's format"
        raise TraceError(f"{path}: {what}; give --model")
    return hints.model


def open_source(path: Path, kind: str | None = None, hints: Hints | None = None) -> Source:
    """Open recorded routing of the format *kind*, by default of the detected one.

    Raises
    ------
    TraceError
        If there is no such file or format, or none is detected.
    """
    kind = kind or detect(path)
    if kind not in FORMATS:
        raise TraceError(f"--format {kind}: is not a known format; {did_you_mean(kind, FORMATS)}")
    hints = hints or Hints()
    if kind != "logits" and (given := hints.router.named()):
        raise TraceError(f"{path}: {', '.join(given)}: for router logits alone; this is read as {kind}")
    if kind != "jsonl" and hints.drop_warmup:
        raise TraceError(f"{path}: --drop-warmup: for route logs (jsonl) alone; this is read as {kind}")
    return FORMATS[kind](path, hints)


def detect(path: Path) -> str:
    """Return the format of a file, or of the first file of a folder.

    Raises
    ------
    TraceError
        If none is detected.
    """
    if not path.exists():
        raise TraceError(f"{path}: there is no such file or folder; give recorded routing")
    suffixes = (".json", ".pt", ".npy", ".npz", ".csv", ".tsv", ".jsonl")
    files = [path] if path.is_file() else sorted(f for f in visible(path) if f.suffix in suffixes)
    known = {f.suffix for f in files} & set(suffixes)
    if path.is_file() and not known:
        raise TraceError(f"{path}: is of no known format; give `wss trace import` its --format: {', '.join(FORMATS)}")
    if len(known - {".json"}) > 1 and not known <= {".npy", ".npz", ".json"}:
        there = ", ".join(sorted(known))
        right = "give `wss trace import` its --format, or a folder of one"
        raise TraceError(f"{path}: holds files of several formats ({there}); {right}")
    # a vLLM array may have a JSON file beside it
    first = next((f for f in files if f.suffix in (".npy", ".npz")), files[0] if files else None)
    if first is None:
        return "paper"  # whose error names what is missing
    if path.suffix == ".parquet":
        raise TraceError(
            f"{path}: is Parquet; a trace needs no import, and no known recorder writes other Parquet files"
        )
    if first.suffix in (".csv", ".tsv", ".jsonl"):
        return "jsonl" if first.suffix == ".jsonl" else "csv"
    if first.suffix == ".pt":
        return "sglang" if b"records" in _beginning(first) else "logits"
    if first.suffix in (".npy", ".npz"):
        arrays = load_arrays(first)
        return "logits" if any(array.dtype.kind == "f" for array in arrays.values()) else "vllm"
    return "fingerprints" if b'"router_data"' in _beginning(first) else "paper"


def _beginning(path: Path) -> bytes:
    try:
        with open_plain(path) as file:
            return file.read(BEGINNING)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
