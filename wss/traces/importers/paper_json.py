"""The paper's data set (core12345/MoE_expert_selection_trace): one JSON file per request.

``<n>.json`` is below ``<org>/<model>/<benchmark>/<subject>/``. A file is a list: element 0 is the prefill, each later
one a decode token. An element maps every layer's index to null (a dense layer) or to a list over tokens of lists of
expert ids. The last decode element may lack its highest layers; that token is dropped, with a remark. Anything else
is an error. File numbers may have gaps, and archives beside the folders are ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.models import MODELS, ModelShape
from wss.reading import read_plain
from wss.traces.importers.scan import read_usual
from wss.traces.importers.source import Read, Source, routing_of
from wss.traces.schema import LARGEST_NUMBER, TraceMeta, repeated

# Folder of a model in the data set -> preset with its number of experts, which the files do not give.
MODEL_FOLDERS = {
    "Qwen3-235B-A22B-FP8": "qwen3_235b",
    "DeepSeek-R1-AWQ": "deepseek_v3",
    "Llama-4-Maverick-17B-128E-Instruct": "llama4_maverick",
    "Kimi-K2-Thinking": "kimi_k2",
}

Element = dict[str, list[list[int]] | None]
MARK = "SYNTHETIC"  # a file beside synthetic requests
SYNTHETIC = "synthetic: as the file SYNTHETIC beside it says"
DROPPED = "last decode tokens dropped, being cut off"
_DECODER = msgspec.json.Decoder(list[Element])


def open_paper_json(path: Path, model: ModelShape | None = None) -> Source:
    """Find the files of *path*: one file, a folder, or a whole tree of one model.

    Parameters
    ----------
    path
        A ``<n>.json``, or a folder with such files at any depth.
    model
        The model that routed; by default the one named by the folder.

    Raises
    ------
    TraceError
        If there is no such file, several models, or an unknown one.
    """
    files = _find(path)
    folders = {_model_folder(file, path) for file in files}
    if len(folders) > 1:
        names = ", ".join(sorted(_name(folder) if folder else "one without a name" for folder in folders))
        raise TraceError(f"{path}: holds several models ({names}); import the folder of one at a time")
    folder = folders.pop()
    if model is None:
        if folder is None or folder.name not in MODEL_FOLDERS:
            found = f"'{_name(folder)}' is not a known model" if folder else "no folder names the model"
            raise TraceError(
                f"{path}: {found}; give --model, or keep the data set's folders: {', '.join(MODEL_FOLDERS)}"
            )
        model = MODELS[MODEL_FOLDERS[folder.name]]
    meta = TraceMeta(
        model=_name(folder) if folder else model.name,
        benchmark=_shared_name(files, folder, 0),
        subject=_shared_name(files, folder, 1),
        moe_layers=model.moe_layers,
        num_layers=model.num_layers,
        num_experts=model.num_experts,
        top_k=model.top_k,
        num_requests=len(files),
        source=SYNTHETIC if _is_made_up(path) else "core12345/MoE_expert_selection_trace (arXiv 2510.05497)",
        note="request = n of <n>.json; prefill rows are those of step 0 as recorded, which may be less than the prompt",
    )
    return Source(files=files, meta=meta, read=partial(read_file, model=model))


def read_file(path: Path, model: ModelShape) -> Read:
    """Read one file.

    Raises
    ------
    TraceError
        If it is invalid; the message names file, step and layer.
    """
    try:
        raw = read_plain(path)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give readable files") from error
    is_moe = np.zeros(model.num_layers, np.bool_)
    is_moe[list(model.moe_layers)] = True
    usual = read_usual(raw, is_moe, model.top_k, model.num_experts)
    if usual is not None:
        return Read([routing_of(int(path.stem), usual[1], usual[0])], [], *_labels(path))
    elements = _elements(path, raw)
    dropped = len(elements) > 1 and _cut_off(elements[-1], model)
    if dropped:
        elements.pop()
    prefill, decode = _routing(path, elements, model)
    routing = routing_of(int(path.stem), len(prefill), np.concatenate([prefill, decode]))
    return Read([routing], [DROPPED] if dropped else [], *_labels(path))


def _is_made_up(path: Path) -> bool:
    """Whether the files were exported from a synthetic trace, by a file at the root of the export."""
    here = Path(os.path.abspath(path))
    return any((folder / MARK).is_file() for folder in (here, *here.parents[:5]))


def _labels(path: Path) -> tuple[str, str]:
    """Return benchmark and subject, as the folders name them; empty if there are no such folders."""
    known = next((folder for folder in path.parents if folder.name in MODEL_FOLDERS), None)
    parts = path.relative_to(known).parts if known is not None else path.parts[-3:] if len(path.parts) > 5 else ()
    return (parts[0], parts[1]) if len(parts) == 3 else ("", "")


def _find(path: Path) -> tuple[Path, ...]:
    if not path.exists():
        raise TraceError(f"{path}: there is no such file or folder; give <n>.json or a folder of them")
    found = [path] if path.is_file() else list(_walk(path))
    numbered = [file for file in found if _is_numbered(file)]
    folders = {file.parent for file in numbered}
    stray = [file for file in found if not _is_numbered(file) and (file.parent in folders or file == path)]
    pipes = [file for file in numbered if not file.is_file()]
    if pipes:
        raise TraceError(*(f"{file}: is not a plain file; move it elsewhere" for file in sorted(pipes)[:20]))
    if stray:
        what = f"is not named <n>.json with n in 0..{LARGEST_NUMBER}; move it elsewhere"
        raise TraceError(*(f"{file}: {what}" for file in sorted(stray)[:20]))
    if not numbered:
        raise TraceError(f"{path}: holds no <n>.json; give a folder of the data set")
    # Not Path.resolve(): a downloaded data set may consist of links to files with other names.
    absolute = [Path(os.path.abspath(file)) for file in numbered]
    return tuple(sorted(absolute, key=lambda file: (file.parent, int(file.stem), file.name)))


def _walk(path: Path) -> Iterator[Path]:
    """Yield the JSON files below *path*; links are followed, hidden folders skipped."""
    seen: set[str] = set()

    def stop(error: OSError) -> None:
        raise TraceError(f"{error.filename}: cannot be listed ({error.strerror}); give readable folders") from error

    for folder, below, names in os.walk(path, onerror=stop, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
        if real not in seen:
            yield from (Path(folder, name) for name in names if name.endswith(".json") and not name.startswith("."))
        seen.add(real)


def _is_numbered(file: Path) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,19}\.json", file.name)) and int(file.stem) <= LARGEST_NUMBER


def _model_folder(file: Path, root: Path) -> Path | None:
    """Return the folder that names the model: a known one, else the third above a file deep enough below *root*."""
    known = next((folder for folder in file.parents if folder.name in MODEL_FOLDERS), None)
    depth = len(file.parts) - len(Path(os.path.abspath(root)).parts)
    return known or (file.parents[2] if depth >= 4 else None)


def _name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _shared_name(files: tuple[Path, ...], folder: Path | None, depth: int) -> str:
    """Return the common name of the files' folders *depth* below the model's folder; ``*`` if there are several."""
    if folder is None:
        return "*"
    names = {parts[depth] for file in files if len(parts := file.relative_to(folder).parts) > depth + 1}
    return names.pop() if len(names) == 1 else "*"


def _elements(path: Path, raw: bytes) -> list[Element]:
    try:
        elements = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TraceError(f"{path}: is not a request of the data set ({reason}); fetch it anew") from error
    if not elements:
        raise TraceError(f"{path}: is an empty list; a request has a prefill element and its decode tokens")
    return elements


def _cut_off(element: Element, model: ModelShape) -> bool:
    """Whether exactly the highest MoE layers of an element are absent or null."""
    there = [element.get(str(layer)) is not None for layer in model.moe_layers]
    return not all(there) and there == sorted(there, reverse=True)


def _routing(
    path: Path, elements: list[Element], model: ModelShape
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return prefill and decode, each [tokens, moe_layers, top_k]; on any doubt, check for errors one by one."""
    keys = [str(layer) for layer in model.moe_layers]
    size = (len(keys), model.top_k)
    try:
        prefill = np.array([elements[0][key] for key in keys], np.int64).transpose(1, 0, 2)
        steps = [[element[key] for key in keys] for element in elements[1:]]
        decode = np.array(steps, np.int64).reshape(len(steps), *size)
        layers = all(len(element) == model.num_layers for element in elements)
        dense = {str(layer) for layer in range(model.num_layers)}.difference(keys)
        layers = layers and all(element.get(key, 0) is None for element in elements for key in dense)
        fits = layers and len(prefill) > 0 and prefill.shape[1:] == size
    except (KeyError, TypeError, ValueError, OverflowError):
        fits = False
    if fits:
        experts = np.concatenate([prefill, decode])
        if experts.min() >= 0 and experts.max() < model.num_experts and not repeated(experts).any():
            return prefill, decode
    fault = next(_faults(elements, model), "is not as it should be")
    raise TraceError(f"{path}: {fault}; fetch it anew, or give the --model that routed")


def _faults(elements: list[Element], model: ModelShape) -> Iterator[str]:
    """Yield the errors in a file, step by step and layer by layer; the readable twin of `_routing`."""
    moe = set(model.moe_layers)
    for step, element in enumerate(elements):
        for layer in range(model.num_layers):
            where = f"step {step}, layer {layer}"
            tokens = element.get(str(layer))
            if str(layer) not in element:
                yield f"{where}: is missing; {model.name} has layers 0..{model.num_layers - 1}"
            elif layer not in moe:
                if tokens is not None:
                    yield f"{where}: routes tokens, but is a dense layer of {model.name} and must be null"
            elif not tokens:
                yield f"{where}: routes no token, but is a MoE layer of {model.name}"
            else:
                first = element.get(str(model.moe_layers[0])) or []
                yield from (
                    f"{where}: {fault}" for fault in _layer_faults(tokens, len(first) if step == 0 else 1, model)
                )
        if extra := set(element) - {str(layer) for layer in range(model.num_layers)}:
            yield f"step {step}: has a layer '{min(extra)}'; {model.name} has layers 0..{model.num_layers - 1}"


def _layer_faults(tokens: list[list[int]], count: int, model: ModelShape) -> Iterator[str]:
    if len(tokens) != count:
        yield f"has {len(tokens)} tokens; it must have {count}"
    for place, ids in enumerate(tokens):
        if len(ids) != model.top_k:
            yield f"token {place} has {len(ids)} experts; {model.name} routes to {model.top_k}"
        for expert in ids:
            if not 0 <= expert < model.num_experts:
                yield f"token {place} has expert {expert}; ids lie in 0..{model.num_experts - 1}"
        if len(set(ids)) != len(ids):
            yield f"token {place} has experts {ids}; they must be distinct"
