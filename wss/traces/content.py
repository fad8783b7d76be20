"""File kinds by content, not by name. Files of another kind are named, with the command that reads them."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wss.errors import TraceError
from wss.files import TwiceError, parse_json
from wss.reading import open_plain, read_plain
from wss.traces.importers.pt import load_pt
from wss.traces.importers.table_rows import TOLD, roles_of
from wss.traces.importers.unpacked import load_numpy
from wss.traces.load_forms import MAP, bare_array, has_bool, is_map

ROUTING = {
    *("records", "topk_ids", "topk_ids_of_layer", "router_data", "routed_experts", "prompt_routed_experts"),
    *("req_id", "router_logits"),
}  # keys of recorded routing
ARRIVALS = "is a trace of requests and holds no routing"
ROUTED = "is recorded routing; import it with `wss trace import`"
LAYOUTS = {
    *(MAP, "logical_to_physical_map", "expert_to_ep_rank", "layer_list", "initial_global_assignments", "model_maps"),
    *("load_balancer", "moe_load_balancer"),
}  # keys of layouts
LAYOUT = (
    "is a layout and holds no loads; name it as placement: {kind: file, path: ...}, "
    "or check it with `wss placement check`"
)
NUMPY = b"\x93NUMPY"
MOST_BYTES = 2**30  # of a file of loads or of a placement

Kind = Literal["parquet", "arrays", "json", "lines", "csv", "text"]


@dataclass(frozen=True)
class Content:
    """The content of a file: Parquet (unread), data of .pt, numpy, JSON or JSON Lines, rows of CSV, or other text."""

    kind: Kind
    value: Any = None


def read_content(path: Path) -> Content:
    """Read *path*; a Parquet file stays unread.

    Raises
    ------
    TraceError
        If it cannot be read, is empty, or is neither text nor of a supported kind.
    """
    try:
        if path.is_dir():
            raise TraceError(f"{path}: {_folder(path)}")
        with open_plain(path, MOST_BYTES) as file:
            beginning = file.read(4)
        if beginning == b"PAR1":
            return Content("parquet")
        if beginning[:2] == b"PK" or beginning == NUMPY[:4]:
            return Content("arrays", _arrays(path, beginning))
        text = read_plain(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise TraceError(f"{path}: is no file; give a file of expert loads or of a layout") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error}); give a readable file") from None
    except UnicodeDecodeError:
        what = "is neither Parquet, .pt, .npy, .npz nor text; give a file of expert loads or of a layout"
        raise TraceError(f"{path}: {what}") from None
    if not text.strip():
        raise TraceError(f"{path}: is empty; give a file of expert loads or of a layout")
    return _text(path, text)


def _folder(path: Path) -> str:
    """Return what the folder contains, and which command reads it."""
    for name, what in (("summary.json", "a run"), ("sweep.json", "a sweep")):
        if (path / name).is_file():
            mend = "see them with `wss report`, and give a file of loads here"
            return f"is a folder with the results of {what} of wss; {mend}"
    if next(path.glob("*.parquet"), None):
        return "is a folder; give one file, a trace or a table of loads"
    return "is a folder; import recorded routing with `wss trace import`, and give the file that it writes"


def _arrays(path: Path, beginning: bytes) -> Any:
    """Return the data of a .pt file, the array of a .npy file, or those of a .npz file by name, one alone as is."""
    try:
        with open_plain(path) as file, zipfile.ZipFile(file) as archive:
            is_numpy = any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        is_numpy = beginning == NUMPY[:4]
    if not is_numpy:
        return load_pt(path)
    found = load_numpy(path)
    return next(iter(found.values())) if [*found] in ([""], ["arr_0"]) else found


def _text(path: Path, text: str) -> Content:
    """Return the content of a text file."""
    if text.lstrip()[0] not in "{[":
        first = next((line for line in text.lstrip().splitlines() if not line.startswith("#")), "")
        is_table = path.suffix in (".csv", ".tsv") or any(mark in first for mark in ",;\t")
        try:
            return Content("csv", _rows(text, first)) if is_table and ":" not in first else Content("text", text)
        except csv.Error as error:
            raise TraceError(f"{path}: is not a table ({error}); give a file of expert loads or of a layout") from None
    try:
        return Content("json", parse_json(text))
    except TwiceError as error:
        raise TraceError(f"{path}: {error}") from None
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            if len(lines) > 1:
                return Content("lines", [parse_json(line) for line in lines[:1000]])
        except ValueError:
            pass
        what = " ".join(str(error).split())[:200]
        raise TraceError(f"{path}: is no JSON ({what}); give a file of expert loads or of a layout") from None


def _rows(text: str, first: str) -> list[list[str]]:
    """Return the rows of a table, cells stripped; the separator is the most frequent one in the header."""
    mark = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=mark)
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def other_kind(content: Content) -> str | None:
    """Return what *content* is and which command reads it, if another command does; None if unknown.

    Lines and lists are judged by their elements: a log may begin with a line about itself.
    """
    value = content.value
    if content.kind == "csv":
        head = {cell.lower() for cell in value[0]}
        if head & {"timestamp", "contexttokens", "arrival_time", "input_length", "num_prefill_tokens"}:
            return ARRIVALS
        if head & {"expert_ids", "topk_ids", "experts", "selected_experts", "activated expert ids"} or head == {
            "layer",
            "expert",
        }:
            return ROUTED
        return None
    several = value if isinstance(value, list | tuple) else [value]
    known = dict.fromkeys(what for one in several if (what := _known(one)))
    return ROUTED if ROUTED in known else next(iter(known), None)


def is_layout(content: Content) -> bool:
    """Whether *content* is a placement: by its keys, or a bare map in which each layer has each expert."""
    value = content.value
    if content.kind == "text":
        found = re.findall(r"^\s*(\w+)\s*:", value, re.MULTILINE)
        return bool(LAYOUTS & {*found})
    if isinstance(value, dict):
        config = value.get("moe_config")
        return bool(LAYOUTS & {*value, *(config if isinstance(config, dict) else ())})
    try:
        bare = bare_array(value)
        if bare is None and content.kind == "json" and isinstance(value, list) and not has_bool(value):
            bare = np.array(value)
    except (ValueError, OverflowError):
        return False
    return bare is not None and bool(bare.size) and is_map(bare)


def _known(value: Any) -> str | None:
    """Return what a mapping is by its keys, and which command reads it."""
    if not isinstance(value, dict):
        return None
    keys = {str(key) for key in value}
    schema = str(value.get("schema", ""))
    kinds = (
        (TOLD.keys() <= roles_of([*keys]).keys(), ROUTED),
        ({"topology", "flows"} <= keys, "is a set of transfers; run it with `wss flows`"),
        (schema.startswith("wss-"), f"is {schema}, a result of wss; draw it with `wss report`"),
        (keys & {"hash_ids", "input_length", "output_length", "timestamp"}, ARRIVALS),
        (keys & ROUTING or (keys and all(key.isdigit() for key in keys)), ROUTED),
        ("num_hidden_layers" in keys, "is a model's config.json; give it as model"),
    )
    return next((what for is_kind, what in kinds if is_kind), None)
