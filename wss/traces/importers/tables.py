"""Routing written down as text: gpt-oss fingerprints (JSON), moe-beyond tables (CSV), and route logs (JSON lines).

* fingerprints: ``{"router_data": [{"token_<position>": {"layer_<l>": {"selected_experts": [ids], ...}}}, ...]}``, one
  request a file, or a list of such objects; decode only;
* CSV: columns ``Layer ID``, ``Batch Number``, ``Token``, ``Activated Expert IDs`` (a JSON list), rows layer by layer; a
  batch is a request, its tokens in order; prefill only;
* JSON lines: ``{"type": "route", "req_id", "token_idx", "layer", "topk_ids"}`` a line, other types left alone. A
  thousand or more equal rows at the beginning are the serving system's warm-up and are dropped.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from wss.errors import TraceError
from wss.traces.importers.source import Hints, Read, Source, first_good, found_files, meta_of, routing_of
from wss.traces.schema import LARGEST_NUMBER, RequestRouting, TraceMeta, fault_of

Routes = dict[Any, dict[int, dict[int, list[int]]]]  # request -> position -> layer -> experts
WARM_UP = 1000
WARMED = "rows of a warm-up at the beginning dropped"
_JSON = msgspec.json.Decoder()
CSV_COLUMNS = ("Layer ID", "Batch Number", "Token", "Activated Expert IDs")


class _BadError(Exception):
    """What is wrong with a file, without its name."""


def open_fingerprints(path: Path, hints: Hints) -> Source:
    """Open gpt-oss fingerprints."""
    return _open(path, hints, (".json",), "fingerprints", "decode tokens only; position is the place in the sequence")


def open_csv(path: Path, hints: Hints) -> Source:
    """Open moe-beyond tables."""
    return _open(path, hints, (".csv",), "csv", "one forward pass a prompt: prefill only")


def open_jsonl(path: Path, hints: Hints) -> Source:
    """Open route logs."""
    return _open(path, hints, (".jsonl",), "jsonl", "which tokens are prefill is not told: all taken for decode")


def _open(path: Path, hints: Hints, endings: tuple[str, ...], kind: str, note: str) -> Source:
    files = found_files(path, endings, f"{kind} ({', '.join(endings)})")
    routes, _ = first_good(files, lambda file: _routes(file, kind))
    some = [experts for tokens in routes.values() for layers in tokens.values() for experts in layers.values()]
    layers = sorted({layer for tokens in routes.values() for at in tokens.values() for layer in at})
    if hints.experts is None:
        raise TraceError(f"{path}: does not say how many experts there are; give --model, or --experts")
    meta = meta_of(
        hints,
        layers=tuple(layers),
        num_layers=layers[-1] + 1,
        num_experts=hints.experts,
        top_k=len(some[0]),
        source=f"{SOURCES[kind]}: {path.name}",
        note=note,
        path=path,
    )
    return Source(files=files, meta=meta, read=partial(read_file, kind=kind, meta=meta, layers=tuple(layers)))


def read_file(path: Path, kind: str, meta: TraceMeta, layers: tuple[int, ...]) -> Read:
    """Read the requests of one file.

    Raises
    ------
    TraceError
        If the file is damaged, or a token lacks a layer.
    """
    routes, remarks = _routes(path, kind)
    requests: list[RequestRouting] = []
    for name, tokens in routes.items():
        places = sorted(tokens)
        rows = np.full((len(places), len(layers), meta.top_k), -1, np.int64)
        for row, place in enumerate(places):
            if extra := set(tokens[place]) - set(layers):
                raise TraceError(
                    f"{path}: request {name}, position {place}: has a layer {min(extra)} unlike the others"
                )
            for at, layer in enumerate(layers):
                experts = tokens[place].get(layer)
                if experts is None or len(experts) != meta.top_k:
                    what = "is missing" if experts is None else f"has experts {experts}"
                    raise TraceError(
                        f"{path}: request {name}, position {place}, layer {layer}: {what}; give {meta.top_k} ids"
                    )
                rows[row, at] = experts
        number = name if isinstance(name, int) and 0 <= name <= LARGEST_NUMBER else len(requests)
        routing = routing_of(number, len(rows) if kind == "csv" else 0, rows, np.array(places))
        if fault := fault_of(routing, meta):
            raise TraceError(f"{path}: {fault}")
        requests.append(routing)
    return Read(requests, remarks)


def _routes(path: Path, kind: str) -> tuple[Routes, list[str]]:
    """Read a file of *kind* into request -> position -> layer -> experts."""
    routes: Routes = {}
    remarks: list[str] = []
    try:
        for request, position, layer, experts in READERS[kind](path, remarks):
            _check(request, position, layer, experts)
            token = routes.setdefault(request, {}).setdefault(position, {})
            if layer in token:
                raise _BadError(f"request {request}, position {position}, layer {layer} is there twice; keep one")
            token[layer] = experts
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
    except (_BadError, RecursionError, msgspec.DecodeError, UnicodeDecodeError, csv.Error) as error:
        right = "; give a whole file" if not isinstance(error, _BadError) else ""
        raise TraceError(f"{path}: {' '.join(str(error).split())[:300]}{right}") from None
    if not routes:
        raise TraceError(f"{path}: holds no routing; see docs/traces.md for what it should hold")
    return routes, remarks


def _check(request: Any, position: Any, layer: Any, experts: Any) -> None:
    for what, value in (("position", position), ("layer", layer)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
            raise _BadError(f"request {request}: {what} {value!r} is not right; it should be a whole number, 0 or more")
    if not isinstance(request, int | str):
        raise _BadError(f"request {request!r} is not right; it should be a number or a name")
    if not isinstance(experts, list) or not experts or not all(type(e) is int and abs(e) < 2**31 for e in experts):
        shown = repr(experts)[:60]
        raise _BadError(f"request {request}, position {position}, layer {layer}: experts {shown}; give a list of ids")


def _fingerprints(path: Path, remarks: list[str]) -> Iterator[tuple[Any, Any, Any, Any]]:
    content = _JSON.decode(path.read_bytes())
    for number, item in enumerate(content if isinstance(content, list) else [content]):
        data = item.get("router_data") if isinstance(item, dict) else None
        if not isinstance(data, list):
            raise _BadError('has no list "router_data"; give a fingerprint file')
        for tokens in data:
            for token, layers in _items(tokens, "router_data"):
                for layer, chosen in _items(layers, token):
                    if not isinstance(chosen, dict) or "selected_experts" not in chosen:
                        raise _BadError(f"{token}, {layer}: has no selected_experts")
                    yield number, _tail(token, "token_"), _tail(layer, "layer_"), chosen["selected_experts"]


def _items(value: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise _BadError(f"{where}: {str(value)[:40]!r} is not right; it should be a mapping")
    return list(value.items())


def _tail(name: str, start: str) -> int:
    digits = name.removeprefix(start)
    if not (name.startswith(start) and digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise _BadError(f"{name[:40]!r} is not right; it should be {start} and a number")
    return int(digits)


def _csv(path: Path, remarks: list[str]) -> Iterator[tuple[Any, Any, Any, Any]]:
    text = path.read_bytes().decode()
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if tuple(reader.fieldnames or ()) != CSV_COLUMNS:
        raise _BadError(f"has columns {reader.fieldnames}; they should be {', '.join(CSV_COLUMNS)}")
    count: dict[tuple[int, int], int] = {}
    for row in reader:
        values = [row[name] for name in CSV_COLUMNS]
        if any(not isinstance(value, str) for value in values) or None in row:
            raise _BadError(f"line {reader.line_num}: has not {len(CSV_COLUMNS)} cells")
        layer, batch, _, experts = values
        numbers = [int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 10 else -1 for cell in (layer, batch)]
        if min(numbers) < 0:
            raise _BadError(f"line {reader.line_num}: layer {layer!r} or batch {batch!r} is no whole number")
        key = (numbers[1], numbers[0])
        position = count[key] = count.get(key, -1) + 1
        yield numbers[1], position, numbers[0], _JSON.decode(experts)


def _jsonl(path: Path, remarks: list[str]) -> Iterator[tuple[Any, Any, Any, Any]]:
    first: dict[Any, Any] = {}
    held: list[tuple[Any, Any, Any, Any]] | None = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                item = _JSON.decode(line)
            except msgspec.DecodeError as error:
                raise _BadError(f"line {number}: {error}; give one JSON object a line") from None
            if not isinstance(item, dict):
                raise _BadError(f"line {number}: is no JSON object")
            if item.get("type") != "route":
                continue
            if missing := [key for key in ("req_id", "token_idx", "layer", "topk_ids") if key not in item]:
                raise _BadError(f"line {number}: has no {', '.join(missing)}")
            row = (item["req_id"], item["token_idx"], item["layer"], item["topk_ids"])
            _check(*row)
            if held is None:
                yield row
                continue
            if first.setdefault(row[2], row[3]) == row[3]:
                held.append(row)
                continue
            yield from _after_warm_up(held, remarks)
            held = None
            yield row
    yield from held or ()


def _after_warm_up(held: list[tuple[Any, Any, Any, Any]], remarks: list[str]) -> list[tuple[Any, Any, Any, Any]]:
    if len(held) < WARM_UP:
        return held
    remarks.extend([WARMED] * len(held))
    return []


READERS = {"fingerprints": _fingerprints, "csv": _csv, "jsonl": _jsonl}
SOURCES = {
    "fingerprints": "gpt-oss expert fingerprints",
    "csv": "moe-beyond expert activations",
    "jsonl": "route log",
}
