"""Importers of routing traces that others recorded.

The paper's data set (core12345/MoE_expert_selection_trace): ``<org>/<model>/<benchmark>/<subject>/<n>.json``, a file a
request. A file is a list; element 0 is the prefill, each later one a decode token. An element maps every layer's number
to null (a dense layer) or to a list over tokens of lists of expert ids. The last decode element may lack its highest
layers; that token is dropped. Anything else out of shape is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from wss.errors import TraceError
from wss.models import MODELS, ModelShape
from wss.traces.schema import RequestRouting, TraceMeta

# The data set's folder of a model -> the preset whose number of experts it has (the files do not say it).
MODEL_FOLDERS = {
    "Qwen3-235B-A22B-FP8": "qwen3_235b",
    "DeepSeek-R1-AWQ": "deepseek_v3",
    "Llama-4-Maverick-17B-128E-Instruct": "llama4_maverick",
    "Kimi-K2-Thinking": "kimi_k2",
}

Element = dict[str, list[list[int]] | None]
_DECODER = msgspec.json.Decoder(list[Element])


@dataclass(frozen=True, kw_only=True)
class JsonSource:
    """Files of the paper's data set, in the order they are read: by folder, then by number."""

    files: tuple[Path, ...]
    meta: TraceMeta

    def requests(self, on_file: Callable[[Path], None] | None = None) -> Iterator[RequestRouting]:
        """Yield a request a file; *on_file* is told of each file that has been read.

        Raises
        ------
        TraceError
            If a file is not as it should be; step and layer are named.
        """
        for path in self.files:
            experts, num_prefill = _read(path, self.meta)
            position = np.arange(len(experts), dtype=np.int32)
            yield RequestRouting(request=int(path.stem), position=position, num_prefill=num_prefill, experts=experts)
            if on_file is not None:
                on_file(path)


def open_paper_json(path: Path, model: ModelShape | None = None) -> JsonSource:
    """Find the files of *path*, a file, a folder or a whole tree of one model, and read the layout off the first.

    Parameters
    ----------
    path
        A ``<n>.json`` or a folder with such files at any depth.
    model
        Which model routed; by default it is told by the folder of the data set.

    Raises
    ------
    TraceError
        If there is no such file, several models, or an unknown one.
    """
    files = _find(path)
    folders = {_model_folder(file) for file in files}
    if model is None:
        if len(folders) > 1:
            names = ", ".join(sorted(str(folder.name) if folder else "an unnamed one" for folder in folders))
            raise TraceError(f"{path}: holds several models ({names}); import the folder of one at a time")
        folder = next(iter(folders))
        if folder is None:
            raise TraceError(
                f"{path}: no folder above the files names a known model ({', '.join(MODEL_FOLDERS)}); give --model"
            )
        model = MODELS[MODEL_FOLDERS[folder.name]]
    folder = next(iter(folders))
    name = f"{folder.parent.name}/{folder.name}" if folder else model.name
    num_layers, moe_layers, top_k = _layout(files[0])
    expected = (model.num_layers, model.moe_layers, model.top_k)
    if (num_layers, moe_layers, top_k) != expected:
        found = f"{num_layers} layers, {len(moe_layers)} of them MoE, top-{top_k}"
        right = f"{model.num_layers}, {len(model.moe_layers)}, top-{model.top_k}"
        raise TraceError(f"{files[0]}: has {found}; {model.name} has {right}: give the right --model")
    return JsonSource(
        files=files,
        meta=TraceMeta(
            model=name,
            benchmark=_shared_name(files, folder, 0),
            subject=_shared_name(files, folder, 1),
            moe_layers=moe_layers,
            num_layers=num_layers,
            num_experts=model.num_experts,
            top_k=top_k,
            num_requests=len(files),
            source="core12345/MoE_expert_selection_trace (arXiv 2510.05497)",
            note="request = n of <n>.json; prefill rows are those of step 0, which need not be the whole prompt",
        ),
    )


def _find(path: Path) -> tuple[Path, ...]:
    if not path.exists():
        raise TraceError(f"{path}: there is no such file or folder; give <n>.json or a folder of them")
    found = [path] if path.is_file() else [file for file in path.rglob("*.json") if file.is_file()]
    stray = [file for file in found if not (file.stem.isdecimal() and file.suffix == ".json")]
    if stray:
        raise TraceError(
            *(f"{file}: is not named <n>.json, n a number; move it elsewhere" for file in sorted(stray)[:20])
        )
    if not found:
        raise TraceError(f"{path}: holds no <n>.json; give a folder of the data set")
    absolute = [file.resolve() for file in found]
    return tuple(sorted(absolute, key=lambda file: (file.parent, int(file.stem))))


def _model_folder(file: Path) -> Path | None:
    return next((folder for folder in file.parents if folder.name in MODEL_FOLDERS), None)


def _shared_name(files: tuple[Path, ...], folder: Path | None, depth: int) -> str:
    """Return the one name of the files' folders *depth* below the model's folder; ``*`` if there are several."""
    if folder is None:
        return "*"
    names = {parts[depth] for file in files if len(parts := file.relative_to(folder).parts) > depth + 1}
    return names.pop() if len(names) == 1 else "*"


def _decode(path: Path) -> list[Element]:
    try:
        elements = _DECODER.decode(path.read_bytes())
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give readable files") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TraceError(
            f"{path}: is not a request of the data set ({' '.join(str(error).split())}); fetch it anew"
        ) from None
    if not elements:
        raise TraceError(f"{path}: is an empty list; a request has a prefill element and its decode tokens")
    return elements


def _layout(path: Path) -> tuple[int, tuple[int, ...], int]:
    """Return the number of layers, the MoE layers and top-k, by the prefill element of *path*."""
    prefill = _decode(path)[0]
    if list(prefill) != [str(layer) for layer in range(len(prefill))]:
        raise TraceError(f"{path}: step 0 does not have the layers 0, 1, 2, ... in order; fetch it anew")
    moe = tuple(layer for layer in range(len(prefill)) if prefill[str(layer)] is not None)
    first = prefill[str(moe[0])] if moe else None
    if not first or not first[0]:
        raise TraceError(f"{path}: step 0 routes no token; a request has at least one prefill token")
    return len(prefill), moe, len(first[0])


def _read(path: Path, meta: TraceMeta) -> tuple[npt.NDArray[np.int16], int]:
    """Return the experts of all tokens, [tokens, moe_layers, top_k], and how many tokens are prefill."""
    elements = _decode(path)
    keys = [str(layer) for layer in meta.moe_layers]
    if len(elements) > 1 and _truncated(elements[-1], keys):
        elements.pop()
    for step, element in enumerate(elements):
        _check_layers(path, step, element, meta)
    prefill = _tokens(path, 0, [[elements[0][key] for key in keys]], None, meta)
    decode = _tokens(path, 1, [[element[key] for key in keys] for element in elements[1:]], 1, meta)
    # [steps, layers, tokens, k] -> [tokens, layers, k]
    experts = np.concatenate([prefill[0].transpose(1, 0, 2), decode[:, :, 0, :]])
    wrong = (experts < 0) | (experts >= meta.num_experts)
    if wrong.any():
        token, layer, _ = np.argwhere(wrong)[0]
        step = max(0, int(token) - prefill.shape[2] + 1)
        bad = int(experts[wrong][0])
        raise TraceError(
            f"{path}: step {step}, layer {meta.moe_layers[layer]}: expert {bad} is not one of 0..{meta.num_experts - 1}"
        )
    return experts.astype(np.int16), prefill.shape[2]


def _truncated(element: Element, keys: list[str]) -> bool:
    """Whether just the highest layers of an element are absent or null."""
    there = [element.get(key) is not None for key in keys]
    return not all(there) and there == sorted(there, reverse=True)


def _check_layers(path: Path, step: int, element: Element, meta: TraceMeta) -> None:
    for layer in range(meta.num_layers):
        value = element.get(str(layer))
        if (value is not None) != (layer in meta.moe_layers):
            wrong = (
                "routes tokens but is a dense layer" if value is not None else "is missing or null but is a MoE layer"
            )
            raise TraceError(f"{path}: step {step}, layer {layer}: {wrong} in the first file; fetch it anew")
    if len(element) > meta.num_layers:
        raise TraceError(f"{path}: step {step}: has {len(element)} layers; the first file has {meta.num_layers}")


def _tokens(
    path: Path, first: int, steps: list[list[list[list[int]] | None]], each: int | None, meta: TraceMeta
) -> npt.NDArray[np.int64]:
    """Return nested lists as an array [steps, layers, tokens, top_k]; *each* is how many tokens a step must have."""
    if not steps:
        return np.zeros((0, len(meta.moe_layers), 1, meta.top_k), np.int64)
    try:
        array = np.array(steps, np.int64)
    except (ValueError, OverflowError):
        array = np.zeros(0, np.int64)
    if array.ndim == 4 and array.shape[2] >= 1 and array.shape[3] == meta.top_k and each in (None, array.shape[2]):
        return array
    for step, layers in enumerate(steps, first):
        want = each if each is not None else len(layers[0] or ())
        for layer, tokens in zip(meta.moe_layers, layers, strict=True):
            if tokens is None or not tokens or len(tokens) != want or any(len(ids) != meta.top_k for ids in tokens):
                raise TraceError(
                    f"{path}: step {step}, layer {layer}: should be {max(want, 1)} tokens of {meta.top_k} experts each"
                )
    raise TraceError(f"{path}: expert ids are not small whole numbers; fetch it anew")
